"""What a process comes to hold, against what it held at first."""

from ensemble.server.growth import Growth


def test_growth_is_the_least_of_the_newest_samples_against_the_first():
    growth = Growth()
    sizes = []
    for held in (50, 90, 70, 80, 60, 100):
        growth.add(held)
        sizes.append(growth.size)
    assert sizes == [0, 0, 0, 20, 10, 10]


def test_less_than_at_first_is_no_growth():
    growth = Growth()
    for held in (50, 20, 10, 30):
        growth.add(held)
    assert growth.size == 0

"""Why a movie is recommended."""

from dashboard.reasons import Reason, reasons

GENRES = {1: ("Drama",), 2: ("Drama", "War"), 3: ("Comedy",), 10: ("War", "Drama", "Comedy"), 11: ("Horror",)}


def test_the_nearest_liked_movies_and_the_genres_they_share():
    near = {10: {1: 0.2, 2: 0.9, 3: 0.5, 99: 1.0}, 11: {1: 0.05}}
    found = reasons([10, 11], [1, 2, 3], near.__getitem__, lambda one: GENRES.get(one, ()))
    assert found == {
        10: Reason(nearest=(2, 3), genres=("Drama", "War", "Comedy"), share=2),
        11: Reason(nearest=(), genres=(), share=0),
    }


def test_of_few_liked_movies_the_neighbours_are_asked_once_each():
    asked = []

    def neighbours(movie_id: int) -> dict[int, float]:
        asked.append(movie_id)
        return {10: 0.3, 11: 0.05} if movie_id == 1 else {10: 0.6}

    found = reasons([10, 11, 12], [1, 2], neighbours, lambda one: GENRES.get(one, ()))
    assert asked == [1, 2]
    assert [found[movie_id].nearest for movie_id in (10, 11, 12)] == [(2, 1), (), ()]


def test_a_genre_of_few_liked_movies_is_no_reason():
    genres = {**dict.fromkeys(range(1, 10), ("Drama",)), 50: ("War",), 60: ("War", "Drama")}
    found = reasons([60], [*range(1, 10), 50], lambda _: {}, lambda one: genres.get(one, ()))
    assert found[60] == Reason((), ("Drama",), 9)


def test_without_liked_movies_nothing_is_asked():
    assert reasons([10], [], lambda _: 1 / 0, lambda one: GENRES[one]) == {10: Reason((), (), 0)}

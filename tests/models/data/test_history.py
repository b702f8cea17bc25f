"""The history that DLRM sees: what the user had rated before, and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.history import NOTHING, WINDOWS, Timeline, later_among, timeline
from models.data.interactions import Interactions, joined
from models.data.load import load_features
from tests.names import DEFAULT_PROTOCOLS
from workflows.features.statistics import PRIOR_RATINGS


def rows(user, movie, later, stars, not_before=None) -> Interactions:
    """Ratings of which each has a second of its own, where `not_before` does not say otherwise."""
    n = len(user)
    columns = {
        "user": (user, torch.int32),
        "movie": (movie, torch.int32),
        "label": (np.ones(n), torch.float32),
        "fold": (np.zeros(n), torch.int8),
        "later": (later, torch.int32),
        "not_before": (later if not_before is None else not_before, torch.int32),
        "stars": (stars, torch.float32),
    }
    return Interactions(**{name: torch.tensor(list(column)).to(kind) for name, (column, kind) in columns.items()})


# User 3 rated movies 7, 5, 6 in this order, user 4 movie 5 alone; in no order of rows.
TRAIN = rows([3, 4, 3, 3], [6, 5, 7, 5], [0, 0, 2, 1], [1, 4, 5, 2])


def test_a_user_s_ratings_lie_in_the_order_of_time():
    line = Timeline.of([TRAIN], users=6, movies=8, length=2)
    assert line.movies.tolist() == [7, 5, 6, 5]
    assert line.starts.tolist() == [0, 0, 0, 0, 3, 4, 4]
    assert line.lengths().tolist() == [0, 0, 0, 3, 1, 0]
    assert line.places(TRAIN).tolist() == [2, 0, 0, 1]


def test_the_last_movies_come_first_and_the_row_itself_is_not_among_them():
    line = Timeline.of([TRAIN], users=6, movies=8, length=2)
    history = line.at(TRAIN.user.long(), line.places(TRAIN).long())
    assert history.movies.tolist() == [[5, 7], [NOTHING, NOTHING], [NOTHING, NOTHING], [7, NOTHING]]


def test_now_is_after_everything():
    now = Timeline.of([TRAIN], users=6, movies=8, length=2).now()
    assert now.movies.tolist()[3:] == [[6, 5], [5, NOTHING], [NOTHING, NOTHING]]
    assert now.movies.shape == now.stars.shape == (6, 2)


def test_stars_and_recent_means_are_above_the_movie_s_mean_shrunk_to_the_global_one():
    line = Timeline.of([TRAIN], users=6, movies=8, length=3)
    mean = 3.0
    means = {
        movie: (sum(stars) + PRIOR_RATINGS * mean) / (len(stars) + PRIOR_RATINGS)
        for movie, stars in {5: [2, 4], 6: [1], 7: [5]}.items()
    }
    above = [5 - means[7], 2 - means[5], 1 - means[6]]
    now = line.now()
    assert now.stars[3].tolist() == pytest.approx(above[::-1], abs=1e-6)
    assert now.recent_means[3].tolist() == pytest.approx(
        [sum(above[-window:]) / (min(window, 3) + 1) for window in WINDOWS], abs=1e-6
    )
    first = line.at(torch.tensor([3]), torch.tensor([0]))
    assert not first.stars.any()
    assert not first.recent_means.any()


# The same ratings, and two of validation and one of test between them: `later` counts all seven.
ALL_TRAIN = rows([3, 4, 3, 3], [6, 5, 7, 5], [1, 0, 5, 3], [1, 4, 5, 2])
VALID = rows([3, 3], [1, 2], [2, 0], [3, 3])
TEST = rows([3, 5], [4, 4], [4, 0], [3, 3])


def test_rows_of_other_splits_stand_where_their_time_puts_them():
    line = Timeline.of([ALL_TRAIN], users=6, movies=8, length=1)
    assert line.movies.tolist() == [7, 5, 6, 5]
    assert line.places(VALID).tolist() == [2, 3]
    assert line.places(TEST).tolist() == [1, 0]
    both = Timeline.of([ALL_TRAIN, VALID], users=6, movies=8, length=1)
    assert both.movies.tolist() == [7, 5, 1, 6, 2, 5]
    assert both.places(ALL_TRAIN).tolist() == [3, 0, 0, 1]
    assert both.places(VALID).tolist() == [2, 4]
    assert both.places(TEST).tolist() == [1, 0]  # what came after the test row is not in its past


def test_later_is_counted_among_the_rows_that_are_there():
    assert later_among(ALL_TRAIN).tolist() == [0, 0, 2, 1]
    both = joined([ALL_TRAIN, VALID])
    assert both.movie.tolist() == [6, 5, 7, 5, 1, 2]
    assert later_among(both).tolist() == [1, 0, 4, 3, 2, 0]
    assert joined([ALL_TRAIN]) is ALL_TRAIN


def test_of_no_ratings_nothing_is_known():
    empty = Timeline.of([rows([], [], [], [])], users=4, movies=5, length=2)
    assert empty.now().movies.tolist() == [[NOTHING, NOTHING]] * 4
    assert torch.isfinite(empty.now().recent_means).all()


# User 3 rated 7 and then, in one second, 5 and 6, and 4 after that.
ONE_SECOND = rows([3] * 4, [7, 5, 6, 4], [3, 2, 1, 0], [1, 2, 3, 4], not_before=[3, 2, 2, 0])


def test_ratings_of_one_second_are_not_before_one_another():
    line = Timeline.of([ONE_SECOND], users=4, movies=8, length=3)
    places = line.places(ONE_SECOND)
    assert places.tolist() == [0, 1, 1, 3]
    assert line.at(ONE_SECOND.user.long(), places.long()).movies.tolist() == [
        [0, 0, 0],
        [7, 0, 0],
        [7, 0, 0],
        [6, 5, 7],
    ]


def test_a_rating_of_the_same_second_in_another_split_is_not_before_either():
    known = rows([3, 3], [7, 5], [3, 2], [1, 2], not_before=[3, 2])
    asked = rows([3, 3], [6, 4], [1, 0], [3, 4], not_before=[2, 0])
    assert Timeline.of([known], users=4, movies=8, length=3).places(asked).tolist() == [1, 2]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 6), seconds=st.integers(1, 30))
def test_a_history_is_what_a_loop_over_the_past_finds(seed, length, seconds):
    rng = np.random.default_rng(seed)
    user = rng.integers(3, 7, 30)
    second, time = np.sort(rng.integers(0, seconds, 30)), np.arange(30)  # in the order of the file
    movie, stars = rng.integers(3, 9, 30), rng.integers(1, 6, 30)
    later = [int(((user == user[i]) & (time > time[i])).sum()) for i in range(30)]
    not_before = [int(((user == user[i]) & (second >= second[i])).sum()) - 1 for i in range(30)]
    order = rng.permutation(30)
    table = rows(*(np.array(column)[order] for column in (user, movie, later, stars, not_before)))
    line = Timeline.of([table], users=8, movies=10, length=length)
    history = line.at(table.user.long(), line.places(table).long())
    user, movie, second, time = (column[order] for column in (user, movie, second, time))
    for i in range(30):
        past = sorted((j for j in range(30) if user[j] == user[i] and second[j] < second[i]), key=lambda j: -time[j])
        expected = [int(movie[j]) for j in past[:length]]
        assert history.movies[i].tolist() == expected + [NOTHING] * (length - len(expected))


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_what_comes_later_changes_no_earlier_history(prepared, protocol):
    """The stars of a row, and everything after it, may be anything: its own history stays the same."""
    features = load_features(prepared, protocol)
    train = features.interactions("train")
    line = timeline(features, ("train",), 4)
    history = line.at(train.user.long(), line.places(train).long())
    cut = train.later >= 5
    earlier = Interactions(**{name: column[cut] for name, column in vars(train).items()})
    line_before = Timeline.of([earlier], features.users, features.movies, 4)
    again = line_before.at(earlier.user.long(), line_before.places(earlier).long())
    assert torch.equal(history.movies[cut], again.movies)


def test_leave_one_out_s_test_comes_after_the_validation_movie(prepared):
    features = load_features(prepared, "leave-one-out")
    valid = features.interactions("valid")
    now = timeline(features, ("train", "valid"), 1).now()
    assert torch.equal(now.movies[valid.user.long(), 0], valid.movie.long())
    assert not torch.equal(timeline(features, ("train",), 1).now().movies, now.movies)

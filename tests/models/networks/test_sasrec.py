"""SASRec: what its states may know, and its reading of a list for serving."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.errors import UserError
from ensemble.export.onnx_files import write_encoder
from models.data.history import NOTHING, History
from models.networks.base import Recommender, build, cut
from models.training.settings import settings_for
from tests.contracts.networks import scores_of_cut, with_wider_scores
from tests.models.sizes import small
from tests.models.synthetic import features_of_rows, rows_at
from workflows.features.vocabulary import FIRST_INDEX, OUT_OF_VOCABULARY

USERS, MOVIES = 7, 60
OUT = 3  # movies without an embedding of their own


def made(length: int, seed: int = 1) -> Recommender:
    """Untrained, with scores that differ. User 3 has rated four movies, user 4 one that shares a row; no one else."""
    rows = rows_at([(3, 9, 1), (3, 12, 2), (3, MOVIES - 1, 3), (3, 7, 4), (4, MOVIES - OUT, 1)])
    features = replace(features_of_rows(rows, USERS, MOVIES, "leave-one-out"), movie_embeddings=MOVIES - OUT)
    return with_wider_scores(build("sasrec", features, small("sasrec", history=length), seed))


def history_of(lists: list[list[int]], length: int) -> History:
    """Histories of movies, the latest last, as many of the last as the network sees."""
    movies = torch.full((len(lists), length), NOTHING)
    for row, one in enumerate(lists):
        last = torch.tensor(one[-length:][::-1], dtype=torch.int64)
        movies[row, : len(last)] = last
    return History(movies, torch.zeros(len(lists), length), torch.zeros(len(lists), 4))


@torch.no_grad()
def states(model: Recommender, lists: list[list[int]]) -> list[Tensor]:
    """What is known after each movie of each list, float [its length, dim]."""
    width = max(map(len, lists))
    codes = torch.tensor([one + [NOTHING] * (width - len(one)) for one in lists])
    lengths = torch.tensor([len(one) for one in lists])
    found = model.network.states(model.movie_rows(codes), lengths)
    return [rows[: len(one)] for rows, one in zip(found, lists)]


movies = st.integers(FIRST_INDEX, MOVIES - 1)


@settings(max_examples=25, deadline=None)
@given(one=st.lists(movies, min_size=2, max_size=6, unique=True), data=st.data())
def test_a_state_depends_on_nothing_later(one, data):
    model = made(6)
    place = data.draw(st.integers(1, len(one) - 1))
    other = one[:place] + data.draw(st.lists(movies, min_size=len(one) - place, max_size=len(one) - place))
    before, after = states(model, [one])[0], states(model, [other])[0]
    torch.testing.assert_close(before[:place], after[:place], atol=1e-6, rtol=0)
    if model.movie_rows(torch.tensor(one[place])) != model.movie_rows(torch.tensor(other[place])):
        assert (before[place] - after[place]).abs().max() > 1e-4


def test_who_stands_beside_a_user_in_a_batch_changes_nothing():
    """Rows of other lengths and what is padded."""
    model = made(6, seed=2)
    lists = [[5], [9, 4, 8, 3, 7, 6], [11, 12, 13]]
    for one, together in zip(lists, states(model, lists), strict=True):
        torch.testing.assert_close(states(model, [one])[0], together, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 4, 6])
def test_what_is_known_after_everything_is_the_last_state(length):
    model = made(6)
    lists = [list(range(5, 5 + length)), [3], list(range(20, 14, -1))]
    found = model.network.after(model.movie_rows(history_of(lists, 6).movies))
    expected = torch.stack([rows[-1] for rows in states(model, lists)])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert expected.std() > 0.1


@torch.no_grad()
def test_the_last_movies_count_in_their_order():
    model = made(3)
    of = lambda one: model.network.after(history_of([one], 3).movies)  # noqa: E731
    assert torch.equal(of([9, 5, 6, 7]), of([4, 8, 5, 6, 7]))
    assert not torch.allclose(of([5, 6, 7]), of([6, 5, 7]))


@torch.no_grad()
def test_without_a_history_the_score_is_the_movie_s_bias():
    model = made(5)
    movie = torch.arange(MOVIES)
    found = model(torch.full_like(movie, 5), movie)
    torch.testing.assert_close(found, model.network.table.table.weight[model.movie_rows(movie), -1] + model.offset)
    assert torch.equal(found, model(torch.full_like(movie, 6), movie))  # who it is says nothing
    assert not torch.allclose(found, model(torch.full_like(movie, 3), movie))


@torch.no_grad()
def test_no_users_have_no_states():
    assert made(5).network.after(torch.empty(0, 5, dtype=torch.int64)).shape == (0, 8)


# -- a list for serving ------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 49, 50, 51, 200])
def test_a_list_is_read_as_the_history_of_a_user(length):
    """Movies that share a row among them, and more than the network sees."""
    model = made(50)
    listed = np.random.default_rng(length).integers(FIRST_INDEX, MOVIES, length)
    listed[0] = MOVIES - 1
    parts = cut(model, USERS, MOVIES)
    row = parts.encoder(torch.from_numpy(listed)[None])
    expected = model.network.after(model.movie_rows(history_of([listed.tolist()], 50).movies))
    assert row.shape == (1, parts.users.shape[1])
    torch.testing.assert_close(row[:, :-1], expected, atol=1e-5, rtol=0)
    assert float(row[0, -1]) == 0.0
    person, movie = torch.full((MOVIES,), OUT_OF_VOCABULARY), torch.arange(MOVIES)
    then = model.as_of(torch.tensor([OUT_OF_VOCABULARY]), history_of([listed.tolist()], 50))
    parts.users[OUT_OF_VOCABULARY] = row.numpy()
    found = scores_of_cut(parts, person, movie)
    torch.testing.assert_close(found, torch.sigmoid(then(person, movie)), atol=1e-5, rtol=0)
    assert found.std() > 1e-3


@torch.no_grad()
def test_the_list_of_what_a_user_has_rated_gives_their_own_row():
    model = made(5)
    parts = cut(model, USERS, MOVIES)
    latest_first = [movie for movie in model.now_movies[3].tolist() if movie != NOTHING]
    assert len(latest_first) == 4
    row = parts.encoder(torch.tensor([latest_first[::-1]]))
    np.testing.assert_allclose(row[0].numpy(), parts.users[3], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("history", [1, 50, 200])
def test_onnx_reads_lists_of_any_length_as_the_network_does(tmp_path: Path, history):
    encoder = cut(made(history), USERS, MOVIES).encoder
    write_encoder(encoder, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    for length in (1, 2, 3, 50, 199, 200, 201, 1000):
        listed = np.random.default_rng(length).integers(FIRST_INDEX, MOVIES, (1, length))
        (found,) = session.run(None, {"movies": listed})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, encoder(torch.from_numpy(listed)).numpy(), atol=1e-5, rtol=0)
        assert found.std() > 0.1


def test_writing_the_list_s_reader_leaves_the_network_as_it_was(tmp_path: Path):
    model = made(5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    write_encoder(cut(model, USERS, MOVIES).encoder, tmp_path / "encoder.onnx")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.network.training


@torch.no_grad()
def test_a_traced_network_scores_any_number_of_pairs():
    """As Merlin Systems serves it: nothing of the example's lengths is kept."""
    model = made(6)
    example = torch.full((2,), OUT_OF_VOCABULARY)
    traced = torch.jit.trace(model, (example, example), check_trace=False)
    for count in (1, 2, 7, MOVIES):
        user, movie = torch.arange(count) % USERS, torch.arange(count) % MOVIES
        torch.testing.assert_close(traced(user, movie), model(user, movie), atol=1e-6, rtol=0)


def test_heads_that_do_not_divide_the_dimension_are_refused_in_one_line():
    with pytest.raises(UserError, match="network: dim is 64; it must be a multiple of heads, which is 3"):
        settings_for("leave-one-out", "sasrec", network={"dim": 64, "heads": 3})

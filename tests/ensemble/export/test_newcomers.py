"""Rows for people who were not in training, from the movies that they list."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.columns import HISTORY, HISTORY_STARS
from ensemble.export import newcomers as source
from ensemble.export.newcomers import fit_newcomers
from ensemble.triton_models.history import history_features, newcomer_row
from models.cut import Cut, Head, HistoryInputs
from models.data.features import Features
from models.data.history import WINDOWS, History
from models.data.interactions import Interactions
from models.data.load import load_features
from models.networks.base import Recommender, build, cut, in_vocabulary
from models.networks.dlrm import DLRMSettings
from models.training.loop import fit
from models.training.settings import settings_for
from tests.names import COMPARED
from workflows.features.statistics import PRIOR_RATINGS
from workflows.features.vocabulary import FIRST_INDEX
from workflows.splits.base import LIKED_ABOVE


@pytest.fixture(scope="module")
def features(prepared) -> Features:
    return load_features(prepared, "leave-one-out")


# -- features of a history ---------------------------------------------------------------------------------------------


def test_a_history_is_its_mean_and_its_length():
    vectors = np.array([[9, 9], [1, 0], [3, 4], [2, 5]], np.float32)
    found = history_features(vectors, np.array([1, 2, 3, 1]))
    total = np.array([1 + 3 + 2 + 1, 0 + 4 + 5 + 0])
    np.testing.assert_allclose(found, [*(total / 4), *(total / 2), np.log(5), 1], rtol=1e-6)
    assert found.dtype == np.float32


# -- synthetic users whose map is known ------------------------------------------------------------------------------


def synthetic(count: int, movies: int, dims: int, seed: int) -> tuple[Interactions, np.ndarray]:
    """Ratings of so many people, who liked some movies once or more, and the movies' embeddings."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(FIRST_INDEX, FIRST_INDEX + count), 12)
    movie = np.concatenate([rng.choice(np.arange(FIRST_INDEX, movies), 12, replace=False) for _ in range(count)])
    stars = rng.choice([1.0, 2.5, 4.0, 5.0], len(user))
    stars[::12] = 5  # everyone likes something
    later = np.tile(np.arange(12)[::-1], count)
    rows = Interactions(
        user=torch.tensor(user, dtype=torch.int32),
        movie=torch.tensor(movie, dtype=torch.int32),
        label=torch.ones(len(user)),
        fold=torch.zeros(len(user), dtype=torch.int8),
        later=torch.tensor(later, dtype=torch.int32),
        not_before=torch.tensor(later, dtype=torch.int32),
        stars=torch.tensor(stars, dtype=torch.float32),
    )
    return rows, rng.normal(size=(movies, dims)).astype(np.float32)


def synthetic_features(rows: Interactions, movies: int) -> SimpleNamespace:
    users = int(rows.user.max()) + 1
    return SimpleNamespace(interactions=lambda part: rows, users=users, movies=movies, user_embeddings=users)


def cut_with(users: np.ndarray, embeddings: np.ndarray, history: HistoryInputs | None = None) -> Cut:
    return Cut(
        users=users.astype(np.float32),
        vectors=embeddings,
        hidden=embeddings,
        head=Head(),
        embeddings=embeddings,
        history=history,
    )


def test_a_map_that_is_there_is_found():
    """Everyone likes one movie, so all pieces of a history are alike, and rows are made from them by a known map."""
    movies, dims, width = 40, 3, 5
    rows, embeddings = synthetic(60, movies, dims, seed=1)
    stars = torch.full_like(rows.stars, 1.0)
    stars[::12] = 5.0
    rows = replace(rows, stars=stars)
    rng = np.random.default_rng(2)
    true = rng.normal(size=(2 * dims + 2, width))
    one_liked = {int(user): int(movie) for user, movie in zip(rows.user[::12], rows.movie[::12])}
    users = np.zeros((FIRST_INDEX + 60, width))
    for user, movie in one_liked.items():
        users[user] = history_features(embeddings, np.array([movie])) @ true
    found = fit_newcomers(
        cut_with(users, embeddings), SimpleNamespace(), synthetic_features(rows, movies), ("train",), seed=0
    )
    assert found["map"].shape == true.shape
    assert found["map"].dtype == np.float32
    for movie in one_liked.values():
        row = newcomer_row(found, np.array([movie]))
        assert (row.shape, row.dtype) == ((1, width), np.float32)
        np.testing.assert_allclose(row[0], history_features(embeddings, np.array([movie])) @ true, atol=0.02)
    worst = np.abs(users[FIRST_INDEX:]).mean()
    assert worst > 0.5  # what a map of nothing but zeros would be away


def test_the_recent_means_of_known_users_are_taken_out_of_what_the_map_learns():
    """Rows are the map's, with large recent means added to the last columns; the map that is found has none of them."""
    movies, dims, width, windows = 40, 3, 5, 4
    rows, embeddings = synthetic(60, movies, dims, seed=1)
    rng = np.random.default_rng(2)
    true = rng.normal(size=(2 * dims + 2, width))
    stars = torch.full_like(rows.stars, 1.0)
    stars[::12] = 5.0
    rows = replace(rows, stars=stars)
    recent_means = torch.from_numpy(10 * rng.normal(size=(FIRST_INDEX + 60, windows)).astype(np.float32))
    weights = rng.normal(size=(windows, 2)).astype(np.float32)
    users = np.zeros((FIRST_INDEX + 60, width))
    for user, movie in zip(rows.user[::12].tolist(), rows.movie[::12].tolist()):
        users[user] = history_features(embeddings, np.array([movie])) @ true
    users[:, -2:] += recent_means.numpy() @ weights
    before = users.astype(np.float32)
    inputs = HistoryInputs(
        movies=embeddings,
        position=np.zeros((2, 3), np.float32),
        history_columns=slice(0, 3),
        recent_columns=slice(width - 2, width),
        recent_weights=weights,
    )
    parts = cut_with(users, embeddings, inputs)
    model = SimpleNamespace(now=lambda people: History(people, people, recent_means[people]))
    found = fit_newcomers(parts, model, synthetic_features(rows, movies), ("train",), seed=0)
    for movie in set(rows.movie[::12].tolist()):
        features = history_features(embeddings, np.array([movie]))
        np.testing.assert_allclose(features @ found["map"], features @ true, atol=0.02)
    np.testing.assert_array_equal(parts.users, before)


def test_the_same_seed_finds_the_same_map_and_the_global_generator_is_left_alone():
    rows, embeddings = synthetic(30, 40, 3, seed=3)
    users = np.random.default_rng(4).normal(size=(FIRST_INDEX + 30, 4))

    def fit(seed: int) -> np.ndarray:
        return fit_newcomers(
            cut_with(users, embeddings), SimpleNamespace(), synthetic_features(rows, 40), ("train",), seed
        )["map"]

    before = torch.random.get_rng_state()
    np.testing.assert_array_equal(fit(5), fit(5))
    assert not np.allclose(fit(5), fit(6))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_only_what_people_liked_is_looked_at():
    """Ratings that are not likes, of movies with absurd embeddings, change nothing."""
    rows, embeddings = synthetic(30, 40, 3, seed=3)
    users = np.random.default_rng(4).normal(size=(FIRST_INDEX + 30, 4))
    disliked = ~np.isin(np.arange(40), rows.movie.numpy()[rows.stars.numpy() > LIKED_ABOVE])
    stars = rows.stars.clone()
    stars[torch.isin(rows.movie, torch.tensor([5, 6]))] = 1.0
    rows = replace(rows, stars=stars)
    absurd = embeddings.copy()
    absurd[[5, 6]] = 1e6
    absurd[disliked] = 1e6
    maps = [
        fit_newcomers(cut_with(users, table), SimpleNamespace(), synthetic_features(rows, 40), ("train",), 0)["map"]
        for table in (embeddings, absurd)
    ]
    np.testing.assert_array_equal(*maps)


def test_who_is_out_of_vocabulary_is_not_learned_from():
    rows, embeddings = synthetic(30, 40, 3, seed=3)
    users = np.random.default_rng(4).normal(size=(FIRST_INDEX + 30, 4))
    fewer = synthetic_features(rows, 40)
    fewer.user_embeddings -= 10
    absurd = users.copy()
    absurd[fewer.user_embeddings :] = 1e6
    maps = [
        fit_newcomers(cut_with(table, embeddings), SimpleNamespace(), fewer, ("train",), 0)["map"]
        for table in (users, absurd)
    ]
    np.testing.assert_array_equal(*maps)


def test_the_penalty_that_is_best_for_others_is_taken(monkeypatch):
    """Rows without any relation to histories: the less of a map, the better."""
    rows, embeddings = synthetic(40, 40, 6, seed=3)
    noise = np.random.default_rng(4).normal(size=(FIRST_INDEX + 40, 4))
    arguments = SimpleNamespace(), synthetic_features(rows, 40), ("train",), 0
    found = fit_newcomers(cut_with(noise, embeddings), *arguments)["map"]
    alone = {}
    for penalty in source.PENALTIES:
        monkeypatch.setattr(source, "PENALTIES", (penalty,))
        alone[penalty] = fit_newcomers(cut_with(noise, embeddings), *arguments)["map"]
    np.testing.assert_array_equal(found, alone[100.0])
    assert np.abs(alone[0.1]).sum() > 2 * np.abs(found).sum()


def test_without_any_likes_the_map_is_zero():
    rows, embeddings = synthetic(10, 40, 3, seed=3)
    rows = replace(rows, stars=torch.ones_like(rows.stars))
    users = np.random.default_rng(4).normal(size=(FIRST_INDEX + 10, 4))
    found = fit_newcomers(cut_with(users, embeddings), SimpleNamespace(), synthetic_features(rows, 40), ("train",), 0)
    assert found["map"].shape == (8, 4)
    assert not found["map"].any()


@pytest.mark.parametrize("people", [1, 2])
def test_very_few_people_are_enough(people):
    rows, embeddings = synthetic(people, 40, 3, seed=3)
    users = np.random.default_rng(4).normal(size=(FIRST_INDEX + people, 4))
    found = fit_newcomers(cut_with(users, embeddings), SimpleNamespace(), synthetic_features(rows, 40), ("train",), 0)
    assert np.isfinite(found["map"]).all()


# -- the history -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_history(features) -> tuple:
    """An untrained DLRM that sees histories, its cut, and what newcomers need."""
    sizes = DLRMSettings(dim=6, bottom=(7,), top=(8,), init_std=0.5, history=5)
    model = build("dlrm", features, sizes, seed=1, known=("train", "valid")).eval()
    with torch.no_grad():
        position = model.network.values[0].values[0].position
        position.add_(0.3 * torch.randn(position.shape, generator=torch.Generator().manual_seed(0)))
    parts = cut(model, features.users, features.movies)
    return model, parts, fit_newcomers(parts, model, features, ("train", "valid"), seed=0)


def test_how_much_a_listed_movie_is_liked_is_what_others_who_liked_one_gave_above_its_mean(features, with_history):
    """By hand: stars minus the movie's mean, shrunk to the global one, over the ratings that were likes."""
    parts = [features.interactions(part) for part in ("train", "valid")]
    movie = np.concatenate([part.movie.numpy() for part in parts])
    stars = np.concatenate([part.stars.numpy() for part in parts]).astype(np.float64)
    above = []
    for one, given in zip(movie, stars):
        if given > LIKED_ABOVE:
            of_movie = stars[movie == one]
            above.append(given - (of_movie.sum() + PRIOR_RATINGS * stars.mean()) / (len(of_movie) + PRIOR_RATINGS))
    assert with_history[2]["above"] == pytest.approx(np.mean(above), abs=1e-5)
    assert with_history[2]["above"] > 0


@pytest.mark.parametrize("length", [1, 2, 5, 6, 40])
def test_a_listed_history_enters_the_row_as_the_network_pools_it(features, with_history, length):
    """Movies out of vocabulary among them, and more than the network looks back at."""
    model, parts, newcomers = with_history
    history = np.random.default_rng(length).choice(np.arange(FIRST_INDEX, features.movies), length, replace=False)
    history[0] = features.movies - 1
    above = float(newcomers["above"])
    latest = torch.zeros(1, 5, dtype=torch.int64)
    stars = torch.zeros(1, 5)
    for place, movie in enumerate(history[::-1][:5].tolist()):
        latest[0, place], stars[0, place] = movie, above
    codes = model.codes(torch.tensor([2]), torch.tensor([2]))
    codes |= {HISTORY: in_vocabulary(latest, model.movie_embeddings), HISTORY_STARS: stars}
    codes["continuous"] = torch.zeros(1, model.movie_features.shape[1] + 3 + 3 + len(WINDOWS))
    with torch.no_grad():
        vectors = model.network.values[0].values[0](codes)
    row = newcomer_row(newcomers, history)
    expected = torch.cat([vectors[HISTORY], vectors[HISTORY_STARS]], dim=1).numpy()
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(row[:, parts.history.history_columns], expected, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 9, 10, 29, 31])
def test_the_recent_means_of_a_listed_history_are_those_of_likes_alone(features, with_history, length):
    """The rest of the row is the map's; the last columns have the mean of so many likes, shrunk as in training, too."""
    _, parts, newcomers = with_history
    history = np.arange(FIRST_INDEX, FIRST_INDEX + length)
    plain = history_features(newcomers["vectors"], history) @ newcomers["map"]
    width = newcomers["recent_weights"].shape[1]
    above = float(newcomers["above"])
    recent_means = [sum([above] * min(window, length)) / (min(window, length) + 1) for window in WINDOWS]
    row = newcomer_row(newcomers, history)[0]
    np.testing.assert_allclose(row[-width:] - plain[-width:], recent_means @ newcomers["recent_weights"], atol=1e-5)
    start, stop = parts.history.history_columns.start, parts.history.history_columns.stop
    np.testing.assert_allclose(row[:start], plain[:start], atol=1e-6)
    assert stop == len(row) - width
    assert newcomers["history_columns"].tolist() == [start, stop]
    assert newcomers["recent_columns"].tolist() == [stop, len(row)]


def test_the_score_of_a_newcomer_is_the_network_s_for_such_a_row(features, with_history):
    """The whole network, given the row's history and recent means, agrees with the head on the row."""
    model, parts, newcomers = with_history
    history = np.array([5, 30, 7, 60, 90, 11])
    row = newcomer_row(newcomers, history)
    above = float(newcomers["above"])
    recent_means = torch.tensor([[above * min(window, 6) / (min(window, 6) + 1) for window in WINDOWS]])
    last = torch.from_numpy(history[::-1][:5].copy())[None], torch.full((1, 5), above), recent_means
    movie = torch.arange(features.movies)
    with torch.no_grad():
        # Their embedding and statistics are the map's: put into the tables in the place of user 2's.
        dim, width = parts.vectors.shape[1], newcomers["recent_weights"].shape[1]
        plain = history_features(newcomers["vectors"], history) @ newcomers["map"]
        tables = dict(model.embedding_tables())
        kept = tables["user_id"].weight[2].clone(), model.user_statistics.clone()
        first = next(m for m in model.network.modules() if isinstance(m, torch.nn.Linear))
        on_statistics = first.weight[:, -len(WINDOWS) - 3 : -len(WINDOWS)]
        tables["user_id"].weight[2] = torch.from_numpy(plain[:dim])
        model.user_statistics[:, 2] = 0
        bias = first.bias.clone()
        first.bias += torch.from_numpy(plain[-width:])
        histories = History(*(values.expand(len(movie), -1) for values in last))
        expected = torch.sigmoid(model(torch.full_like(movie, 2), movie, None, histories)).numpy()
        first.bias.copy_(bias)
        tables["user_id"].weight[2] = kept[0]
        model.user_statistics.copy_(kept[1])
        head = parts.head.for_one_user()
        found = head(torch.from_numpy(row), torch.from_numpy(parts.vectors), torch.from_numpy(parts.hidden)).numpy()
    assert on_statistics.shape[1] == 3
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-6)


# -- does it help? -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=COMPARED)
def trained_model(request, features) -> Recommender:
    """A few more epochs than the session's models have, on the training split; with negatives of each positive's own,
    from which so few ratings teach more."""
    settings = settings_for("leave-one-out", request.param, epochs=8, batch_size=256, refit=False)
    network = replace(settings.network, init_std=0.1, dropout=0.0)
    settings = replace(settings, network=network, recency=0.0, l2=0.0, averaging=0.0, learning_rate=0.01)
    settings = replace(settings, shared_negatives=0, schedule="constant")
    model = build(request.param, features, network, seed=0)
    fit(model, features, settings, torch.device("cpu"))
    return model.eval()


def test_the_next_movies_of_newcomers_rank_higher_than_by_popularity(features, trained_model):
    """The map is fitted on half of the users. The others come as newcomers, with what they liked in training; where do
    the two that they watched next stand among the movies that they have not rated by then?
    """
    half = (FIRST_INDEX + features.user_embeddings) // 2
    parts = cut(trained_model, features.users, features.movies)
    newcomers = fit_newcomers(parts, trained_model, replace(features, user_embeddings=half), ("train",), seed=0)
    head, rows = parts.head.for_one_user(), (torch.from_numpy(parts.vectors), torch.from_numpy(parts.hidden))
    train = features.interactions("train")
    popularity = np.bincount(train.movie.numpy(), minlength=features.movies)
    place: dict[str, list[float]] = {"newcomer": [], "popularity": [], "someone else": []}
    histories = {}
    for user in range(half, features.user_embeddings):
        mine = train.user.numpy() == user
        order = np.argsort(-train.later.numpy()[mine])
        seen, stars = train.movie.numpy()[mine][order].astype(np.int64), train.stars.numpy()[mine][order]
        histories[user] = seen, seen[stars > LIKED_ABOVE]
    for part in ("valid", "test"):
        rows_of_part = features.interactions(part)
        for user, movie in zip(rows_of_part.user.tolist(), rows_of_part.movie.tolist()):
            if user not in histories:
                continue
            seen, liked = histories[user]
            _, other = histories[user + 1 if user + 1 in histories else half]
            left = np.setdiff1d(features.catalogue, [*seen, movie])
            for who, history in (("newcomer", liked), ("someone else", other), ("popularity", None)):
                scores = popularity
                if history is not None:
                    with torch.no_grad():
                        scores = head(torch.from_numpy(newcomer_row(newcomers, history)), *rows).numpy()
                below = (scores[left] < scores[movie]).mean()
                place[who].append(float(below + (scores[left] == scores[movie]).mean() / 2))
    mean = {who: float(np.mean(places)) for who, places in place.items()}
    assert len(place["newcomer"]) == 60
    assert mean["newcomer"] > mean["popularity"] + 0.1
    assert mean["newcomer"] > mean["someone else"] + 0.05

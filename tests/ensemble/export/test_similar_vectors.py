"""What `similar` compares movies by: half learned, half genres and year."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ensemble.export.similar_vectors import similar_vectors
from models.cut import Cut
from models.data.features import Features
from models.data.load import load_features
from models.networks.base import cut
from models.training.train import load
from tests.names import COMPARED
from workflows.features.side_features.base import SIDE_FEATURES, MovieFeature

PROTOCOL = "leave-one-out"


@pytest.mark.parametrize("name", COMPARED)
def test_a_movie_s_vector_is_half_learned_and_half_its_genres_and_year(exported, name):
    """Row by row by hand."""
    features = load_features(exported, PROTOCOL)
    model, _ = load(exported, features, name, torch.device("cpu"))
    parts = cut(model, features.users, features.movies)
    before = parts.embeddings.copy()
    found = similar_vectors(parts, features)
    assert (found.shape, found.dtype) == (
        (120, parts.embeddings.shape[1] + features.side.movie_features.shape[1]),
        "f4",
    )
    mean = before[3:121].mean(axis=0)
    for place in range(120):
        about = features.side.movie_features[3 + place].numpy().astype(np.float64)
        length = np.linalg.norm(about[:-1])
        content = np.append(about[:-1] / (length if length else 1), 0.3 * about[-1])
        content /= np.linalg.norm(content)
        learned = before[3 + place] - mean
        learned = learned / np.linalg.norm(learned) if place < 118 else 0 * learned  # two movies have no rating
        whole = np.concatenate([0.5**0.5 * learned, 0.5**0.5 * content])
        np.testing.assert_allclose(found[place], whole / np.linalg.norm(whole), atol=1e-5)
    np.testing.assert_array_equal(parts.embeddings, before)


# -- features are found by name ----------------------------------------------------------------------------------------


class Runtime(MovieFeature):
    """A feature of two columns that `similar` leaves out: its weight is 0."""

    source = ("runtime",)

    def graph(self, movies: pd.DataFrame, scratch: Path) -> Any:
        raise NotImplementedError

    def values(self, result: pd.DataFrame, scratch: Path) -> pd.DataFrame:
        raise NotImplementedError


@pytest.fixture
def runtime() -> Iterator[str]:
    """The name of the further feature, registered for one test."""
    SIDE_FEATURES.add("runtime", Runtime(), position=30)
    yield "runtime"
    SIDE_FEATURES.remove("runtime")


@pytest.fixture(scope="module")
def parts_and_features(trained) -> tuple[Cut, Features]:
    features = load_features(trained, PROTOCOL)
    model, _ = load(trained, features, "dlrm", torch.device("cpu"))
    return cut(model, features.users, features.movies), features


def with_columns(features: Features, order: list[str], more: dict[str, torch.Tensor]) -> Features:
    """The features with the movie features in this order; `more` are those that the run does not have."""
    tables, start = dict(more), 0
    for name, columns in features.side.movie_columns.items():
        tables[name] = features.side.movie_features[:, start : start + len(columns)]
        start += len(columns)
    columns = {name: features.side.movie_columns.get(name, [f"{name} 1", f"{name} 2"]) for name in order}
    movie_features = torch.cat([tables[name] for name in order], dim=1)
    return replace(features, side=replace(features.side, movie_features=movie_features, movie_columns=columns))


@pytest.mark.parametrize(
    "order", [["genres", "year", "runtime"], ["genres", "runtime", "year"], ["runtime", "genres", "year"]]
)
def test_a_feature_without_a_weight_changes_nothing(parts_and_features, runtime, order):
    parts, features = parts_and_features
    values = 100 * torch.rand(features.movies, 2, generator=torch.Generator().manual_seed(0))
    found = similar_vectors(parts, with_columns(features, order, {runtime: values}))
    np.testing.assert_array_equal(found, similar_vectors(parts, features))


def test_a_feature_with_a_weight_counts(parts_and_features, runtime, monkeypatch):
    """So that the test above would fail if the further feature were read."""
    parts, features = parts_and_features
    monkeypatch.setattr(SIDE_FEATURES[runtime], "weight", 0.5, raising=False)
    values = torch.rand(features.movies, 2, generator=torch.Generator().manual_seed(0))
    plain, found = (
        similar_vectors(parts, one)
        for one in (features, with_columns(features, ["genres", "year", runtime], {runtime: values}))
    )
    assert found.shape == (plain.shape[0], plain.shape[1] + 2)
    assert np.abs(found @ found.T - plain @ plain.T).max() > 1e-2


def test_the_order_of_the_columns_does_not_change_similarities(parts_and_features):
    parts, features = parts_and_features
    other = with_columns(features, ["year", "genres"], {})
    assert not torch.equal(other.side.movie_features, features.side.movie_features)
    one, two = similar_vectors(parts, features), similar_vectors(parts, other)
    np.testing.assert_allclose(two @ two.T, one @ one.T, atol=1e-6)

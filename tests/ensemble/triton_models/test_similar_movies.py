"""Similar movies."""

import numpy as np
import pandas as pd
import pytest

from ensemble.triton_models.limits import BadRequest
from tests.ensemble.triton_models.conftest import (
    MOVIES,
    NEVER_RATED,
    UNKNOWN,
    catalogue,
    folder_of,
    same,
)


def test_similar_movies_are_sorted_by_the_cosine_of_their_vectors(served, similar):
    ids = catalogue(served)
    vectors = np.load(folder_of(served, "similar") / "similar.npy").astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    cosines = vectors @ vectors.T / np.outer(lengths, lengths)
    place = {movie: i for i, movie in enumerate(ids.tolist())}
    for movie in ids.tolist():
        for k in (1, 10, 1000):
            movies, found = similar.similar(movie, k)
            assert len(set(movies.tolist())) == len(movies) == min(k, MOVIES - 1)
            assert movie not in movies
            assert (np.diff(found) <= 0).all()
            assert (movies.dtype, found.dtype) == (np.int64, np.float32)
            expected = np.sort(np.delete(cosines[place[movie]], place[movie]))[::-1][:k]
            np.testing.assert_allclose(found, expected, atol=1e-6)
            there = [place[other] for other in movies.tolist()]
            np.testing.assert_allclose(found, cosines[place[movie], there], atol=1e-6)


def test_without_k_there_are_ten_similar_ones(similar):
    same(similar.similar(50), similar.similar(50, 10))


@pytest.mark.parametrize("movie", UNKNOWN)
def test_an_unknown_movie_is_refused(similar, movie):
    with pytest.raises(BadRequest, match=f"movie {movie} is not in the data"):
        similar.similar(movie)


@pytest.mark.parametrize("movie", NEVER_RATED)
def test_a_movie_without_ratings_is_answered_by_its_genres_and_year(served, similar, movie):
    """Against rated movies half of whose vector is learned, and the other one without ratings."""
    about = pd.read_parquet(served.features / "leave-one-out" / "side" / "movie_features.parquet")
    about = about.drop(columns="movie_index").to_numpy()[3:]
    genres, year = about[:, :-1], about[:, -1:]
    content = np.hstack([genres / np.maximum(np.linalg.norm(genres, axis=1, keepdims=True), 1e-9), 0.3 * year])
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    ids = catalogue(served)
    (own,) = np.flatnonzero(ids == movie)
    expected = content @ content[own] * np.where(np.isin(ids, NEVER_RATED), 1, 0.5**0.5)
    movies, found = similar.similar(movie, 1000)
    by_id = dict(zip(ids.tolist(), expected.tolist()))
    np.testing.assert_allclose(found, [by_id[other] for other in movies.tolist()], atol=1e-5)

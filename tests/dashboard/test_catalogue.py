"""The page's catalogue: movies by title, genre and year, and what a user has rated."""

import pandas as pd
import pytest

from dashboard.catalogue import BY_TITLE, NEWEST, Catalogue, liked

MOVIES = [
    (1, "Amélie", 2001, ["Comedy", "Romance"]),
    (2, "Matrix, The", 1999, ["Action", "Sci-Fi"]),
    (3, "Matrix Reloaded, The", 2003, ["Action", "Sci-Fi"]),
    (4, "Untitled", 0, ["(no genres listed)"]),
    (5, "A.* (b)", 1950, ["Drama"]),
]
RATINGS = [(7, 2, 5.0, 30), (7, 3, 3.0, 10), (7, 1, 3.5, 20), (9, 2, 1.0, 5), (9, 4, 4.0, 6)]


@pytest.fixture
def catalogue(tmp_path) -> Catalogue:
    pd.DataFrame(MOVIES, columns=["movieId", "title", "year", "genres"]).astype(
        {"movieId": "int32", "year": "int16"}
    ).to_parquet(tmp_path / "movies.parquet")
    pd.DataFrame(RATINGS, columns=["userId", "movieId", "rating", "timestamp"]).astype(
        {"userId": "int32", "movieId": "int32", "rating": "float32"}
    ).to_parquet(tmp_path / "ratings.parquet")
    return Catalogue(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [2, 1, 3, 4, 5]),
        ("the matrix", [2, 3]),
        ("AMELIE", [1]),
        ("matrix (1999)", [2]),
        ("2003", [3]),
        (".*", [5]),
        ("nothing like it", []),
        ("the matrix " * 30 + "far beyond what is looked at", [2, 3]),
        ('"matrix"', []),
        ("%", []),
        ("_", []),
        ("\0 東京 \U0001f600", []),
    ],
)
def test_every_word_of_a_search_is_in_the_title_or_is_the_year(catalogue, text, found):
    assert catalogue.search(text) == found


def test_filters_and_orders(catalogue):
    assert catalogue.search(genres=["Action", "Sci-Fi"]) == [2, 3]
    assert catalogue.search(genres=["Action", "Drama"]) == []
    assert catalogue.search(years=(1999, 2001)) == [2, 1]
    assert catalogue.search(order=NEWEST)[:2] == [3, 1]
    assert catalogue.search(order=BY_TITLE) == [5, 1, 3, 2, 4]


def test_what_is_known_of_a_movie(catalogue):
    assert catalogue.title(2) == "Matrix, The (1999)"
    assert catalogue.title(4) == "Untitled"
    assert catalogue.title(99) == "movie 99"
    assert catalogue.genres_of(4) == catalogue.genres_of(99) == ()
    assert catalogue.years == (1950, 2003)
    assert catalogue.genres == ["Action", "Comedy", "Drama", "Romance", "Sci-Fi"]


def test_a_user_s_stars_are_in_the_order_of_time(catalogue):
    assert catalogue.stars_of(7) == {3: 3.0, 1: 3.5, 2: 5.0}
    assert list(catalogue.stars_of(7)) == [3, 1, 2]
    assert liked(catalogue.stars_of(7)) == [1, 2]
    assert catalogue.stars_of(8) == {}

"""The synthetic releases: their files, their distributions, and their truth."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from workflows.negatives import NegativeSampler
from workflows.sources.read import read_tables
from workflows.synthetic.draw import GENRE_WEIGHTS, activity, draw_movies
from workflows.synthetic.synthesise import LIKE, scaled_shape, synthesise
from workflows.synthetic.truth import Truth, load_truth
from workflows.synthetic.write import TAGS

ARGUMENTS = ("ml-latest-small", 0.3, 5)
FILES = ("ratings.csv", "movies.csv", "tags.csv", "links.csv", "truth-users.parquet", "truth-movies.parquet")


def quiet(by: float, note: str) -> None:
    pass


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "synthetic"
    synthesise(folder, *ARGUMENTS, quiet)
    return folder


@pytest.fixture(scope="module")
def summary(written) -> dict:
    return json.loads((written / "synth.json").read_text())


@pytest.fixture(scope="module")
def ratings(written) -> pd.DataFrame:
    return pd.read_csv(written / "ratings.csv")


@pytest.fixture(scope="module")
def truth(written) -> Truth:
    return load_truth(written)


# -- the files ---------------------------------------------------------------------------------------------------------


def test_the_counts_are_the_releases_scaled(summary, ratings, written):
    counts = {"users": 183, "ratings": round(100_836 * 0.3), "tags": round(3_683 * 0.3), "movies": round(9_742 * 0.3)}
    assert summary["counts"] == counts
    assert len(ratings) == counts["ratings"]
    assert ratings.userId.unique().tolist() == list(range(1, 184))
    for name in ("movies", "tags", "links"):
        assert len(pd.read_csv(written / f"{name}.csv")) == counts["movies" if name == "links" else name]
    assert sorted(path.name for path in written.iterdir()) == sorted(
        (*FILES, "synth.json", "README.txt", "manifest.json")
    )
    assert "synthetic" in (written / "README.txt").read_text()
    assert "--like ml-latest-small --scale 0.3 --seed 5" in (written / "README.txt").read_text()


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("ratings.csv", "userId,movieId,rating,timestamp", r"\d+,\d+,[0-5]\.[05],\d{9,10}"),
        ("tags.csv", "userId,movieId,tag,timestamp", r"\d+,\d+,[a-z -]+,\d{9,10}"),
        ("movies.csv", "movieId,title,genres", r'\d+,(?:[^",]+|"(?:[^"]|"")+"),[A-Za-z|() -]+'),
        ("links.csv", "movieId,imdbId,tmdbId", r"\d+,\d{7},\d*"),
    ],
)
def test_the_lines_are_written_as_in_movielens(written, name, header, row):
    lines = (written / name).read_bytes().decode().split("\n")
    assert lines[0] == header
    assert lines.pop() == ""  # ends in a newline
    assert pd.Series(lines[1:]).str.fullmatch(row).all()


def test_a_title_is_quoted_only_where_it_must_be(written):
    lines = (written / "movies.csv").read_text().splitlines()
    for line, (_, title, _) in zip(lines, csv.reader(lines)):
        assert line.split(",", 1)[1].startswith('"') == ("," in title or '"' in title)
    assert any(", The (" in line for line in lines)


def test_ratings_are_sorted_half_stars_and_pairs_are_unique(ratings):
    order = ratings.sort_values(["userId", "movieId"], kind="stable")
    assert order.index.tolist() == list(range(len(ratings)))
    assert not ratings.duplicated(["userId", "movieId"]).any()
    assert set(ratings.rating) == {half / 2 for half in range(1, 11)}
    assert ratings.groupby("userId").size().min() >= 20
    assert 3.2 < ratings.rating.mean() < 3.8


def test_a_users_timestamps_are_distinct_and_in_the_years_of_movielens(ratings):
    assert not ratings.duplicated(["userId", "timestamp"]).any()
    assert pd.to_datetime(ratings.timestamp.min(), unit="s").year >= 1996
    assert ratings.timestamp.max() < 2**31


def test_a_few_movies_have_most_ratings(ratings, summary):
    counts = ratings.groupby("movieId").size().sort_values(ascending=False)
    assert counts.iloc[: summary["counts"]["movies"] // 10].sum() > 0.3 * len(ratings)


def test_the_reader_takes_the_folder(written, summary):
    tables = read_tables(written)
    assert tables.repeated == 0
    assert [len(table) for table in (tables.users, tables.movies, tables.ratings)] == [
        summary["counts"][name] for name in ("users", "movies", "ratings")
    ]
    assert tables.movies.year.between(1902, 2019).all()
    assert tables.movies.year.median() > 1980
    assert set(tables.movies.genres.explode().dropna()) == set(GENRE_WEIGHTS)
    per_movie = tables.movies.genres.str.len()
    assert per_movie.max() == 4
    assert 0 < (per_movie == 0).mean() < 0.06  # (no genres listed)


def test_tags_and_links_are_of_what_there_is(written, ratings):
    tags = pd.read_csv(written / "tags.csv").merge(ratings, on=["userId", "movieId"], suffixes=("", "_rated"))
    assert len(tags) == len(pd.read_csv(written / "tags.csv"))
    assert (tags.timestamp >= tags.timestamp_rated).all()
    assert set(tags.tag) <= set(TAGS)
    movies, links = pd.read_csv(written / "movies.csv"), pd.read_csv(written / "links.csv")
    assert movies.movieId.tolist() == links.movieId.tolist() == sorted(set(movies.movieId))
    assert 0 < links.tmdbId.isna().mean() < 0.02
    assert links.imdbId.is_unique


def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(written, tmp_path):
    synthesise(tmp_path / "again", *ARGUMENTS, quiet)
    synthesise(tmp_path / "other", *ARGUMENTS[:2], 6, quiet)
    for path in written.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    for name in FILES:
        assert (written / name).read_bytes() != (tmp_path / "other" / name).read_bytes(), name


# -- the truth ---------------------------------------------------------------------------------------------------------


def test_the_chances_of_being_watched_sum_to_one(truth):
    movies = len(truth.movie_ids)
    users = np.repeat([1, 77, 183], movies)
    chance = truth.watch(users, np.tile(truth.movie_ids, 3)).reshape(3, movies)
    assert np.allclose(chance.sum(axis=1), 1)
    assert (chance > 0).all()
    assert not np.allclose(chance[0], chance[1])


def test_like_is_calibrated(truth, ratings):
    predicted = truth.like(ratings.userId.to_numpy(), ratings.movieId.to_numpy())
    liked = (ratings.rating > 3).to_numpy()
    for part in np.array_split(np.argsort(predicted), 10):  # 3,000 ratings each: a standard deviation of 0.009
        assert abs(predicted[part].mean() - liked[part].mean()) < 0.035
    assert predicted.min() < 0.1
    assert predicted.max() > 0.95


def test_an_unknown_id_has_no_truth(truth):
    with pytest.raises(ValueError, match="not in the folder"):
        truth.watch(np.array([1, 184]), truth.movie_ids[:2])
    with pytest.raises(ValueError, match="not in the folder"):
        truth.like(np.array([1]), np.array([10**9]))


@pytest.mark.parametrize("by_race", [False, True])
def test_both_ways_of_drawing_follow_successive_sampling(by_race):
    """The chance of movie i and then j is P(i) P(j) / (1 - P(i))."""
    users, mixture = 40_000, np.array([0.3, 0.7])
    appeal = np.array([[0.5, 0.1], [0.2, 0.1], [0.15, 0.2], [0.1, 0.25], [0.05, 0.35]])
    counts = np.full(users, 2)
    drawn = draw_movies(np.random.default_rng(3), np.tile(mixture, (users, 1)), appeal, counts, np.full(users, by_race))
    found = np.zeros((5, 5))
    np.add.at(found, tuple(drawn.reshape(users, 2).T), 1)
    chance = appeal @ mixture
    expected = users * chance[:, None] * chance / (1 - chance[:, None])
    assert not found.diagonal().any()
    off = ~np.eye(5, dtype=bool)
    assert ((found - expected)[off] ** 2 / expected[off]).sum() < 43.8  # chi-square, 19 degrees of freedom: p = 0.001


def test_a_mixed_block_keeps_each_users_movies_apart():
    rng = np.random.default_rng(0)
    mixture, appeal = rng.dirichlet(np.ones(3), 6), rng.dirichlet(np.ones(40), 3).T
    counts = np.array([3, 39, 20, 40, 1, 8])
    drawn = draw_movies(rng, mixture, appeal, counts, counts > 15)
    for movies, count in zip(np.split(drawn, np.cumsum(counts)[:-1]), counts):
        assert len(set(movies.tolist())) == count
    assert drawn.min() >= 0
    assert drawn.max() < 40


def test_the_best_metrics_are_those_of_ranking_by_the_truth(truth, ratings, summary):
    """Leave-one-out again, here from the files."""
    last = ratings.loc[ratings.groupby("userId").timestamp.idxmax()]
    rated = np.unique(ratings.movieId)
    sampler = NegativeSampler(ratings.userId.to_numpy(), np.searchsorted(rated, ratings.movieId), 0, len(rated))
    users = last.userId.to_numpy()
    others = rated[sampler.draw_distinct(users, 99, np.random.default_rng(0))]
    candidates = np.column_stack([last.movieId, others])
    scores = truth.watch(np.repeat(users, 100), candidates.ravel()).reshape(-1, 100)
    rank = (scores[:, 1:] > scores[:, :1]).sum(axis=1)
    assert abs((rank < 10).mean() - summary["best"]["hr@10"]) < 0.06
    assert summary["best"]["hr@10"] > summary["popularity"]["hr@10"] + 0.15
    assert 0.3 < summary["best"]["ndcg@10"] < summary["best"]["hr@10"]
    assert 0.75 < summary["best"]["auc"] < 0.9


@pytest.mark.slow
def test_a_tenth_of_ml_25m_leaves_room_between_popularity_and_the_truth(tmp_path):
    summary = synthesise(tmp_path / "tenth", "ml-25m", 0.1, 0, quiet)
    assert 0.4 < summary["popularity"]["hr@10"] < 0.65
    assert 0.7 < summary["best"]["hr@10"] < 0.9


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", LIKE)
def test_full_size_is_the_releases(like):
    assert scaled_shape(like, 1.0) == LIKE[like]


@pytest.mark.parametrize(("like", "scale"), [("ml-25m", 0.0001), ("ml-25m", 0.002), ("ml-latest-small", 0.00992)])
def test_a_small_release_still_has_enough_to_rate(like, scale):
    shape = scaled_shape(like, scale)
    counts = activity(np.random.default_rng(0), shape)
    assert shape.users >= 50
    assert shape.movies >= 200
    assert counts.sum() == shape.ratings == round(LIKE[like].ratings * scale)
    assert counts.min() >= 20
    assert counts.max() < shape.movies / 2


@pytest.mark.parametrize("scale", [0, -1, 4.1, float("nan"), float("inf")])
def test_a_scale_out_of_range_is_refused(tmp_path, scale):
    with pytest.raises(UserError, match="at most 4"):
        synthesise(tmp_path / "x", "ml-25m", scale, 0, quiet)


def test_other_bad_arguments_are_refused(tmp_path):
    with pytest.raises(UserError, match="choose one of ml-20m, ml-25m, ml-32m, ml-latest-small, netflix"):
        synthesise(tmp_path / "x", "ml-1m", 1, 0, quiet)
    with pytest.raises(UserError, match=r"50 users of ml-latest-small with under 20 .* give 0\.009918 or more"):
        synthesise(tmp_path / "x", "ml-latest-small", 0.009, 0, quiet)
    with pytest.raises(UserError, match="--seed -1 is negative"):
        synthesise(tmp_path / "x", "ml-25m", 1, -1, quiet)
    assert not list(tmp_path.iterdir())


def test_a_folder_made_with_the_same_arguments_is_left_alone(written, summary):
    before = (written / "ratings.csv").stat().st_mtime_ns
    assert synthesise(written, *ARGUMENTS, lambda *_: pytest.fail("it was made again")) == summary
    assert (written / "ratings.csv").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="remove it or give another --out"):
        synthesise(written, *ARGUMENTS[:2], 6, quiet)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "ratings.csv").write_text("mine")
    with pytest.raises(UserError, match="remove it or give another --out"):
        synthesise(tmp_path, *ARGUMENTS, quiet)
    assert (tmp_path / "ratings.csv").read_text() == "mine"


def test_progress_counts_ratings_and_a_stop_leaves_nothing(tmp_path, summary):
    done = []

    def stop(by: float, note: str) -> None:
        done.append(by)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(tmp_path / "synthetic", *ARGUMENTS, stop)
    assert sum(done) == summary["counts"]["ratings"]
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_truth_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no synth\.json"):
        load_truth(tmp_path)
    (tmp_path / "synth.json").write_text('{"format": 0}')
    with pytest.raises(UserError, match="another version"):
        load_truth(tmp_path)
    (tmp_path / "synth.json").write_text('{"format": 1}')
    with pytest.raises(UserError, match="its truth cannot be read"):
        load_truth(tmp_path)

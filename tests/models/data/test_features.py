"""What `load_features` gives, against the Parquet files that `prepare` wrote."""

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from core.artifacts import seal
from core.errors import UserError
from core.json_files import read_json, write_json
from core.run_folder import Run
from models.data.load import load_features
from tests.names import DEFAULT_PROTOCOLS, RATING
from workflows.features.vocabulary import FIRST_INDEX, FOLDS

PARTS = ("train", "valid", "test")


def rows_of(run: Run, protocol: str, part: str) -> pd.DataFrame:
    """A split's rows, read by pyarrow alone."""
    (file,) = (run.features / protocol / part).glob("*.parquet")
    return pq.ParquetFile(file).read().to_pandas()


def copy_of(run: Run, folder: Path) -> Run:
    shutil.copytree(run.root, folder / run.root.name)
    return Run(folder / run.root.name)


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_sizes_are_those_of_the_vocabularies(prepared, protocol):
    features = load_features(prepared, protocol)
    for kind, embeddings, rows in (
        ("user", features.user_embeddings, features.users),
        ("movie", features.movie_embeddings, features.movies),
    ):
        vocabulary = pd.read_parquet(features.folder / "vocabulary" / f"{kind}_id.parquet")
        assert embeddings == FIRST_INDEX + vocabulary["known"].sum()
        assert rows == FIRST_INDEX + len(vocabulary)
    assert features.protocol == protocol
    assert features.dataset == prepared.root.name
    assert features.folder == prepared.features / protocol
    assert features.fingerprint == read_json(features.folder / "manifest.json")["fingerprint"]


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_side_tables_are_those_of_the_files(prepared, protocol):
    features = load_features(prepared, protocol)
    side = features.folder / "side"
    for kind, statistics, rows in (
        ("user", features.side.user_statistics, features.users),
        ("movie", features.side.movie_statistics, features.movies),
    ):
        table = pd.read_parquet(side / f"{kind}_statistics.parquet")
        assert statistics.shape == (FOLDS + 1, rows, 3)
        names = [f"{kind}_popularity", f"{kind}_mean_rating", f"{kind}_mean_time"]
        found = statistics.numpy()[table["fold"], table[f"{kind}_index"]]
        np.testing.assert_array_equal(found, table[names].to_numpy(np.float32))
    movies = pd.read_parquet(side / "movie_features.parquet").sort_values("movie_index")
    found = features.side.movie_features.numpy()
    np.testing.assert_array_equal(found, movies.drop(columns="movie_index").to_numpy(np.float32))
    columns = [name for names in features.side.movie_columns.values() for name in names]
    assert columns == [name for name in movies.columns if name != "movie_index"]
    assert features.side.detail_names == ()
    assert features.side.user_details.shape == (features.users, 0)


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
@pytest.mark.parametrize("part", PARTS)
def test_interactions_are_the_rows_of_the_file_in_their_order(prepared, protocol, part):
    found = load_features(prepared, protocol).interactions(part)
    rows = rows_of(prepared, protocol, part)
    assert len(found) == len(rows) > 0
    for tensor, name, kind in (
        (found.user, "user_index", np.int32),
        (found.movie, "movie_index", np.int32),
        (found.label, "label", np.float32),
        (found.fold, "fold", np.int8),
        (found.later, "later", np.int32),
        (found.stars, "rating", np.float32),
    ):
        assert tensor.numpy().dtype == kind
        np.testing.assert_array_equal(tensor.numpy(), rows[name].to_numpy())


@pytest.mark.parametrize("part", PARTS)
def test_star_prediction_has_random_split_s_rows_with_their_stars_as_labels(prepared, part):
    """It shares its features too."""
    features, others = load_features(prepared, RATING), load_features(prepared, "random-split")
    assert features.protocol == RATING
    assert (features.folder, features.fingerprint) == (others.folder, others.fingerprint)
    found, expected = features.interactions(part), others.interactions(part)
    for column in fields(found):
        name = "stars" if column.name == "label" else column.name
        assert torch.equal(getattr(found, column.name), getattr(expected, name))
    assert set(found.label.tolist()) > {2.5, 3.0, 3.5}


def test_interactions_larger_than_one_read_keep_their_order(prepared, monkeypatch):
    monkeypatch.setattr("models.data.features.READ_ROWS", 100)
    found = load_features(prepared, "random-split").interactions("train")
    rows = rows_of(prepared, "random-split", "train")
    assert len(rows) > 300
    np.testing.assert_array_equal(found.user.numpy(), rows["user_index"])
    np.testing.assert_array_equal(found.label.numpy(), rows["label"])


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_the_catalogue_is_every_rated_movie_and_no_other(prepared, protocol):
    catalogue = load_features(prepared, protocol).catalogue
    rated = set(pd.read_parquet(prepared.tables / "ratings.parquet")["movieId"])
    vocabulary = pd.read_parquet(prepared.features / protocol / "vocabulary" / "movie_id.parquet")
    assert catalogue.tolist() == sorted(vocabulary.loc[vocabulary["movie_id"].isin(rated), "index"])
    assert len(catalogue) < len(vocabulary)  # two movies of the synthetic data have no rating


def test_seen_is_every_rating_of_the_splits_asked_for(prepared):
    features = load_features(prepared, "leave-one-out")
    rows = pd.concat(rows_of(prepared, "leave-one-out", part) for part in ("train", "valid"))
    user, movie = features.seen("train", "valid")
    assert user.dtype == movie.dtype == np.int32
    assert user.tolist() == rows["user_index"].tolist()
    assert movie.tolist() == rows["movie_index"].tolist()


@pytest.mark.parametrize("part", ["valid", "test"])
def test_candidates_ask_about_each_held_out_movie_among_unseen_ones(prepared, part):
    features = load_features(prepared, "leave-one-out")
    questions = features.candidates(part)
    assert questions.user.dtype == questions.positive.dtype == questions.negatives.dtype == np.int32
    assert len(questions.user) == len(questions.positive) == len(questions.negatives)
    rows = rows_of(prepared, "leave-one-out", part)
    assert set(zip(questions.user, questions.positive)) == set(zip(rows["user_index"], rows["movie_index"]))
    seen = set(zip(*features.seen(*PARTS)))
    for user, negatives in zip(questions.user, questions.negatives):
        there = negatives[negatives >= 0]
        assert len(set(there)) == len(there) > 0
        assert set(there) <= set(features.catalogue)
        assert not seen & {(user, movie) for movie in there}


def test_user_details_of_ml_1m_are_loaded(movielens, tmp_path):
    from workflows.features.prepare import PrepareSettings, prepare
    from workflows.sources.datasets import get_dataset
    from workflows.sources.fetch import fetch_tables

    data = tmp_path / "data"
    data.mkdir()
    ratings = (movielens / "ratings.csv").read_text().splitlines()[1:]
    columns = [line.split(",") for line in ratings]
    (data / "ratings.dat").write_text("".join(f"{u}::{m}::{float(r) + 0.4:.0f}::{t}\n" for u, m, r, t in columns))
    movies = sorted({int(m) for _, m, _, _ in columns})
    (data / "movies.dat").write_text("".join(f"{m}::Movie {m} (1990)::Drama\n" for m in movies))
    users = sorted({int(u) for u, *_ in columns})
    ages = (1, 18, 25, 35, 45, 50, 56)
    (data / "users.dat").write_text(
        "".join(f"{u}::{'MF'[u % 4 == 1]}::{ages[u % 7]}::{u % 21}::12345\n" for u in users)
    )
    run = Run(tmp_path / "ml-1m")
    fetch_tables(get_dataset("ml-1m"), data, run.tables, lambda _: None)
    prepare(run, "random-split", PrepareSettings(), lambda *_: None)

    features = load_features(run, "random-split")
    assert features.side.detail_names == ("gender", "age", "occupation")
    assert features.side.user_details.numpy().dtype == np.int64
    vocabulary = pd.read_parquet(features.folder / "vocabulary" / "user_id.parquet")
    codes = pd.DataFrame(features.side.user_details.numpy()[vocabulary["index"]], columns=features.side.detail_names)
    for name, truth in (
        ("gender", vocabulary["user_id"] % 4),
        ("age", vocabulary["user_id"] % 7),
        ("occupation", vocabulary["user_id"] % 21),
    ):
        pairs = pd.DataFrame({"code": codes[name], "truth": truth}).drop_duplicates()
        assert pairs["code"].is_unique, name  # one code for each value, and the other way round
        assert pairs["truth"].is_unique, name
        assert codes[name].between(FIRST_INDEX, features.schema[name].int_domain.max).all()


@pytest.mark.parametrize("file", ["side/movie_statistics.parquet", "features.json", "train/part_0.parquet"])
def test_a_changed_file_is_refused(prepared, tmp_path, file):
    run = copy_of(prepared, tmp_path)
    path = run.features / "random-split" / file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=f"{file} has changed"):
        load_features(run, "random-split")
    load_features(run, "leave-one-out")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="missing or incomplete"):
        load_features(Run(tmp_path / "none"), "random-split")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.pop("movie_features"), "movie_features is missing"),
        (lambda config: config.update(colour=1), "colour is unknown; allowed is: user_id, movie_id, continuous, folds"),
        (lambda config: config["user_id"].update(rows="9"), 'user_id.rows is "9"'),
    ],
)
def test_a_features_json_of_another_form_is_refused_with_what_to_run(prepared, tmp_path, change, words):
    run = Run(tmp_path / "ml-latest-small")
    folder = run.features_of("random-split")
    shutil.copytree(prepared.features_of("random-split"), folder)
    config = read_json(folder / "features.json")
    change(config)
    write_json(folder / "features.json", config)
    (folder / "manifest.json").unlink()
    seal(folder, "as it is", dataset="ml-latest-small")
    with pytest.raises(UserError, match=f"{words}.*; run again: python -m marquee prepare --dataset ml-latest-small"):
        load_features(run, "random-split")

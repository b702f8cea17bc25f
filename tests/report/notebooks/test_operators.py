"""Rows before and after each step of `prepare`."""

import numpy as np
import pandas as pd
import pytest

from report.notebooks import operators
from report.notebooks.graphs import branches, draw_workflow, operator_of
from report.notebooks.loaders import FRAMEWORKS, first_batches
from workflows.splits.base import read_split

SPLIT = "leave-one-out"


@pytest.fixture(scope="module")
def workflow(prepared):
    return operators.workflow_of(prepared, SPLIT, "interactions")


@pytest.fixture(scope="module")
def rows(prepared):
    return operators.ratings_of(prepared, SPLIT, rows=8, seed=1)


def test_the_graph_has_a_box_for_each_operator_and_an_arrow_for_each_edge(workflow):
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    (axes,) = draw_workflow(workflow).axes
    boxes = [one for one in axes.patches if isinstance(one, FancyBboxPatch)]
    arrows = [one for one in axes.patches if isinstance(one, FancyArrowPatch)]
    nodes = [node for branch in branches(workflow) for node in branch]
    assert len(boxes) == len(nodes) + 1  # and the one that they come together in
    assert len(arrows) == len(nodes)
    texts = " ".join(text.get_text() for text in axes.texts)
    for name in ("Categorify", "is_interaction", "AddMetadata", "user_index", "movie_index", "label"):
        assert name in texts


def test_no_two_boxes_overlap(workflow):
    from matplotlib.patches import FancyBboxPatch

    (axes,) = draw_workflow(workflow).axes
    found = [one.get_bbox() for one in axes.patches if isinstance(one, FancyBboxPatch)]
    for place, one in enumerate(found):
        assert not any(one.overlaps(other) for other in found[place + 1 :])


def test_operators_are_named_with_the_functions_that_they_call(workflow):
    names = [operator_of(node) for branch in branches(workflow) for node in branch[1:]]
    assert names == [*["Categorify", "Rename"] * 2, "LambdaOp is_interaction", "Rename", "AddMetadata"]


def test_what_the_last_operator_makes_is_what_the_workflow_makes(workflow, rows):
    whole = operators.transformed(workflow, rows)
    for trace in operators.traces(workflow, rows):
        name = trace.columns[-1][1]
        assert trace.iloc[:, -1].tolist() == whole[name].tolist()


def test_ids_that_are_not_in_the_data_get_the_code_of_what_is_unknown(workflow, rows):
    user, movie, _ = operators.traces(workflow, rows)
    for trace in (user, movie):
        codes = trace.iloc[:, -1]
        assert codes.iloc[-1] == 2
        assert (codes.iloc[:-1] > 2).all()


def test_the_two_splits_label_differently(prepared, rows):
    label = operators.traces(operators.workflow_of(prepared, "random-split", "interactions"), rows)[2]
    assert label.iloc[:, -1].tolist() == (rows["rating"] > 3).astype(float).tolist()


def test_the_last_rating_tests_and_the_one_before_it_validates(prepared):
    table = operators.split_of(prepared, SPLIT, user=1, rows=5)
    assert table["after", "part"].tolist() == ["train"] * 3 + ["valid", "test"]
    assert table["after", "later"].tolist() == [4, 3, 2, 1, 0]
    assert table["before", "timestamp"].is_monotonic_increasing


def test_negatives_are_movies_that_the_user_has_not_rated(prepared):
    table = operators.negatives_of(prepared, SPLIT, count=4, rows=20, seed=0)
    titles = pd.read_parquet(prepared.tables / "movies.parquet").set_index("movieId")["title"]
    vocabulary = pd.read_parquet(prepared.features_of(SPLIT) / "vocabulary" / "movie_id.parquet")
    title_of = vocabulary.set_index("index")["movie_id"].map(titles)
    train = read_split(prepared.features_of(SPLIT), "train", ["user_index", "movie_index"]).to_pandas()
    for _, row in table.iterrows():
        user = row["before", "user_index"]
        seen = set(title_of[train.loc[train["user_index"] == user, "movie_index"]])
        drawn = row["after, label 0"].tolist()
        assert len(drawn) == 4
        assert not seen & set(drawn)
        assert row["before", "title"] in seen


def test_statistics_leave_each_fold_out(prepared):
    table = operators.statistics_of(prepared, SPLIT, place=0)
    counts = table["before", "ratings"].to_numpy()
    assert (counts[-1] - counts[:-1]).sum() == counts[-1]
    assert len(table) == 6
    assert np.isfinite(table["after"].to_numpy(float)).all()


def test_a_movie_without_a_year_gets_the_mean(prepared):
    movies = operators.movies_of(prepared, rows=4)
    (year,) = operators.traces(operators.workflow_of(prepared, SPLIT, "movies", "year"), movies)
    assert [year.columns[0][0], *(name for name, _ in year.columns[1:])] == [
        "before", "after LambdaOp unknown_to_null", "after Normalize", "after FillMissing",
    ]  # fmt: skip
    assert np.isnan(year.iloc[-1, 1])
    assert year.iloc[-1, -1] == 0


def test_every_framework_gets_the_same_rows_of_the_same_type(prepared):
    table = first_batches(prepared, SPLIT, batch_size=64)
    titles = [one.title for one in FRAMEWORKS.values() if one.title in table.index.levels[0]]
    parts = [table.loc[title, ["dtype", "shape", "first values"]] for title in titles]
    assert len(parts) == 2
    assert parts[0].equals(parts[1])
    assert parts[0].loc["label", "dtype"] == "float32"
    assert set(parts[0]["shape"]) == {"(64,)"}
    assert set(table["device"].str.partition(":")[0]) <= {"cpu", "cuda", "gpu"}

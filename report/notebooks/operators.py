"""A few rows before and after each step of `prepare`, as tables."""

from collections.abc import Sequence

import core.gpu  # noqa: F401

import numpy as np
import nvtabular as nvt
import pandas as pd
from merlin.dag.executors import LocalExecutor

from core.columns import (
    FOLD,
    GENRES,
    LATER,
    MOVIE_ID,
    MOVIE_INDEX,
    NOT_BEFORE,
    RATING,
    RAW_MOVIE,
    RAW_USER,
    TIMESTAMP,
    TITLE,
    USER_ID,
    USER_INDEX,
    YEAR,
)
from core.run_folder import Run
from report.notebooks.graphs import branches, operator_of
from workflows.features.saved import load_workflow
from workflows.features.statistics import fold_sums
from workflows.features.vocabulary import FIRST_INDEX, FOLDS
from workflows.negatives import NegativeSampler
from workflows.splits.base import PARTS, read_split

BEFORE = "before"
UNKNOWN = 999_999  # an id that is not in the data
IDS = ((USER_INDEX, RAW_USER, USER_ID), (MOVIE_INDEX, RAW_MOVIE, MOVIE_ID))


def workflow_of(run: Run, split: str, *names: str) -> nvt.Workflow:
    """A fitted workflow of a run's own features.

    Args:
        names: the folders that it lies in, such as `interactions`, or `movies`, `year`.
    """
    return load_workflow(run.features_of(split).joinpath("workflow", *names))


def ratings_of(run: Run, split: str, rows: int, seed: int) -> pd.DataFrame:
    """Training ratings as they come into the workflow, drawn with the seed; the last has ids that are unknown."""
    table = _parts(run, split)
    chosen = table[table["part"] == PARTS[0]].sample(rows, random_state=seed).reset_index(drop=True)
    chosen.loc[rows - 1, [RAW_USER, RAW_MOVIE]] = UNKNOWN
    return chosen[[RAW_USER, RAW_MOVIE, RATING, TIMESTAMP, FOLD, LATER, NOT_BEFORE]]


def movies_of(run: Run, rows: int) -> pd.DataFrame:
    """Movies of a run: the first that differ in their genres, the last without a year, as a few of MovieLens' are."""
    table = pd.read_parquet(run.tables / "movies.parquet")
    table[GENRES] = table[GENRES].map(list)  # Parquet gives arrays, which Categorify does not take
    chosen = table[~table[GENRES].map(str).duplicated()].head(rows).reset_index(drop=True)
    chosen.loc[rows - 1, YEAR] = 0
    return chosen


def split_of(run: Run, split: str, user: int, rows: int) -> pd.DataFrame:
    """A user's last ratings in the order of time, with the part that each is in, its fold and how many came later."""
    table = _parts(run, split)
    own = table[table[RAW_USER] == user].sort_values(LATER, ascending=False).tail(rows).reset_index(drop=True)
    before, after = own[[RAW_USER, RAW_MOVIE, RATING, TIMESTAMP]], own[["part", FOLD, LATER]]
    return pd.concat({BEFORE: before, "after": after}, axis=1)


def _parts(run: Run, split: str) -> pd.DataFrame:
    """All ratings with raw ids, and the part, fold and number of later ratings of each."""
    folder = run.features_of(split)
    columns = [USER_INDEX, MOVIE_INDEX, RATING, TIMESTAMP, FOLD, LATER, NOT_BEFORE]
    parts = {part: read_split(folder, part, columns).to_pandas() for part in PARTS}
    table = pd.concat(parts, names=["part"]).reset_index("part").reset_index(drop=True)
    for index, raw, name in IDS:
        ids = pd.read_parquet(folder / "vocabulary" / f"{name}.parquet", columns=["index", name])
        table[raw] = table[index].map(ids.set_index("index")[name])
    return table


def traces(workflow: nvt.Workflow, rows: pd.DataFrame) -> list[pd.DataFrame]:
    """What each operator of a fitted workflow makes of the rows: a table for each input that an operator changes.

    Args:
        rows: with the workflow's input columns.

    Returns:
        Tables whose columns are the input, and the output of one operator after the other.
    """
    executor = LocalExecutor()
    found = []
    for branch in branches(workflow):
        if len(branch) < 2:
            continue
        names = branch[0].output_schema.column_names
        after = {f"after {operator_of(node)}": executor.transform(rows, [node]) for node in branch[1:]}
        found.append(pd.concat({BEFORE: rows[names], **after}, axis=1))
    return found


def transformed(workflow: nvt.Workflow, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as the whole workflow gives them."""
    return LocalExecutor().transform(rows, [workflow.output_node])


def schema_of(workflow: nvt.Workflow) -> pd.DataFrame:
    """A fitted workflow's output columns: dtype and tags."""
    rows = {
        column.name: {"dtype": column.dtype.name, "tags": ", ".join(sorted(tag.value for tag in column.tags)) or "-"}
        for column in workflow.output_schema
    }
    return pd.DataFrame(rows).T


def vocabulary_around(run: Run, split: str, rows: int) -> pd.DataFrame:
    """The movies' vocabulary: the most frequent ids, those on both sides of the threshold, and the last."""
    table = pd.read_parquet(run.features_of(split) / "vocabulary" / f"{MOVIE_ID}.parquet")
    known = int(table["known"].sum())
    middle = range(max(0, known - rows), min(len(table), known + rows))
    chosen = sorted({*range(rows), *middle, *range(len(table) - rows, len(table))})
    return table.iloc[chosen].reset_index(drop=True)


def negatives_of(run: Run, split: str, count: int, rows: int, seed: int) -> pd.DataFrame:
    """The first training rows, each beside movies that its user has not rated in train, as an epoch draws them.

    Args:
        count: how many movies are drawn for each row.
    """
    folder = run.features_of(split)
    train = read_split(folder, "train", [USER_INDEX, MOVIE_INDEX])
    vocabulary = pd.read_parquet(folder / "vocabulary" / f"{MOVIE_ID}.parquet")
    user, movie = (train[name].to_numpy() for name in (USER_INDEX, MOVIE_INDEX))
    sampler = NegativeSampler(user, movie, FIRST_INDEX, int(vocabulary["rated"].sum()))
    drawn = sampler.draw(user[:rows], count, np.random.default_rng(seed))
    titles = _titles(run, vocabulary)
    before = pd.DataFrame({USER_INDEX: user[:rows], MOVIE_INDEX: movie[:rows], TITLE: titles[movie[:rows]].to_numpy()})
    after = {f"negative {place + 1}": titles[drawn[:, place]].to_numpy() for place in range(count)}
    return pd.concat({BEFORE: before, "after, label 0": pd.DataFrame(after)}, axis=1)


def _titles(run: Run, vocabulary: pd.DataFrame) -> pd.Series:
    """Titles by movie index."""
    table = pd.read_parquet(run.tables / "movies.parquet").set_index(RAW_MOVIE)[TITLE]
    return pd.Series(table[vocabulary[MOVIE_ID]].to_numpy(), vocabulary["index"])


def statistics_of(run: Run, split: str, place: int) -> pd.DataFrame:
    """A movie's statistics without each fold, and over all training rows: counts before, what a network reads after.

    Args:
        place: of the movie in the vocabulary, from 0 for the most rated.
    """
    folder = run.features_of(split)
    table = pd.read_parquet(folder / "side" / "movie_statistics.parquet")
    index = FIRST_INDEX + place
    counts, stars, _ = fold_sums(folder, MOVIE_INDEX, int(table[MOVIE_INDEX].max()) + 1)[:, :, index]
    left = pd.DataFrame({"ratings": [*(counts.sum() - counts), counts.sum()]}).astype(int)
    left["mean stars"] = [*(stars.sum() - stars), stars.sum()] / np.maximum(left["ratings"], 1)
    after = table[table[MOVIE_INDEX] == index].drop(columns=[FOLD, MOVIE_INDEX]).reset_index(drop=True)
    found = pd.concat({BEFORE: left, "after": after}, axis=1)
    found.index = pd.Index([*(f"without fold {fold}" for fold in range(FOLDS)), "all, for test and serving"])
    return found


def side_columns(run: Run, split: str, prefixes: Sequence[str], rows: int) -> pd.DataFrame:
    """The first movies of a side table, with the columns that begin in one of these ways."""
    table = pd.read_parquet(run.features_of(split) / "side" / "movie_features.parquet")
    chosen = [name for name in table.columns if name == MOVIE_INDEX or name.startswith(tuple(prefixes))]
    return table.loc[FIRST_INDEX : FIRST_INDEX + rows - 1, chosen].reset_index(drop=True)

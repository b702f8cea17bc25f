"""The five folds: blocks of the ratings in the order of the file, as GroupLens' script cuts them."""

import hashlib
import subprocess

import numpy as np
import pytest

from tests.contracts.splits import SplitContract
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables
from workflows.splits.base import PARTS, SPLITS, TimeOrder
from workflows.splits.folds import FOLDS, fold_split

NAMES = [f"u{number}" for number in range(1, FOLDS + 1)]


class TestFirstFold(SplitContract):
    name = "u1"
    uses_chance = True


class TestLastFold(SplitContract):
    name = "u5"
    uses_chance = True


def split_of(name: str, rows: int, seed: int = 0):
    times = TimeOrder.of(np.arange(rows, dtype=np.int32)[::-1].copy(), np.arange(rows, dtype=np.int64)[::-1].copy())
    return SPLITS[name].assign(times, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("name", "tested"),
    [
        ("u1", [0, 1, 2, 3]),
        ("u2", [4, 5, 6, 7]),
        ("u3", [8, 9, 10, 11]),
        ("u4", [12, 13, 14, 15]),
        ("u5", [16, 17, 18, 19]),
    ],
)
def test_the_blocks_of_twenty_ratings_by_hand(name, tested):
    split = split_of(name, 20)
    assert split.rows("test").tolist() == tested
    assert (len(split.rows("valid")), len(split.rows("train"))) == (2, 14)


@pytest.mark.parametrize("rows", [100_000, 99_999, 23, 5, 0])
def test_every_rating_is_tested_once_and_no_split_tests_what_it_trains(rows):
    splits = [split_of(name, rows) for name in NAMES]
    tested = np.concatenate([split.rows("test") for split in splits])
    np.testing.assert_array_equal(tested, np.arange(rows))
    for split in splits:
        found = np.concatenate([split.rows(part) for part in PARTS])
        np.testing.assert_array_equal(np.sort(found), np.arange(rows))
        others = rows - len(split.rows("test"))
        assert len(split.rows("valid")) == round(others / 10)


def test_the_seed_moves_validation_rows_only():
    one, other = (fold_split(1000, 2, np.random.default_rng(seed)) for seed in (1, 2))
    assert one.rows("test").tolist() == other.rows("test").tolist() == list(range(200, 400))
    assert one.rows("valid").tolist() != other.rows("valid").tolist()


MKU = """
for i in 1 2 3 4 5
do
  head -n `expr $i \\* 4` u.data | tail -n 4 > u$i.test
done
"""  # as mku.sh of the release, for 20 lines; it sorts each file afterwards


def test_a_ml_100k_folder_has_the_folds_of_the_releases_script(tmp_path):
    """From `u.data` in an order of its own to tables, and from there to the parts."""
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    pairs = rng.permutation([(user, movie) for user in (9, 2, 5, 7) for movie in (30, 10, 50, 20, 40)])
    times = rng.integers(880_000_000, 890_000_000, 20)
    lines = [f"{user}\t{movie}\t{rng.integers(1, 6)}\t{time}" for (user, movie), time in zip(pairs, times)]
    (raw / "u.data").write_text("\n".join(lines) + "\n")
    flags = "|".join(["0"] * 18)
    (raw / "u.item").write_text(
        "".join(f"{movie}|Movie {movie} (1990)|01-Jan-1990|||1|{flags}\n" for movie in (10, 20, 30, 40, 50))
    )
    (raw / "u.user").write_text("".join(f"{user}|30|M|writer|00000\n" for user in (2, 5, 7, 9)))
    subprocess.run(["sh", "-c", MKU], cwd=raw, check=True)
    fetch_tables(get_dataset("ml-100k"), raw, tmp_path / "tables", lambda _: None)
    import pandas as pd

    ratings = pd.read_parquet(tmp_path / "tables" / "ratings.parquet")
    for number, name in enumerate(NAMES, start=1):
        block = [tuple(map(int, line.split("\t"))) for line in (raw / f"u{number}.test").read_text().splitlines()]
        split = split_of(name, len(ratings))
        found = ratings.iloc[split.rows("test")]
        assert [tuple(map(int, row)) for row in found.itertuples(index=False)] == block


def test_the_folds_draw_from_streams_of_their_own():
    digests = {hashlib.sha256(split_of(name, 100).part.tobytes()).hexdigest() for name in NAMES}
    assert len(digests) == FOLDS
    assert len({splitter.stream for splitter in SPLITS.values()}) == len(SPLITS)

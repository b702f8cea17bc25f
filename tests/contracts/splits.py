"""What holds for every split. A concrete class names the split and inherits the tests."""

import importlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import FOLD, LABEL, LATER, MOVIE_INDEX, RATING, TIMESTAMP, USER_INDEX
from core.run_folder import Run
from workflows.features.prepare import PrepareSettings, prepare
from workflows.features.vocabulary import FOLDS
from workflows.splits.base import PARTS, SPLITS, TEST, UNUSED, Split, Splitter, TimeOrder, read_split

RATINGS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=60)  # (user, timestamp)
HALF_STARS = np.arange(1, 11) / 2


class SplitContract:
    """Inherit it as `class TestMySplit(SplitContract)`.

    Attributes:
        name: of the split in `SPLITS`.
        uses_chance: whether another seed gives another split.
        entry: the split itself, where nothing but the test adds it to `SPLITS`.
    """

    name: ClassVar[str]
    uses_chance: ClassVar[bool]
    entry: ClassVar[Splitter | None] = None

    @pytest.fixture(autouse=True, scope="class")
    def _registered(self) -> Iterator[None]:
        if self.entry is None:
            yield
            return
        SPLITS.add(self.name, self.entry)
        yield
        SPLITS.remove(self.name)

    def assign(self, user: np.ndarray, timestamp: np.ndarray, seed: int = 0) -> Split:
        times = TimeOrder.of(user.astype(np.int32), timestamp.astype(np.int64))
        return SPLITS[self.name].assign(times, np.random.default_rng(seed))

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """40 users with 5 to 24 ratings each, in no order, with ties in time."""
        rng = np.random.default_rng(1)
        user = rng.permutation(np.repeat(np.arange(40), rng.integers(5, 25, 40)))
        return user, rng.integers(0, 300, len(user))

    def test_every_rating_is_in_at_most_one_part(self):
        @settings(deadline=None, max_examples=60)
        @given(RATINGS, st.integers(0, 2**32 - 1))
        def check(rows, seed):
            user, timestamp = np.array(rows, np.int64).reshape(-1, 2).T
            split = self.assign(user, timestamp, seed)
            assert split.part.dtype == np.int8
            assert split.part.shape == (len(rows),)
            assert set(split.part) <= {UNUSED, *range(len(PARTS))}
            found = np.concatenate([split.rows(part) for part in PARTS])
            assert len(found) == len(set(found)) == (split.part != UNUSED).sum()

        check()

    def test_no_part_of_the_sample_is_empty_and_most_of_it_trains(self):
        split = self.assign(*self.sample()).check("the sample")
        assert len(split.rows("train")) > max(len(split.rows("valid")), len(split.rows("test")))

    def test_the_seed_decides(self):
        user, timestamp = self.sample()
        first, again, other = (self.assign(user, timestamp, seed).part for seed in (3, 3, 4))
        np.testing.assert_array_equal(again, first)
        assert self.uses_chance == (other != first).any()
        # results are taken over several splits only where they are of other test rows
        assert SPLITS[self.name].uses_chance == ((other == TEST) != (first == TEST)).any()

    def test_the_arguments_are_left_as_they_are(self):
        user, timestamp = self.sample()
        before = user.copy(), timestamp.copy()
        self.assign(user, timestamp)
        np.testing.assert_array_equal((user, timestamp), before)

    def test_labels_are_0_or_1_and_rise_with_the_stars(self):
        label = SPLITS[self.name].label(HALF_STARS)
        assert label.dtype == np.float32
        assert set(label) <= {0, 1}
        assert (np.diff(label) >= 0).all()

    def test_the_label_is_a_function_that_can_be_imported_by_its_name(self):
        label = SPLITS[self.name].label
        assert getattr(importlib.import_module(label.__module__), label.__qualname__) is label

    def test_it_has_random_numbers_of_its_own(self):
        streams = [splitter.stream for splitter in SPLITS.values()]
        assert streams.count(SPLITS[self.name].stream) == 1

    @pytest.fixture(scope="class")
    def run(self, prepared, tmp_path_factory) -> Run:
        """The tables of `prepared`, prepared with this split alone."""
        run = Run(tmp_path_factory.mktemp("split") / prepared.root.name)
        run.root.mkdir()
        run.tables.symlink_to(prepared.tables)
        assert prepare(run, self.name, PrepareSettings(), lambda *_: None)
        return run

    def test_prepare_writes_its_parts(self, run):
        columns = [USER_INDEX, MOVIE_INDEX, LABEL, RATING, TIMESTAMP, FOLD, LATER]
        parts = {part: read_split(run.features / self.name, part, columns).to_pandas() for part in PARTS}
        pairs = [pair for rows in parts.values() for pair in zip(rows[USER_INDEX], rows[MOVIE_INDEX])]
        assert len(pairs) == len(set(pairs)) > 0
        for part, rows in parts.items():
            np.testing.assert_array_equal(rows[LABEL], SPLITS[self.name].label(rows[RATING]))
            assert set(rows[FOLD]) <= (set(range(FOLDS)) if part == "train" else {FOLDS})

    def test_prepare_draws_candidates_where_the_split_asks_for_them(self, run):
        found = {path.name for path in (run.features / self.name).glob("candidates-*")}
        expected = {"candidates-valid.parquet", "candidates-test.parquet"} if SPLITS[self.name].candidates else set()
        assert found == expected

    def test_prepare_has_nothing_to_do_again(self, run):
        assert prepare(run, self.name, PrepareSettings(), lambda *_: None) is False

"""Any published split, written with the line ends of any system, is read back as it was or refused in one line."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import UserError
from tests.contracts.readers import EXAMPLES
from tests.contracts.written_tables import LINE_ENDS, NO_IDS
from tests.workflows.sources.test_ncf_files import NEGATIVE, TEST, TRAIN
from workflows.sources.ncf_files import LARGEST_ID, read_ncf_files

IDS = st.one_of(st.integers(0, 9), st.integers(0, LARGEST_ID))
STARS = st.integers(1, 5)
TIMES = st.integers(0, 2**40)
NO_ID_HERE = [text for text in NO_IDS if "\n" not in text] + [str(LARGEST_ID + 1)]


@st.composite
def splits(draw: st.DrawFn) -> tuple[list, list, list]:
    """Training rows, test rows of different users with items that they have not trained on, and a list for each."""
    train = draw(st.lists(st.tuples(IDS, IDS, STARS, TIMES), min_size=1, max_size=8))
    pairs = {row[:2] for row in train}
    test = draw(st.lists(st.tuples(IDS, IDS, STARS, TIMES), min_size=1, max_size=5, unique_by=lambda row: row[0]))
    test = [row for row in test if row[:2] not in pairs] or [(LARGEST_ID, LARGEST_ID, 1, 1)]
    test = [row for row in test if row[:2] not in pairs] or [(LARGEST_ID - 1, LARGEST_ID - 1, 1, 1)]
    return train, test, [draw(st.lists(IDS, min_size=1, max_size=6)) for _ in test]


def check_splits(folder, examples: int) -> None:
    @settings(deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    @given(
        splits(),
        st.sampled_from(("utf-8", "utf-8-sig", "utf-16")),
        st.sampled_from(LINE_ENDS),
        st.sampled_from(("", "", TRAIN, TEST, NEGATIVE)),
        st.sampled_from(NO_ID_HERE),
        st.integers(0, 7),
    )
    def check(split, encoding, end, damaged, text, place):
        train, test, negatives = split
        lines = {
            TRAIN: ["\t".join(map(str, row)) for row in train],
            TEST: ["\t".join(map(str, row)) for row in test],
            NEGATIVE: ["\t".join([f"({row[0]},{row[1]})", *map(str, some)]) for row, some in zip(test, negatives)],
        }
        if damaged:
            place %= len(lines[damaged])
            head, _, rest = lines[damaged][place].partition("\t")
            # the last negative or the first field
            lines[damaged][place] = f"{head}\t{text}\t1" if damaged == NEGATIVE else f"{text}\t{rest}"
        for name, content in lines.items():
            (folder / name).write_bytes((end.join(content) + end).encode(encoding))
        try:
            files = read_ncf_files(folder)
        except UserError as error:
            check_refusal(str(error), f"{folder / damaged}: line {place + 1} " if damaged else "", encoding)
            return
        assert not damaged
        assert encoding != "utf-16"
        assert_same(files, train, test, negatives)

    check()


def check_refusal(message: str, damaged: str, encoding: str) -> None:
    assert message.isprintable()
    if encoding == "utf-16":
        assert "UTF-16" in message
    else:
        assert damaged, message
        assert message.startswith(damaged), (message, damaged)


def assert_same(files, train: list, test: list, negatives: list) -> None:
    users = sorted({row[0] for row in (*train, *test)})
    kept = [
        [item for n, item in enumerate(some) if item not in (*some[:n], row[1])] for row, some in zip(test, negatives)
    ]
    movies = sorted({row[1] for row in (*train, *test)} | {item for some in kept for item in some})
    assert (files.users, files.movies) == (len(users), len(movies))
    read = np.array(users)[files.user], np.array(movies)[files.movie], files.rating, files.timestamp
    assert list(zip(*(column.tolist() for column in read))) == train
    assert np.array(users)[files.test_user].tolist() == [row[0] for row in test]
    assert np.array(movies)[files.test_movie].tolist() == [row[1] for row in test]
    assert [np.array(movies)[one[one >= 0]].tolist() for one in files.negatives] == kept


def test_some_splits_are_read_back_or_refused(tmp_path):
    check_splits(tmp_path, 100)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # against hangs: a busy machine is slow
def test_any_split_is_read_back_or_refused(tmp_path):
    check_splits(tmp_path, EXAMPLES)

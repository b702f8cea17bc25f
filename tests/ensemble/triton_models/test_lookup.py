"""Ids of any kind to indices: MovieLens' whole numbers, others, and text."""

import numpy as np
import pandas as pd
import pytest

from ensemble.triton_models.lookup import Lookup


def lookup(folder, ids: list) -> Lookup:
    """The last id has no embedding of its own."""
    known = [True] * (len(ids) - 1) + [False]
    columns = {"movie_id": ids, "index": np.arange(3, 3 + len(ids), dtype=np.int32), "ratings": 1, "known": known}
    pd.DataFrame(columns).to_parquet(folder / "movie_id.parquet", index=False)
    return Lookup(folder, "movie_id", unknown=2)


@pytest.mark.parametrize(
    ("ids", "asked", "nobody"),
    [
        ([30, 10, 20], [10, 25, 20, 30, -1, 2**62], -1),
        ([-1, 2**60, -2], [2**60, -5, -2, -1, 0, 1], -3),
        (["b", "a", "é"], [b"a", b"c", "é".encode(), b"b", b"", b"A"], b""),
    ],
    ids=["whole", "negative", "text"],
)
def test_ids_are_looked_up_as_they_are(tmp_path, ids, asked, nobody):
    found = lookup(tmp_path, ids)
    values = np.empty(len(asked), object if isinstance(asked[0], bytes) else np.int64)
    values[:] = asked
    index, known = found(values)
    assert (index.dtype, known.dtype) == (np.int64, bool)
    assert index.tolist() == [4, 2, 5, 3, 2, 2]
    assert known.tolist() == [True, False, False, True, False, False]
    assert [found.index_of(one) for one in asked] == index.tolist()
    assert found.nobody == nobody
    assert found.index_of(nobody) == 2
    empty = found(values[:0])
    assert [len(part) for part in empty] == [0, 0]

"""The best of many, against a stable sort."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ensemble.triton_models.top_k import top_k


@settings(max_examples=200, deadline=None)
@given(
    arrays(np.int8, st.integers(0, 30), elements=st.integers(0, 5)), st.data(), st.integers(1, 40)
)  # few values: many are equal
def test_the_best_are_the_stable_sort_without_the_excluded(values, data, k):
    excluded = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20)) if len(values) else []
    ids = np.arange(len(values)) * 10
    found_ids, found = top_k(ids, values.astype(np.float32), np.array(excluded, np.int64), k)
    left = [place for place in range(len(values)) if place not in excluded]
    expected = sorted(left, key=lambda place: -values[place])[:k]  # Python's sort is stable
    assert found_ids.tolist() == [10 * place for place in expected]
    assert found.tolist() == [values[place] for place in expected]

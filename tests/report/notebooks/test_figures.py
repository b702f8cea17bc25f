"""Tables and words of a notebook have the figures of evaluation.json."""

import re

import pytest

from models.evaluation.metrics.base import columns_of
from models.evaluation.paired import holm
from models.protocols.base import PROTOCOLS
from report.files import RunFiles
from report.notebooks.figures import about, figures_table, pairs_table, question_of, verdict_text
from report.pictures.intervals import corrected_pairs
from report.style import capitalised
from tests.names import DEFAULT_PROTOCOLS, RATING
from tests.report.made_run import made_run

NUMBER = re.compile(r"\d+\.\d+")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> RunFiles:
    return RunFiles(made_run(tmp_path_factory.mktemp("runs")))


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_every_figure_and_its_interval_is_that_of_the_evaluation(files, protocol):
    table = figures_table(files, protocol)
    results = [one for one in files.results if one.protocol == protocol]
    assert len(table) == len(results)
    headings = columns_of(PROTOCOLS[protocol].task)
    columns = [(capitalised(heading.replace("\n", ", ")), metric) for heading, metric in headings]
    assert list(table.columns) == [*(heading for heading, _ in columns), "Training"]
    for (_, row), result in zip(table.iterrows(), results):
        for heading, metric in columns:
            value, pair = result.metrics.get(metric), result.ci95.get(metric)
            expected = [] if value is None else [value, *(pair or ())]
            assert NUMBER.findall(row[heading]) == [f"{one:.3f}" for one in expected]


def test_the_best_of_each_column_is_marked(files):
    table = figures_table(files, "leave-one-out")
    assert table["HR@10, all movies"].str.contains("★").tolist() == [True, False, False, False]


def test_a_verdict_says_what_it_rests_on(files):
    said = verdict_text(files, "leave-one-out")
    assert "NDCG@10 among all movies" in said
    assert "one training seed" in said
    assert "compare" in said


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_the_table_of_pairs_has_the_corrected_p_values_and_the_words_of_the_verdict(files, protocol):
    table = pairs_table(files, protocol)
    found = corrected_pairs(files, protocol, ("dlrm", "ncf", "mf"))
    assert table.index.tolist() == [
        "DLRM \u2212 NCF", "DLRM \u2212 Matrix factorisation (MF)", "NCF \u2212 Matrix factorisation (MF)"
    ]  # fmt: skip
    alone = [one.p_value for one in (corrected_pairs(files, protocol, pair)[pair] for pair in found)]
    assert [one.p_value for one in found.values()] == holm(alone)
    for (_, row), one in zip(table.iterrows(), found.values()):
        difference, p, said = row
        assert NUMBER.findall(difference) == [f"{abs(value):.4f}" for value in (one.value, one.low, one.high)]
        assert p == ("< 0.001" if one.p_value < 0.001 else f"{one.p_value:.2g}")
        assert ("cannot be told" in said) == (one.p_value >= 0.05 or one.low <= 0 <= one.high)
        assert "practically certain" not in said  # of one split


def test_a_protocol_without_results_says_how_it_gets_them(files):
    said = verdict_text(files, RATING)
    assert "train --protocol rating" in said
    assert "evaluate" in said


def test_what_the_figures_are_of_is_said(files):
    said = about(files)
    assert "1,200 ratings, 40 users and 30 movies" in said
    assert "seed 42" in said


@pytest.mark.parametrize("protocol", [*DEFAULT_PROTOCOLS, RATING])
def test_every_question_is_explained(protocol):
    assert len(question_of(protocol)) > 60

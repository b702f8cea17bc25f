"""`evaluation.json` as a table."""

import re

from dashboard.names import Names
from dashboard.results import protocols, table_of

RESULTS = [
    {
        "protocol": "leave-one-out",
        "model": "dlrm",
        "metrics": {"hr@10": 0.7338, "log_loss": 0.5},
        "ci95": {"hr@10": [0.7, 0.76]},
        "seed": 42,
        "test_users": 943,
        "train_seconds": 275.4,
    },
    {
        "protocol": "leave-one-out",
        "model": "<b>",
        "metrics": {"hr@10": 0.69, "log_loss": 0.4},
        "ci95": {},
        "seed": 42,
        "test_users": 943,
        "train_seconds": 0.0,
    },
    {
        "protocol": "random-split",
        "model": "ncf",
        "metrics": {"auc": None},
        "ci95": None,
        "seed": 1,
        "train_seconds": 2.5,
    },
]
BASELINES = {"itemknn": "item-kNN", "popularity": "popularity", "knn": "k-NN with means", "ease": "EASE"}
NAMES = Names({"hr@10": "HR@10"}, {"dlrm": "DLRM"})


def table(protocol: str) -> str:
    return table_of(RESULTS, protocol, NAMES, ["dlrm"], ["log_loss"])


def test_figures_intervals_and_the_best_of_each_metric():
    html = table("leave-one-out")
    assert protocols(RESULTS) == ["leave-one-out", "random-split"]
    assert re.findall(r'<td class="m-best">(.{5})', html) == ["0.734", "0.400"]
    assert "<small>0.700 to 0.760</small>" in html
    assert '<tr class="m-network"><th scope="row">DLRM</th>' in html
    assert ">275 s<" in html
    assert "943 test users, seed 42" in html
    assert ">HR@10<" in html


def test_names_begin_with_a_capital_where_they_are_words():
    names = Names({"log_loss": "log loss"}, BASELINES)
    assert [names.model(one) for one in BASELINES] == ["Item-kNN", "Popularity", "k-NN with means", "EASE"]
    assert [names.model(one) for one in ("ncf", "another")] == ["NCF", "Another"]
    assert names.metric("log_loss") == "Log loss"


def test_names_are_escaped_and_what_is_missing_is_a_dash():
    assert "<b>" not in table("leave-one-out").replace('class="m-best"', "")
    assert "&lt;b&gt;" in table("leave-one-out").lower()
    assert "<td>-</td>" in table("random-split")
    assert ">2.5 s<" in table("random-split")


def test_columns_stand_in_the_order_of_the_names_with_those_over_all_movies_first():
    one = {"protocol": "p", "model": "m", "metrics": {"other": 0.1, "hr@10": 0.2, "full_hr@10": 0.3}, "seed": 1}
    asked = {"test_users": 6_040, "full_catalogue_users": 2_000}
    names = Names({"full_hr@10": "HR@10, all movies", "hr@10": "HR@10, sampled"}, {})
    html = table_of([{**one, **asked}], "p", names, [], [])
    headings = re.findall(r"<th[^>]*>([^<]*)</th>", html.partition("</thead>")[0])
    assert headings == ["Model", "HR@10, all movies", "HR@10, sampled", "Other", "Training"]
    assert re.findall(r"0\.\d{3}", html) == ["0.300", "0.200", "0.100"]
    assert "6,040 test users (2,000 of them among all movies), seed 1" in html


def test_coverage_has_a_column_where_lists_were_judged():
    one = {"protocol": "p", "metrics": {"full_hr@10": 0.3}, "seed": 1, "known_users": 7, "test_users": 9}
    covered = {"coverage@10": {"value": 0.4321, "low": 0.41, "high": 0.45}}
    names = Names({"full_hr@10": "HR@10, all movies"}, {})
    html = table_of([{**one, "model": "m", "coverage": covered}, {**one, "model": "n"}], "p", names, [], [])
    assert "<td>43.2 %<small>41.0 to 45.0</small></td>" in html
    assert html.count("<td>-</td>") == 1 + 2  # no lists, and no time of training
    assert "9 test users, 7 known before the test, seed 1" in html
    assert "Catalogue in lists" not in table("leave-one-out")

"""`evaluation.json` is checked when it is read: what is wrong is refused in a line that says where it is."""

import json

import pytest

from core.errors import UserError
from core.run_folder import Run
from models.evaluation.results import Result, made_from, read_results, write_results

KEYS = (
    "model, protocol, metrics, ci95, seed, epochs, train_seconds, samples_per_second, test_users, "
    "full_catalogue_users, known_users, test_rows, undefined, left_out, others, slices, coverage, versions, stages"
)
ENTRY = {
    "model": "dlrm",
    "protocol": "random-split",
    "metrics": {"auc": 0.5, "log_loss": 0.6},
    "ci95": {"auc": [0.4, 0.6], "log_loss": [0.5, 0.7]},
    "seed": 1,
    "epochs": 2,
    "train_seconds": 2.5,
    "samples_per_second": 3,
}
REQUIRED = tuple(ENTRY)


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "ml-1m")
    run.root.mkdir()
    return run


def message(run: Run, value: object) -> str:
    """What is said of an `evaluation.json`: the name of the file, and what to run, are cut off."""
    run.evaluation.write_text(json.dumps(value))
    with pytest.raises(UserError) as caught:
        read_results(run)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{run.evaluation}: ")
    remedy = run.command("evaluate")
    assert text.endswith(remedy)
    return text.removeprefix(f"{run.evaluation}: ").removesuffix(f"; run again: {remedy}")


def test_the_least_that_an_entry_holds(run):
    run.evaluation.write_text(json.dumps([ENTRY]))
    (found,) = read_results(run)
    assert (found.model, found.protocol, found.seed, found.epochs) == ("dlrm", "random-split", 1, 2)
    assert found.metrics == {"auc": 0.5, "log_loss": 0.6}
    assert found.ci95 == {"auc": (0.4, 0.6), "log_loss": (0.5, 0.7)}
    assert (found.train_seconds, found.samples_per_second) == (2.5, 3)
    assert found.test_users is found.full_catalogue_users is found.test_rows is found.stages is None
    assert found.versions == {}


def test_a_whole_number_stands_for_a_float(run):
    run.evaluation.write_text(json.dumps([{**ENTRY, "train_seconds": 2, "metrics": {"auc": 1, "log_loss": 0}}]))
    (found,) = read_results(run)
    assert (found.train_seconds, type(found.train_seconds)) == (2.0, float)
    assert {type(value) for value in found.metrics.values()} == {float}


def test_an_unknown_key_is_refused_and_the_known_ones_are_listed(run):
    assert message(run, [ENTRY, {**ENTRY, "colour": 1}]) == f"1.colour is unknown; allowed is: {KEYS}"


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_refused(run, key):
    rest = {name: value for name, value in ENTRY.items() if name != key}
    assert message(run, [ENTRY, ENTRY, rest]) == f"2.{key} is missing"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": {"auc": "0.7"}}, '0.metrics.auc is "0.7"; input should be a valid number'),
        ({"metrics": {"auc": True}}, "0.metrics.auc is true; input should be a valid number"),
        ({"metrics": {**ENTRY["metrics"], "auc": None}}, "0.metrics.auc is null, and undefined gives no reason"),
        ({"ci95": {**ENTRY["ci95"], "auc": None}}, "0.ci95.auc is null, and undefined gives no reason"),
        ({"metrics": []}, "0.metrics is []; input should be an object"),
        ({"ci95": {"auc": [0.4, "0.6"]}}, '0.ci95.auc.1 is "0.6"; input should be a valid number'),
        ({"ci95": {"auc": [0.4]}}, "0.ci95.auc.1 is missing"),
        ({"ci95": {"auc": [0.4, 0.5, 0.6]}}, "0.ci95.auc is [0.4, 0.5, 0.6]; tuple should have at most 2 items"),
        ({"seed": "1"}, '0.seed is "1"; input should be a valid integer'),
        ({"seed": True}, "0.seed is true; input should be a valid integer"),
        ({"epochs": 1.5}, "0.epochs is 1.5; input should be a valid integer"),
        ({"train_seconds": "2.5"}, '0.train_seconds is "2.5"; input should be a valid number'),
        ({"train_seconds": True}, "0.train_seconds is true; input should be a valid number"),
        ({"test_rows": "5"}, '0.test_rows is "5"; input should be a valid integer'),
        ({"model": 3}, "0.model is 3; input should be a valid string"),
        ({"versions": {"torch": 2}}, "0.versions.torch is 2; input should be a valid string"),
        ({"stages": {"fetch": {"seconds": "1"}}}, '0.stages.fetch.seconds is "1"; input should be a valid number'),
    ],
)
def test_a_value_of_another_type_is_refused(run, change, words):
    assert message(run, [{**ENTRY, **change}]).startswith(words)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "the value is {}; input should be a valid array"),
        (None, "the value is null; input should be a valid array"),
        ([ENTRY, 1], "1 is 1; input should be an object"),
    ],
)
def test_what_is_not_a_list_of_entries_is_refused(run, value, words):
    assert message(run, value) == words


@pytest.mark.parametrize("lacking", ["ci95", "metrics"])
def test_a_metric_without_an_interval_is_refused_and_an_interval_without_a_metric(run, lacking):
    less = {name: value for name, value in ENTRY[lacking].items() if name != "log_loss"}
    text = message(run, [ENTRY, {**ENTRY, lacking: less}])
    assert text == (
        f"1.{lacking}.log_loss is missing: every metric has an interval, and every interval a metric; "
        f"delete the file and run: {run.command('evaluate')}"
    )


def test_what_is_written_is_read_again(run):
    results = [
        Result(**{**ENTRY, "ci95": {"auc": (0.4, 0.6), "log_loss": (0.5, 0.7)}}, test_rows=7, versions={"torch": "2"}),
        Result(
            model="ease",
            protocol="leave-one-out",
            metrics={"hr@10": 0.5},
            ci95={"hr@10": (0.4, 0.6)},
            seed=1,
            epochs=0,
            train_seconds=0.0,
            samples_per_second=0,
            test_users=9,
            full_catalogue_users=8,
            stages={"fetch": {"seconds": 1.5, "peak_mb": 300}},
        ),
    ]
    write_results(run, results, "made from this")
    assert read_results(run) == results
    assert made_from(run) == "made from this"
    first, second = json.loads(run.evaluation.read_text())
    assert first == {**ENTRY, "test_rows": 7, "versions": {"torch": "2"}}
    assert second.keys() == {*REQUIRED, "test_users", "full_catalogue_users", "versions", "stages"}

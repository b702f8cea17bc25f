"""`evaluation.json`: what is in it, when it is written again, and how it is shown."""

import io
import json
import shutil

import pytest
import torch
from rich.console import Console

from marquee.errors import UserError
from marquee.manifest import read_json
from marquee.runs import MODELS, PROTOCOLS, Run
from models.comparison import RESULTS, evaluate
from models.results import comparison_tables, read_results

FIELDS = {"model", "protocol", "metrics", "ci95", "seed", "epochs", "train_seconds", "samples_per_second"}
METRICS = {
    "leave-one-out": {"auc", "hr@10", "ndcg@10", "mrr@10", "full_hr@10", "full_ndcg@10"},
    "random-split": {"auc", "log_loss"},
}
CPU = torch.device("cpu")


def no_scoring(*_: object) -> None:
    raise AssertionError("scored again")


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory) -> Run:
    """A copy of the trained run, to be written to."""
    root = tmp_path_factory.mktemp("evaluated") / trained.root.name
    shutil.copytree(trained.root, root)
    (root / "evaluation.json").unlink(missing_ok=True)
    return Run(root)


@pytest.fixture(scope="module")
def results(run) -> list[dict]:
    told = []
    found = evaluate(run, CPU, lambda by, note: told.append((by, note)))
    assert sum(by for by, _ in told) == len(told) == RESULTS
    return found


@pytest.mark.slow
def test_the_file_is_a_list_of_every_model_and_baseline(run, results):
    assert read_json(run.evaluation) == results
    pairs = [(result["protocol"], result["model"]) for result in results]
    expected = [(protocol, name) for protocol in PROTOCOLS for name in (*MODELS, "popularity")]
    assert sorted(pairs) == sorted([*expected, ("random-split", "biases")])
    assert len(pairs) == RESULTS


@pytest.mark.slow
def test_every_entry_has_the_format_s_fields(results):
    for result in results:
        assert result.keys() >= FIELDS
        names = METRICS[result["protocol"]] - ({"log_loss"} if result["model"] == "popularity" else set())
        assert result["metrics"].keys() == result["ci95"].keys() == names
        for name, (low, high) in result["ci95"].items():
            assert low <= result["metrics"][name] <= high
            assert 0 <= result["metrics"][name] <= 1 or name == "log_loss"
        assert isinstance(result["seed"], int)
        if result["model"] in MODELS:
            assert result["epochs"] == 2
            assert result["train_seconds"] > 0
            assert result["samples_per_second"] > 0
        else:
            assert result["epochs"] == result["train_seconds"] == result["samples_per_second"] == 0


@pytest.mark.slow
def test_an_entry_says_how_its_model_was_trained(run, results):
    for result in results:
        if result["model"] in MODELS:
            config = read_json(run.model(result["protocol"], result["model"]) / "config.json")
            for name in ("seed", "epochs", "train_seconds", "samples_per_second"):
                assert result[name] == config[name]


@pytest.mark.slow
def test_all_models_answer_the_same_questions(results):
    for protocol in PROTOCOLS:
        judged = [
            {name: result.get(name) for name in ("test_users", "full_catalogue_users", "test_rows")}
            for result in results
            if result["protocol"] == protocol
        ]
        assert all(one == judged[0] for one in judged)


@pytest.mark.slow
def test_the_same_again_scores_nothing(run, results):
    before = run.evaluation.stat().st_mtime_ns
    assert evaluate(run, CPU, no_scoring) == results
    assert run.evaluation.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_file_edited_by_hand_is_written_again(run, results):
    edited = json.loads(run.evaluation.read_text())
    edited[0]["metrics"]["hr@10"] = 1.0
    run.evaluation.write_text(json.dumps(edited))
    assert evaluate(run, CPU, lambda *_: None) == results
    assert read_json(run.evaluation) == results


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_file_that_is_gone_or_broken_is_written_again(run, results, content):
    if content is None:
        run.evaluation.unlink()
    else:
        run.evaluation.write_text(content)
    assert evaluate(run, CPU, lambda *_: None) == results
    assert read_json(run.evaluation) == results


@pytest.mark.slow
def test_a_changed_model_is_refused(run, results, tmp_path):
    shutil.copytree(run.root, tmp_path / run.root.name)
    copy = Run(tmp_path / run.root.name)
    weights = copy.model("random-split", "ncf") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"weights\.safetensors has changed"):
        evaluate(copy, CPU, no_scoring)
    assert read_json(copy.evaluation) == results


@pytest.mark.slow
def test_the_tables_show_every_result(run, results):
    text = io.StringIO()
    console = Console(file=text, width=200)
    tables = comparison_tables(run)
    for table in tables:
        console.print(table)
    assert [table.row_count for table in tables] == [3, 4]
    for result in results:
        name = {"leave-one-out": "ndcg@10", "random-split": "auc"}[result["protocol"]]
        low, high = result["ci95"][name]
        value, half = f"{result['metrics'][name]:.3f}", f"{(high - low) / 2:.3f}".removeprefix("0")
        rows = [line for line in text.getvalue().splitlines() if result["model"] in line]
        assert any(value in line and half in line for line in rows)
    (popularity,) = [line for line in text.getvalue().split("random-split")[1].splitlines() if "popularity" in line]
    assert " - " in popularity  # no log loss
    assert "none" in popularity  # no training


@pytest.mark.slow
def test_evaluating_before_training_is_refused(prepared):
    if prepared.model("random-split", "ncf").exists():
        prepared = Run(prepared.root.parent / "not trained")
    with pytest.raises(UserError, match="missing or incomplete"):
        evaluate(prepared, CPU, no_scoring)


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["{", "null", "3", '"results"', "{}", "[1]", "[[]]", "[{}]", '[{"model": "dlrm"}]'])
def test_rubbish_is_refused(tmp_path, content):
    run = Run(tmp_path)
    run.evaluation.write_text(content)
    for reader in (read_results, comparison_tables):
        with pytest.raises(UserError, match=r"evaluation\.json"):
            reader(run)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    Run(tmp_path).evaluation.write_bytes(b"\xff\xfe\x00[")
    with pytest.raises(UserError, match=r"evaluation\.json"):
        read_results(Run(tmp_path))


@pytest.mark.parametrize(
    "change", [{"metrics": None}, {"metrics": []}, {"ci95": {}}, {"ci95": None}, {"train_seconds": "x", "epochs": 1}]
)
def test_an_entry_with_a_field_of_another_kind_is_refused(tmp_path, change):
    entry = {
        "model": "dlrm", "protocol": "random-split", "metrics": {"auc": 0.5}, "ci95": {"auc": [0.4, 0.6]}, "seed": 1,
        "epochs": 1, "train_seconds": 2.0, "samples_per_second": 3,
    }  # fmt: skip
    run = Run(tmp_path)
    run.evaluation.write_text(json.dumps([entry]))
    assert comparison_tables(run)[1].row_count == 1
    run.evaluation.write_text(json.dumps([{**entry, **change}]))
    with pytest.raises(UserError, match=r"evaluation\.json"):
        comparison_tables(run)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="missing"):
        read_results(Run(tmp_path))

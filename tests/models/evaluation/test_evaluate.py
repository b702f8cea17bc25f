"""`evaluation.json`: what is in it, when it is written again, and what the tables display."""

import io
import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from core.errors import UserError
from core.json_files import read_json
from core.run_folder import Run
from marquee.result_tables import comparison_tables
from models.baselines.base import NoSettings, baselines_of
from models.evaluation.evaluate import evaluate, results_expected
from models.evaluation.results import Result, add_stages, made_from, read_results
from models.registry import baselines_for, baselines_in_run, networks_for
from models.training.settings import LARGE
from tests.names import COMPARED, DEFAULT_PROTOCOLS, NETWORKS, PROTOCOLS, RATING

FIELDS = {"model", "protocol", "metrics", "ci95", "seed", "epochs", "train_seconds", "samples_per_second"}
METRICS = {
    "leave-one-out": {"auc", "hr@10", "ndcg@10", "mrr@10", "full_hr@10", "full_ndcg@10", "full_mrr@10"},
    "random-split": {"auc", "log_loss", "ece"},
}
BASELINES = {"leave-one-out": ["ease", "als", "itemknn", "popularity"], "random-split": ["biases", "popularity"]}
RESULTS = sum(len(NETWORKS) + len(BASELINES[protocol]) for protocol in DEFAULT_PROTOCOLS)
CPU = torch.device("cpu")


def entries(run: Run) -> list[Result]:
    """`evaluation.json` as it is in the file: values that are missing are not in it."""
    found = read_json(run.evaluation)
    results = read_results(run)
    assert found == json.loads(json.dumps([{k: v for k, v in asdict(r).items() if v is not None} for r in results]))
    return results


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
def results(run) -> list[Result]:
    reported = []
    assert evaluate(run, CPU, lambda by, note: reported.append((by, note))) is True
    assert sum(by for by, _ in reported) == len(reported) == results_expected(run) == RESULTS
    return read_results(run)


@pytest.mark.slow
def test_the_file_is_a_list_of_every_model_and_baseline(run, results):
    assert entries(run) == results
    pairs = [(result.protocol, result.model) for result in results]
    assert pairs == [(protocol, name) for protocol in DEFAULT_PROTOCOLS for name in (*NETWORKS, *BASELINES[protocol])]
    assert len(pairs) == RESULTS


@pytest.mark.slow
def test_every_entry_has_the_format_s_fields(results):
    for result in results:
        assert asdict(result).keys() >= FIELDS
        names = METRICS[result.protocol] - ({"log_loss", "ece"} if result.model == "popularity" else set())
        assert result.metrics.keys() == result.ci95.keys() == names
        for name, (low, high) in result.ci95.items():
            assert low <= result.metrics[name] <= high
            assert 0 <= result.metrics[name] <= 1 or name == "log_loss"
        assert isinstance(result.seed, int)
        if result.model in NETWORKS:
            assert result.epochs == 2
            assert result.train_seconds > 0
            assert result.samples_per_second > 0
        else:
            assert result.epochs == result.train_seconds == result.samples_per_second == 0


@pytest.mark.slow
def test_an_entry_says_how_its_model_was_trained(run, results):
    for result in results:
        if result.model in NETWORKS:
            config = read_json(run.model(result.protocol, result.model) / "config.json")
            for name in ("seed", "epochs", "train_seconds", "samples_per_second"):
                assert getattr(result, name) == config[name]


@pytest.mark.slow
def test_all_models_answer_the_same_questions(results):
    for protocol in DEFAULT_PROTOCOLS:
        judged = [
            {name: getattr(result, name) for name in ("test_users", "full_catalogue_users", "test_rows")}
            for result in results
            if result.protocol == protocol
        ]
        assert all(one == judged[0] for one in judged)
        asked = {name for name, count in judged[0].items() if count}
        ranked = {"test_users", "full_catalogue_users"}
        assert asked == (ranked if protocol == "leave-one-out" else {"test_rows"})


@pytest.mark.slow
def test_the_same_again_scores_nothing(run, results):
    before = run.evaluation.stat().st_mtime_ns
    assert evaluate(run, CPU, no_scoring) is False
    assert run.evaluation.stat().st_mtime_ns == before
    assert entries(run) == results


@pytest.mark.slow
def test_a_file_edited_by_hand_is_written_again(run, results):
    edited = json.loads(run.evaluation.read_text())
    edited[0]["metrics"]["hr@10"] = 1.0
    run.evaluation.write_text(json.dumps(edited))
    assert evaluate(run, CPU, lambda *_: None) is True
    assert entries(run) == results


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_file_that_is_gone_or_broken_is_written_again(run, results, content):
    if content is None:
        run.evaluation.unlink()
    else:
        run.evaluation.write_text(content)
    assert evaluate(run, CPU, lambda *_: None) is True
    assert entries(run) == results


@pytest.mark.slow
def test_a_changed_model_is_refused(run, results, tmp_path):
    shutil.copytree(run.root, tmp_path / run.root.name)
    copy = Run(tmp_path / run.root.name)
    weights = copy.model("random-split", "ncf") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"weights\.safetensors has changed"):
        evaluate(copy, CPU, no_scoring)
    assert entries(copy) == results


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["models/leave-one-out/dlrm/weights.safetensors", "features/leave-one-out/schema"])
def test_what_has_changed_is_never_scored(run, results, tmp_path, changed):
    shutil.copytree(run.root, tmp_path / run.root.name)
    copy = Run(tmp_path / run.root.name)
    copy.evaluation.unlink()
    (path,) = copy.root.glob(f"{changed}*")
    path = next(part for part in (path, *path.rglob("*")) if part.is_file())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{path.name} has changed"):
        evaluate(copy, CPU, no_scoring)
    assert not copy.evaluation.exists()


@pytest.mark.slow
def test_the_tables_display_every_result(run, results):
    text = io.StringIO()
    console = Console(file=text, width=200)
    tables = comparison_tables(run)
    for table in tables:
        console.print(table)
    assert [table.row_count for table in tables] == [7, 5]
    for result in results:
        name = {"leave-one-out": "ndcg@10", "random-split": "auc"}[result.protocol]
        low, high = result.ci95[name]
        value, half = f"{result.metrics[name]:.3f}", f"{(high - low) / 2:.3f}".removeprefix("0")
        rows = [line for line in text.getvalue().splitlines() if result.model in line.split()]
        assert any(value in line and half in line for line in rows)
    (popularity,) = [line for line in text.getvalue().split("random-split")[1].splitlines() if "popularity" in line]
    assert " - " in popularity  # no log loss
    assert "none" in popularity  # no training


@pytest.mark.slow
def test_evaluating_before_training_is_refused(prepared):
    if prepared.model("random-split", "ncf").exists():
        prepared = Run(prepared.root.parent / "not trained")
    for ask in (results_expected, lambda run: evaluate(run, CPU, no_scoring)):
        with pytest.raises(UserError, match=r"no model is trained.*python -m marquee train"):
            ask(prepared)


@pytest.mark.slow
def test_a_protocol_with_one_of_the_two_models_is_judged_and_without_any_left_out(run, results, tmp_path):
    shutil.copytree(run.root, tmp_path / run.root.name)
    copy = Run(tmp_path / run.root.name)
    shutil.rmtree(copy.model("random-split", "ncf"))
    assert evaluate(copy, CPU, lambda *_: None) is True
    left = [result for result in results if (result.protocol, result.model) != ("random-split", "ncf")]
    assert read_results(copy) == left
    assert [table.row_count for table in comparison_tables(copy)] == [7, 4]
    manifest = copy.model("random-split", "dlrm") / "manifest.json"
    manifest.rename(manifest.with_name("moved"))
    with pytest.raises(UserError, match="missing or incomplete"):
        evaluate(copy, CPU, no_scoring)
    shutil.rmtree(copy.model("random-split", "ncf").parent)
    assert evaluate(copy, CPU, lambda *_: None) is True
    assert read_results(copy) == [result for result in results if result.protocol == "leave-one-out"]
    assert [table.row_count for table in comparison_tables(copy)] == [7]


@pytest.mark.slow
def test_star_prediction_is_judged_where_it_was_trained(run, results, tmp_path):
    from models.training.settings import settings_for
    from models.training.train import train

    shutil.copytree(run.root, tmp_path / run.root.name)
    copy = Run(tmp_path / run.root.name)
    for name in COMPARED:  # the baseline may be left out
        settings = settings_for(RATING, name, epochs=2, batch_size=256)
        train(copy, RATING, name, settings, CPU, lambda *_: None)
    reported = []
    assert evaluate(copy, CPU, lambda by, note: reported.append(by)) is True
    found = read_results(copy)
    assert len(reported) == results_expected(copy) == len(found)
    assert found[: len(results)] == results
    stars = found[len(results) :]
    assert [result.model for result in stars] == [*COMPARED, "knn", "svd", "biases"]
    for result in stars:
        assert result.protocol == RATING
        assert result.metrics.keys() == result.ci95.keys() == {"rmse", "mae"}
        assert 0.2 < result.metrics["mae"] < result.metrics["rmse"] < 1.2
        for name, (low, high) in result.ci95.items():
            assert low <= result.metrics[name] <= high
    assert [table.row_count for table in comparison_tables(copy)] == [7, 5, 5]


@pytest.mark.slow
def test_what_run_can_do_without_is_left_out_where_it_is_of_other_features(run, results, tmp_path):
    """`run` trains neither the baseline on large data nor star prediction: what an old one left must not stop it."""
    shutil.copytree(run.root, tmp_path / run.root.name)
    copy = Run(tmp_path / run.root.name)
    shutil.copytree(copy.model("random-split", "dlrm"), copy.model(RATING, "dlrm"))
    for folder in (copy.model("random-split", "mf"), copy.model(RATING, "dlrm")):
        manifest = read_json(folder / "manifest.json")
        (folder / "manifest.json").write_text(json.dumps({**manifest, "features": "of another prepare"}))
    evaluate(copy, CPU, lambda *_: None)
    left = [(result.protocol, result.model) for result in read_results(copy)]
    assert ("random-split", "mf") not in left
    assert {protocol for protocol, _ in left} == set(DEFAULT_PROTOCOLS)
    assert len(left) == results_expected(copy) == RESULTS - 1


def test_large_data_is_spared_what_costs_too_much():
    names = {protocol: list(baselines_for(protocol, LARGE)) for protocol in PROTOCOLS}
    assert names == {"leave-one-out": ["popularity"], "random-split": ["biases", "popularity"], "rating": ["biases"]}
    for protocol in PROTOCOLS:
        found = list(baselines_for(protocol, LARGE - 1))
        assert found == [name for name in baselines_of(protocol) if name != "truth"]
        assert list(baselines_in_run(protocol, LARGE - 1)) == [name for name in found if name != "bayesian-fm"]
        assert (networks_for(protocol, LARGE - 1), networks_for(protocol, LARGE)) == (NETWORKS, COMPARED)


# -- what the stages took ----------------------------------------------------------------------------------------------

STAGES = {"fetch": {"seconds": 1.5, "peak_mb": 300}, "train": {"seconds": 60.0, "peak_mb": 900}}


@pytest.mark.slow
def test_stages_are_put_in_and_nothing_is_scored_again(run, results):
    add_stages(run, STAGES)
    assert read_results(run) == [replace(result, stages=STAGES) for result in results]
    assert evaluate(run, CPU, no_scoring) is False
    more = {**STAGES, "evaluate": {"seconds": 2.0, "peak_mb": 500}}
    add_stages(run, more)  # takes the place of those before
    assert read_results(run) == [replace(result, stages=more) for result in results]
    assert evaluate(run, CPU, no_scoring) is False
    assert [table.row_count for table in comparison_tables(run)] == [7, 5]


@pytest.mark.slow
def test_stages_do_not_make_an_edited_file_the_run_s_own(run, results):
    edited = json.loads(run.evaluation.read_text())
    edited[0]["metrics"]["hr@10"] = 1.0
    run.evaluation.write_text(json.dumps(edited))
    add_stages(run, STAGES)
    assert read_json(run.evaluation) == edited
    assert made_from(run) is None
    assert evaluate(run, CPU, lambda *_: None) is True
    assert read_results(run) == results


def test_stages_without_results_are_put_nowhere(tmp_path):
    add_stages(Run(tmp_path), STAGES)
    assert not any(tmp_path.iterdir())


# -- synthetic data ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Run:
    """A run over synthetic data, with its truth: 183 users, all six models trained for an epoch."""
    from models.baselines.truth import is_synthetic
    from models.training.settings import settings_for
    from models.training.train import train
    from workflows.features.prepare import PrepareSettings, prepare
    from workflows.sources.datasets import get_dataset
    from workflows.sources.fetch import fetch_tables
    from workflows.synthetic.synthesise import synthesise

    folder = tmp_path_factory.mktemp("data") / "synth-x"
    synthesise(folder, "ml-latest-small", 0.3, 5, lambda *_: None)
    run = Run(tmp_path_factory.mktemp("synthetic") / "synth-x")
    assert not is_synthetic(run.tables)
    fetch_tables(get_dataset("synth-x"), folder, run.tables, lambda _: None)
    assert is_synthetic(run.tables)
    for protocol in DEFAULT_PROTOCOLS:
        prepare(run, protocol, PrepareSettings(), lambda *_: None)
        for name in NETWORKS:
            settings = settings_for(protocol, name, epochs=1, batch_size=1024, refit=False)
            train(run, protocol, name, settings, CPU, lambda *_: None)
    return run


@pytest.fixture(scope="module")
def judged(synthetic) -> dict[str, dict[str, Result]]:
    """By protocol and model."""
    reported = []
    assert evaluate(synthetic, CPU, lambda by, note: reported.append((by, note))) is True
    assert (
        sum(by for by, _ in reported)
        == len(reported)
        == results_expected(synthetic)
        == RESULTS + len(DEFAULT_PROTOCOLS)
    )
    found = read_results(synthetic)
    return {
        protocol: {result.model: result for result in found if result.protocol == protocol}
        for protocol in DEFAULT_PROTOCOLS
    }


@pytest.mark.slow
def test_synthetic_data_brings_its_truth(synthetic, judged):
    for protocol in DEFAULT_PROTOCOLS:
        assert judged[protocol].keys() == {*NETWORKS, *BASELINES[protocol], "truth"}
    for protocol, metrics in METRICS.items():
        truth = judged[protocol]["truth"]
        assert asdict(truth).keys() >= FIELDS
        # what is likely to be watched is ranked by; what is liked has a probability
        assert truth.metrics.keys() == truth.ci95.keys() == metrics
        assert truth.epochs == truth.train_seconds == truth.samples_per_second == 0
    assert [table.row_count for table in comparison_tables(synthetic)] == [8, 6]
    assert evaluate(synthetic, CPU, no_scoring) is False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "metric"),
    [("leave-one-out", "hr@10"), ("leave-one-out", "ndcg@10"), ("leave-one-out", "auc"), ("random-split", "auc")],
)
def test_nothing_beats_the_truth(judged, protocol, metric):
    values = {name: result.metrics[metric] for name, result in judged[protocol].items()}
    truth = values.pop("truth")
    assert max(values.values()) < truth


@pytest.mark.slow
def test_nothing_has_a_lower_log_loss_than_the_truth(judged):
    results = judged["random-split"].values()
    losses = {result.model: result.metrics.get("log_loss", float("inf")) for result in results}
    truth = losses.pop("truth")
    assert truth < min(losses.values())


@pytest.mark.slow
def test_the_truth_is_as_good_as_its_makers_say(synthetic, judged):
    summary = read_json(synthetic.tables / "synth.json")
    found = judged["leave-one-out"]
    assert found["truth"].metrics["hr@10"] == pytest.approx(summary["best"]["hr@10"], abs=0.07)
    assert found["truth"].metrics["ndcg@10"] == pytest.approx(summary["best"]["ndcg@10"], abs=0.07)
    assert judged["random-split"]["truth"].metrics["auc"] == pytest.approx(summary["best"]["auc"], abs=0.03)
    assert found["popularity"].metrics["hr@10"] == pytest.approx(summary["popularity"]["hr@10"], abs=0.1)


@pytest.mark.slow
def test_the_truth_scores_by_movielens_ids(synthetic):
    """An index that meant another user or movie would still give a score."""
    from models.data.load import load_features
    from models.registry import fit_baseline
    from workflows.synthetic.truth import load_truth

    truth = load_truth(synthetic.tables)
    for protocol, true_score in (("leave-one-out", truth.watch), ("random-split", truth.like)):
        features = load_features(synthetic, protocol)
        ids = {
            kind: pd.read_parquet(features.folder / "vocabulary" / f"{kind}_id.parquet").set_index("index")[
                f"{kind}_id"
            ]
            for kind in ("user", "movie")
        }
        rng = np.random.default_rng(0)
        user, movie = rng.choice(ids["user"].index, 500), rng.choice(features.catalogue, 500)
        scorer = fit_baseline("truth", features, ("train",), NoSettings(), 0, synthetic.tables)
        found = scorer(user, movie)
        expected = true_score(ids["user"][user].to_numpy(), ids["movie"][movie].to_numpy())
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert found.dtype == np.float32


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["{", "null", "3", '"results"', "{}", "[1]", "[[]]", "[{}]", '[{"model": "dlrm"}]'])
def test_what_is_not_a_list_of_results_is_refused(tmp_path, content):
    run = Run(tmp_path)
    run.evaluation.write_text(content)
    for reader in (read_results, comparison_tables):
        with pytest.raises(UserError, match=r"evaluation\.json"):
            reader(run)


def test_bytes_that_are_not_text_are_refused(tmp_path):
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
    assert [table.row_count for table in comparison_tables(run)] == [1]
    run.evaluation.write_text(json.dumps([{**entry, **change}]))
    with pytest.raises(UserError, match=r"evaluation\.json"):
        comparison_tables(run)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="missing"):
        read_results(Run(tmp_path))

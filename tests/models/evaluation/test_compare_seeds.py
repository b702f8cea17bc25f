"""Several seeds of everything: means, intervals, and a verdict on DLRM and NCF."""

import json
import re
from itertools import combinations

import numpy as np
import pytest
import torch

from core.artifacts import read_manifest
from core.errors import UserError
from core.run_folder import Run
from marquee.app import main
from models.data.load import load_features
from models.evaluation import compare_seeds as seeds
from models.evaluation import comparison_file
from models.evaluation.judgement import PerUser, judge_rows
from models.evaluation.pairs import all_pairs, as_json, sentences
from models.evaluation.summaries import summary
from models.protocols.base import PROTOCOLS as REGISTERED
from models.registry import baselines_for
from tests.names import NETWORKS, PROTOCOLS, networks_of

CPU = torch.device("cpu")
NETWORK_SETTINGS = {
    "dlrm": {"dim": 8, "top": [8], "bottom": [8], "history": 2},
    "ncf": {"dim": 8, "top": [8]},
    "sasrec": {"dim": 8, "history": 4, "blocks": 1},
    "mf": {"dim": 8},
    "svdpp": {"dim": 8, "history": 2},
    "fism": {"dim": 8, "history": 2},
    "dlrm-rated-sets": {"dim": 8, "top": [8], "bottom": [8], "history": 2},
    "ncf-history": {"dim": 8, "top": [8], "history": 2},
    "dlrm-without-history": {"dim": 8, "top": [8], "bottom": [8]},
}


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory) -> Run:
    """The shared features, with settings that train in no time in the place where `tune` would put its own."""
    root = tmp_path_factory.mktemp("seeds") / "ml-latest-small"
    root.mkdir()
    for name in ("tables", "features"):
        (root / name).symlink_to(getattr(prepared, name))
    run = Run(root)
    for protocol in PROTOCOLS:
        for name in networks_of(protocol):
            folder = run.tuning(protocol, name)
            folder.mkdir(parents=True)
            settings = {
                "network": NETWORK_SETTINGS[name],
                "epochs": 2 if name in NETWORKS else 1,
                "averaging": 0.9,
                "refit": name in NETWORKS,
                "batch_size": 256,
            }
            (folder / "best.json").write_text(json.dumps({"settings": settings}))
    return run


@pytest.fixture(scope="module")
def compared(run, tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("out") / "comparison.json"
    arguments = ["compare", "--runs", str(run.root.parent), "--dataset", "ml-latest-small", "--seeds", "2"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--out", str(out)])
    assert stopped.value.code == 0
    return json.loads(out.read_text())


def test_everything_is_there(compared):
    assert compared["seeds"] == [42, 43]
    assert list(compared["protocols"]) == list(PROTOCOLS)
    for protocol, found in compared["protocols"].items():
        assert list(found["models"]) == [*networks_of(protocol), *baselines_for(protocol, 0)]
        assert found["trained_on"] == ["train", "valid"]
        for name, model in found["models"].items():
            count = 2 if name in (*networks_of(protocol), "als", "svd", "bayesian-fm") else 1
            for metric, values in model["per_seed"].items():
                assert len(values) == count
                assert model["metrics"][metric] == pytest.approx(np.mean(values))
                low, high = model["ci95"][metric]
                assert low <= model["metrics"][metric] <= high
            assert (model["train_seconds"] > 0) == (name in networks_of(protocol))


@pytest.mark.parametrize(
    ("protocol", "metric"), [("leave-one-out", "full_ndcg@10"), ("random-split", "auc"), ("rating", "rmse")]
)
def test_the_difference_is_that_of_the_means(compared, protocol, metric):
    assert REGISTERED[protocol].deciding == metric
    found = compared["protocols"][protocol]
    models = found["models"]
    difference = found["dlrm_minus_ncf"][metric]
    expected = models["dlrm"]["metrics"][metric] - models["ncf"]["metrics"][metric]
    assert difference["value"] == pytest.approx(expected, abs=0.002 if metric == "rmse" else 1e-9)
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert 0 <= difference["p"] <= 1
    assert re.search(r"(is better than|No difference can be told)", found["verdict"])
    assert difference["p"] <= difference["p_holm"] <= 1
    for one, other in combinations(models, 2):
        assert 0 <= found[f"{one}_minus_{other}"][metric]["p_holm"] <= 1
    assert found["pairs"] == len(models) * (len(models) - 1) // 2
    assert found["splits"] == [42]
    split = "the only split" if protocol == "leave-one-out" else "one split"
    assert f"corrected for {found['pairs']} pairs, 2 training seeds each, {split})" in found["verdict"]
    assert "practically certain" not in found["verdict"]
    assert "2 training seeds each" in found["verdict"]


def test_a_seed_that_is_trained_is_not_trained_again(run, compared):
    reported = []
    before = {path: path.stat().st_mtime_ns for path in run.root.glob("seeds/*/*/*/weights.safetensors")}
    assert len(before) == 2 * sum(len(networks_of(protocol)) for protocol in PROTOCOLS)
    again = seeds.compare(run, ("random-split",), [42, 43], CPU, lambda by, note: reported.append(by))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    one, other = (of["protocols"]["random-split"]["models"]["dlrm"] for of in (again, compared))
    assert one == other
    assert sum(reported) == seeds.steps(run, ("random-split",), 2)


def test_networks_that_are_named_are_judged_alone_beside_the_baselines(run, compared, tmp_path, capsys):
    out = tmp_path / "some.json"
    arguments = ["compare", "--runs", str(run.root.parent), "--dataset", "ml-latest-small", "--seeds", "2"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--model", "sasrec", "--model", "mf", "--protocol", "leave-one-out", "--out", str(out)])
    assert stopped.value.code == 0, capsys.readouterr().err
    found = json.loads(out.read_text())["protocols"]
    models = found["leave-one-out"]["models"]
    assert set(models) == {"mf", "sasrec", *baselines_for("leave-one-out", 0)}
    for name, one in models.items():
        assert one["metrics"] == compared["protocols"]["leave-one-out"]["models"][name]["metrics"]
    assert found["leave-one-out"]["pairs"] == len(models) * (len(models) - 1) // 2
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--model", "sasrec", "--protocol", "rating", "--out", str(out)])
    assert stopped.value.code == 2
    assert "sasrec cannot be trained for rating" in capsys.readouterr().err


def test_a_protocol_takes_the_place_of_its_former_results():
    found = {"dataset": "d", "seeds": [1], "protocols": {"rating": 3}}
    assert list(comparison_file.merged(found, {"rating": 1, "leave-one-out": 2})["protocols"].items()) == [
        ("leave-one-out", 2),
        ("rating", 3),
    ]
    assert comparison_file.merged(found, {}) == found


def before(run: Run, path, **changes) -> None:
    """A file with results of the rating protocol, made from what is there now, with other seeds."""
    judged = {"seeds": [1, 2, 3], **seeds.origin(run, "rating", CPU), "models": {}, "verdict": "Kept.", **changes}
    path.write_text(json.dumps({"dataset": run.root.name, "seeds": [1, 2, 3], "protocols": {"rating": judged}}))


def test_results_of_another_protocol_stay_whatever_their_seeds(run, tmp_path):
    path = tmp_path / "comparison.json"
    assert comparison_file.kept(run, path, ("leave-one-out",), CPU) == ({}, [])
    before(run, path)
    results, sentences = comparison_file.kept(run, path, ("leave-one-out",), CPU)
    assert results["rating"]["verdict"] == "Kept."
    assert sentences == [f"{path}: keeps rating as it is"]
    assert comparison_file.kept(run, path, ("rating",), CPU) == ({}, [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": "other"}, "the data have changed since"),
        ({"made_from": "other"}, "settings, code or device have changed since"),
    ],
)
def test_results_that_do_not_hold_any_more_are_dropped_with_the_reason(run, tmp_path, changes, reason):
    path = tmp_path / "comparison.json"
    before(run, path, **changes)
    assert comparison_file.kept(run, path, ("leave-one-out",), CPU) == ({}, [f"{path}: rating is dropped, as {reason}"])


def test_results_of_other_data_or_without_a_word_on_it_are_dropped(run, tmp_path):
    path = tmp_path / "comparison.json"
    for written, reason in (
        ({"dataset": run.root.name, "protocols": {"rating": {}}}, "it does not say which data it is of"),
        ({"dataset": "ml-1m", "protocols": {"rating": {}}}, "it is of the dataset ml-1m"),
        ({"dataset": run.root.name, "protocols": {"old": {}}}, "there is no such protocol"),
    ):
        path.write_text(json.dumps(written))
        results, (sentence,) = comparison_file.kept(run, path, ("leave-one-out",), CPU)
        assert results == {}
        assert sentence.endswith(reason)


def test_settings_are_part_of_what_results_are_made_from(run):
    first = seeds.origin(run, "rating", CPU)
    path = run.tuning("rating", "mf") / "best.json"
    found = path.read_text()
    path.write_text(found.replace('"epochs": 2', '"epochs": 3'))
    second = seeds.origin(run, "rating", CPU)
    path.write_text(found)
    assert first["data"] == second["data"]
    assert first["made_from"] != second["made_from"]
    assert seeds.origin(run, "rating", CPU) == first


@pytest.mark.parametrize("text", ["[]", '{"protocols": 3}', '{"protocols": {"rating": 3}}'])
def test_a_file_of_another_kind_is_refused(run, tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not what compare writes"):
        comparison_file.kept(run, path, ("rating",), CPU)


# -- nothing to compare by ---------------------------------------------------------------------------------------------


COMPARED = ("full_ndcg@10", "full_hr@10", "full_mrr@10", "hr@10", "ndcg@10")


def differences(protocol: str, judged: dict) -> dict:
    """A protocol's part of the file, of one seed and one split."""
    models = {name: summary(parts, 1) for name, parts in judged.items()}
    found = {"seeds": [1], "splits": [42], "models": models, **as_json(protocol, all_pairs(judged, protocol, 1))}
    return {**found, "verdict": sentences(protocol, found, ("dlrm", "ncf"))}


def test_one_user_is_too_few_to_compare_by():
    judged = {
        name: [[PerUser({metric: np.array([value]) for metric in COMPARED})]]
        for name, value in (("dlrm", 1.0), ("ncf", 0.0))
    }
    found = differences("leave-one-out", judged)
    reason = "an interval over users needs at least two users"
    nothing = {"value": None, "low": None, "high": None, "p": None, "undefined": reason}
    assert found["dlrm_minus_ncf"] == dict.fromkeys(COMPARED, nothing)
    assert found["pairs"] == 0
    assert found["verdict"] == f"DLRM and NCF cannot be compared by NDCG@10 among all movies: {reason}."
    one = summary(judged["dlrm"], 1)
    assert one["metrics"]["hr@10"] == 1
    assert one["ci95"] == dict.fromkeys(COMPARED)
    assert one["undefined"] == {"ci95": reason}


def test_rows_of_one_label_are_nothing_to_compare_by():
    rows = [[judge_rows("classification", np.ones(4), np.array([0.2, 0.4, 0.6, 0.8]), np.array([0, 0, 1, 1]))]]
    found = differences("random-split", {"dlrm": rows, "ncf": rows})
    assert found["verdict"] == "DLRM and NCF cannot be compared by AUC: the rows all have the same label."
    both = summary(rows * 2, 1)
    assert both["metrics"]["auc"] is both["ci95"]["auc"] is None
    assert both["per_seed"]["auc"] == [None, None]
    assert both["metrics"]["log_loss"] > 0
    assert json.dumps([found, both], allow_nan=False)


def test_users_who_are_left_out_are_counted_in_the_results_over_seeds():
    judged = [[PerUser({"hr@10": np.array([0.0, value])}, left_out=3, others=(12, 40))] for value in (0.0, 1.0)]
    found = summary(judged, 0)
    assert found["metrics"]["hr@10"] == 0.25
    assert found["left_out"] == {"test_users": 3}
    assert found["others"] == (12, 40)


# -- differences -------------------------------------------------------------------------------------------------------


def test_the_interval_is_of_each_user_s_mean_over_the_seeds():
    values = [np.array([0.0, 1.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])]
    judged = [[PerUser({"hr@10": value})] for value in values]
    found = summary(judged, 0)
    assert found["metrics"]["hr@10"] == 0.5
    assert found["ci95"]["hr@10"] == PerUser({"hr@10": np.array([0.5, 0.5, 1.0, 0.0])}).intervals(0)["hr@10"]


def test_the_same_models_do_not_differ():
    owner = np.repeat(np.arange(4), 5)
    rng = np.random.default_rng(0)
    score, label = rng.random(20), np.tile([0.0, 1.0], 10)
    rows = [[judge_rows("classification", label, score, owner)]]
    found = differences("random-split", {"dlrm": rows, "ncf": rows})
    assert found["dlrm_minus_ncf"]["auc"]["value"] == 0
    assert found["verdict"].startswith("No difference")
    stars = {
        "dlrm": [[judge_rows("rating", label, score, owner)]],
        "ncf": [[judge_rows("rating", label, label, owner)]],
    }
    better = differences("rating", stars)
    assert better["verdict"].startswith("NCF is better than DLRM")


# -- any pair, and several splits --------------------------------------------------------------------------------------


def asked(run: Run, capsys, *arguments: str) -> tuple[int, str]:
    """The exit code and the output, in one line, of `compare` for the run."""
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "--runs", str(run.root.parent), "--dataset", "ml-latest-small", *arguments])
    told = capsys.readouterr()
    return stopped.value.code, " ".join((told.out + told.err).split())


@pytest.fixture(scope="module")
def over_two_splits(run, tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("out") / "splits.json"
    arguments = ["--dataset", "ml-latest-small", "--protocol", "both", "--seeds", "2", "--splits", "2"]
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "--runs", str(run.root.parent), *arguments, "--out", str(out)])
    assert stopped.value.code == 0
    return json.loads(out.read_text())["protocols"]


def test_a_random_split_is_varied_and_the_only_one_is_not(compared, over_two_splits):
    same = over_two_splits["leave-one-out"]
    assert same == compared["protocols"]["leave-one-out"]
    assert same["splits"] == [42]
    varied = over_two_splits["random-split"]
    assert varied["splits"] == [42, 43]
    assert "2 training seeds each, 2 splits)" in varied["verdict"]
    for name, model in varied["models"].items():
        before = compared["protocols"]["random-split"]["models"][name]
        for metric, values in model["per_split"].items():
            assert values[0] == before["metrics"][metric]  # the first split is that of the run
            assert values[0] != values[1]
            assert model["metrics"][metric] == pytest.approx(np.mean(values))
            assert model["metrics"][metric] == pytest.approx(np.mean(model["per_seed"][metric]))
            low, high = model["ci95"][metric]
            assert low < model["metrics"][metric] < high


def test_the_other_split_has_features_of_its_own_and_keeps_the_settings_of_the_run(run, over_two_splits):
    other = run.of_split(43)
    first, second = (read_manifest(one.features_of("random-split")) for one in (run, other))
    assert (first["seed"], second["seed"]) == (42, 43)
    assert first["freq_threshold"] == second["freq_threshold"]
    assert other.tables.is_symlink()
    assert not other.tables.readlink().is_absolute()
    assert not other.features_of("leave-one-out").exists()
    parts = [set(zip(*map(np.ndarray.tolist, load_features(one, "random-split").seen("test")))) for one in (run, other)]
    assert parts[0] != parts[1]
    of_first, of_second = (
        json.loads((one.of_seed("random-split", "dlrm", 42) / "config.json").read_text())["settings"]
        for one in (run, other)
    )
    assert of_first == of_second


def test_the_steps_of_all_splits_are_counted(run):
    both = ("leave-one-out", "random-split")
    one, three = (seeds.steps(run, both, 2, {"random-split": [run] * others}) for others in (0, 2))
    assert three - one == 2 * seeds.steps(run, ("random-split",), 2)


def test_any_pair_of_models_can_be_asked_about(run, compared, tmp_path, capsys):
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(compared))
    before = path.read_text()
    code, told = asked(run, capsys, "--pair", "popularity", "als", "--out", str(path))
    assert code == 0
    assert "What will they watch next? (leave-one-out): " in told
    assert re.search(r"(is better than|No difference can be told between)", told)
    assert "NDCG@10 among all movies" in told
    assert f"corrected for {compared['protocols']['leave-one-out']['pairs']} pairs, 2 training seeds each" in told
    assert "Will they like it?" not in told  # ALS is not judged by it
    code, told = asked(run, capsys, "--pair", "mf", "dlrm", "--out", str(path))
    assert code == 0
    assert told.count("2 training seeds each") == len(PROTOCOLS)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("pair", "protocol", "words"),
    [
        (("dlrm", "no-such"), "all", "has no model 'no-such'; choose two of dlrm, ncf, "),
        (("dlrm", "dlrm"), "all", "--pair dlrm dlrm names one model twice; give two"),
        (("als", "biases"), "all", "no protocol has judged both als and biases"),
        (("dlrm", "als"), "rating", "has no model 'als'"),
    ],
)
def test_a_pair_that_is_not_there_is_refused(run, compared, tmp_path, capsys, pair, protocol, words):
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(compared))
    code, told = asked(run, capsys, "--pair", *pair, "--protocol", protocol, "--out", str(path))
    assert code == 2
    assert words in told


def test_a_pair_without_results_that_hold_is_refused(run, compared, tmp_path, capsys):
    path = tmp_path / "comparison.json"
    code, told = asked(run, capsys, "--pair", "dlrm", "ncf", "--out", str(path))
    assert code == 2
    assert f"{path} is missing; run: python -m marquee compare --dataset ml-latest-small" in told
    before(run, path, data="other")
    code, told = asked(run, capsys, "--pair", "dlrm", "ncf", "--out", str(path))
    assert code == 2
    assert "that still hold; run: python -m marquee compare" in told

"""Several seeds of everything: means, intervals, and a verdict on DLRM and NCF."""

import json
import re

import numpy as np
import pytest
import torch

from core.run_folder import Run
from marquee.app import main
from models.evaluation import compare_seeds as seeds
from models.evaluation.judgement import PerUser, judge_rows
from models.protocols.base import PROTOCOLS as REGISTERED
from models.registry import baselines_for
from tests.names import NETWORKS, PROTOCOLS

CPU = torch.device("cpu")
NETWORK_SETTINGS = {
    "dlrm": {"dim": 8, "top": [8], "bottom": [8], "history": 2},
    "ncf": {"dim": 8, "top": [8]},
    "mf": {"dim": 8},
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
        for name in NETWORKS:
            folder = run.tuning(protocol, name)
            folder.mkdir(parents=True)
            settings = {
                "network": NETWORK_SETTINGS[name],
                "epochs": 2,
                "averaging": 0.9,
                "refit": True,
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
        assert list(found["models"]) == [*NETWORKS, *baselines_for(protocol, 0)]
        assert found["trained_on"] == ["train", "valid"]
        for name, model in found["models"].items():
            count = 2 if name in (*NETWORKS, "als", "svd") else 1
            for metric, values in model["per_seed"].items():
                assert len(values) == count
                assert model["metrics"][metric] == pytest.approx(np.mean(values))
                low, high = model["ci95"][metric]
                assert low <= model["metrics"][metric] <= high
            assert (model["train_seconds"] > 0) == (name in NETWORKS)


@pytest.mark.parametrize(
    ("protocol", "metric"), [("leave-one-out", "hr@10"), ("random-split", "auc"), ("rating", "rmse")]
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
    assert "2 training seeds each" in found["verdict"]


def test_a_seed_that_is_trained_is_not_trained_again(run, compared):
    reported = []
    before = {path: path.stat().st_mtime_ns for path in run.root.glob("seeds/*/*/*/weights.safetensors")}
    assert len(before) == 2 * len(PROTOCOLS) * len(NETWORKS)
    again = seeds.compare(run, ("random-split",), [42, 43], CPU, lambda by, note: reported.append(by))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    one, other = (of["protocols"]["random-split"]["models"]["dlrm"] for of in (again, compared))
    assert one == other
    assert sum(reported) == seeds.steps(run, ("random-split",), 2)


def test_a_protocol_takes_the_place_of_its_former_results(tmp_path):
    path = tmp_path / "found.json"
    old = {"dataset": "d", "seeds": [1], "protocols": {"rating": 1, "leave-one-out": 2}}
    path.write_text(json.dumps(old))
    new = {"dataset": "d", "seeds": [1], "protocols": {"rating": 3}}
    assert seeds.merged(path, new)["protocols"] == {"leave-one-out": 2, "rating": 3}
    assert seeds.merged(path, {**new, "seeds": [1, 2]})["protocols"] == {"rating": 3}
    assert seeds.merged(tmp_path / "none.json", new) == new


def test_the_interval_is_of_each_user_s_mean_over_the_seeds():
    values = [np.array([0.0, 1.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])]
    judged = [[PerUser({"hr@10": value})] for value in values]
    found = seeds.summary(judged, 0)
    assert found["metrics"]["hr@10"] == 0.5
    assert found["ci95"]["hr@10"] == PerUser({"hr@10": np.array([0.5, 0.5, 1.0, 0.0])}).intervals(0)["hr@10"]


def test_the_same_models_do_not_differ():
    owner = np.repeat(np.arange(4), 5)
    rng = np.random.default_rng(0)
    score, label = rng.random(20), np.tile([0.0, 1.0], 10)
    rows = [[judge_rows("classification", label, score, owner)]]
    found = seeds.differences("random-split", {"dlrm": rows, "ncf": rows}, [1])
    assert found["dlrm_minus_ncf"]["auc"]["value"] == 0
    assert found["verdict"].startswith("No difference")
    stars = {
        "dlrm": [[judge_rows("rating", label, score, owner)]],
        "ncf": [[judge_rows("rating", label, label, owner)]],
    }
    better = seeds.differences("rating", stars, [1])
    assert better["verdict"].startswith("NCF is better than DLRM")

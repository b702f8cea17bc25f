"""What is exported: when, with which details in the manifest, and which files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from core.artifacts import read_manifest, seal, verify
from core.json_files import read_json, write_json
from core.run_folder import Run
from ensemble.export import export as source
from ensemble.export.export import best_validated, export
from ensemble.export.retrieval import CANDIDATES
from ensemble.repository.versions import rollback
from ensemble.triton_models.recommendations import Recommendations
from models.training.train import CONFIG
from tests.ensemble.export.conftest import PROTOCOL, fixed_recall, other_than, refusal, state
from tests.names import COMPARED, RATING

TRITON_MODELS = ("recommend", "score", "scorer", "similar")


# -- when --------------------------------------------------------------------------------------------------------------


def test_what_is_up_to_date_stays_as_it_is(run):
    before, manifest = state(run), read_manifest(run.repository)
    assert export(run, PROTOCOL, None) == manifest
    assert state(run) == before


def test_another_default_model_is_another_version(run):
    first = read_manifest(run.repository)
    other = other_than(first["default_model"])
    second = export(run, PROTOCOL, other)
    assert second == verify(run.repository)
    assert (second["version"], second["previous"]) == (2, 1)
    assert second["default_model"] == other
    assert second["releases"]["1"] == {**first["releases"]["1"], "default_model": other_than(other)}
    for model in TRITON_MODELS:
        folders = {path.name for path in (run.repository / model).iterdir() if path.is_dir()}
        assert folders == {"1", "2"}
        for name, digest in first["files"].items():
            if name.startswith(f"{model}/1/"):
                assert second["files"][name] == digest
    for model in ("scorer", "recommend", "similar"):
        assert read_json(run.repository / model / "2" / "serving.json")["default_model"] == other
        assert read_json(run.repository / model / "1" / "serving.json")["default_model"] == other_than(other)
    for name in COMPARED:  # which one is the default changes none of a network's files
        for path in (run.repository / "recommend" / "1").glob(f"{name}.*"):
            assert second["files"][f"recommend/2/{path.name}"] == first["files"][f"recommend/1/{path.name}"]
    assert export(run, PROTOCOL, other) == second


def test_after_a_rollback_the_earlier_export_is_up_to_date(run):
    first = read_manifest(run.repository)
    export(run, PROTOCOL, other_than(first["default_model"]))
    manifest = rollback(run.repository)
    assert manifest["version"] == 1
    before = state(run)
    assert export(run, PROTOCOL, None) == manifest
    assert state(run) == before


def test_the_other_protocol_is_another_version(run):
    manifest = export(run, "random-split", None)
    assert (manifest["version"], manifest["protocol"]) == (2, "random-split")
    assert read_json(run.repository / "scorer" / "2" / "serving.json")["protocol"] == "random-split"


def test_a_changed_file_makes_a_new_export(run):
    (run.repository / "scorer" / "1" / "model.py").write_text("import evil")
    manifest = export(run, PROTOCOL, None)
    verify(run.repository)
    assert manifest["previous"] is None
    assert not list(run.repository.glob("*/1"))


def test_the_same_models_give_the_same_files(exported, run):
    shutil.rmtree(run.repository)
    export(run, PROTOCOL, None)
    serial = {"serial": read_manifest(run.repository)["serial"]}
    assert read_manifest(run.repository) == {**read_manifest(exported.repository), **serial}


def test_a_signed_export_is_signed_once(run, tmp_path):
    """Asked again, it does not push the version before out."""
    private, keys = Ed25519PrivateKey.generate(), (tmp_path / "own.pem", tmp_path / "own.pub.pem")
    keys[0].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    keys[1].write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    manifest = export(run, PROTOCOL, None, keys[0])
    assert verify(run.repository, public_key=keys[1]) == manifest
    assert manifest["version"] == 2
    before = state(run)
    assert export(run, PROTOCOL, None, keys[0]) == manifest
    assert export(run, PROTOCOL, None) == manifest
    assert state(run) == before


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_model_that_was_changed_is_not_exported(run):
    weights = run.model(PROTOCOL, "ncf") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    assert str(weights) in refusal(run, PROTOCOL, None)


def test_no_file_is_named_by_what_a_configuration_says(run):
    """Whoever can write there could have a file written anywhere."""
    folder = run.model(PROTOCOL, "dlrm")
    manifest = read_manifest(folder)
    write_json(folder / CONFIG, {**read_json(folder / CONFIG), "model": "../../../stolen"})
    seal(folder, manifest["fingerprint"], features=manifest["features"])
    manifest = export(run, PROTOCOL, "dlrm")
    assert not list(run.root.parent.rglob("stolen*"))
    assert f"recommend/{manifest['version']}/dlrm.onnx" in manifest["files"]


def test_a_model_that_is_missing_is_not_served(run):
    """The other is exported alone; where none is trained, the message says how to train one."""
    shutil.rmtree(run.model(PROTOCOL, "dlrm"))
    assert "dlrm is not trained for leave-one-out" in refusal(run, PROTOCOL, "dlrm")
    manifest = export(run, PROTOCOL, None)
    assert manifest["default_model"] == "ncf"
    assert read_json(run.repository / "scorer" / str(manifest["version"]) / "serving.json")["models"] == ["ncf"]
    shutil.rmtree(run.model(PROTOCOL, "ncf"))
    message = refusal(run, PROTOCOL, None)
    assert "no model that can be served is trained" in message
    assert message.endswith(f"run: {run.command('train')}")


# -- details ----------------------------------------------------------------------------------------------------------


def test_the_manifest_says_what_serves(exported):
    manifest = verify(exported.repository)
    assert manifest["dataset"] == "ml-latest-small"
    assert manifest["protocol"] == PROTOCOL
    assert manifest["strategy"] == "exact"  # of so few movies
    assert manifest["candidates"] == CANDIDATES == 500
    assert manifest["recall@10"] == 1.0  # 500 of 120 movies miss none
    assert (manifest["version"], manifest["previous"]) == (1, None)
    assert manifest["networks"] == {name: {"strategy": "exact", "recall@10": 1.0} for name in COMPARED}
    details = {"dataset", "protocol", "default_model", "strategy", "candidates", "recall@10", "networks", "fingerprint"}
    assert manifest["releases"] == {"1": {name: manifest[name] for name in details}}


def test_the_default_is_the_model_that_validated_better(exported):
    value = {
        name: read_json(exported.model(PROTOCOL, name) / "config.json")["validation"]["full_ndcg@10"]
        for name in COMPARED
    }
    assert value[read_manifest(exported.repository)["default_model"]] == max(value.values())


@pytest.mark.parametrize(
    ("protocol", "metric", "more_is_better"),
    [(PROTOCOL, "full_ndcg@10", True), ("random-split", "auc", True), (RATING, "rmse", False)],
)
@pytest.mark.parametrize("values", [(0.7, 0.8), (0.8, 0.7)])
def test_the_best_is_by_the_metric_that_validation_chooses_by(
    exported, tmp_path, protocol, metric, more_is_better, values
):
    own = Run(tmp_path)
    for name, value in zip(COMPARED, values):
        own.model(protocol, name).mkdir(parents=True)
        config = read_json(exported.model(PROTOCOL, name) / CONFIG)
        write_json(own.model(protocol, name) / CONFIG, {**config, "validation": {"auc": 0.5, metric: value}})
    largest, smallest = (COMPARED[values.index(of(values))] for of in (max, min))
    assert best_validated(own, protocol, COMPARED) == (largest if more_is_better else smallest)


@pytest.mark.parametrize(
    ("least_movies", "recall", "strategy"),
    [(120, 0.95, "two-stage"), (121, 0.95, "exact"), (120, 0.9499, "exact"), (100, 1.0, "two-stage")],
)
def test_two_stages_are_the_default_of_many_movies_where_few_of_the_best_are_missed(
    run, monkeypatch, least_movies, recall, strategy
):
    monkeypatch.setattr(source, "LEAST_MOVIES", least_movies)
    monkeypatch.setattr(source, "fit_retrieval", fixed_recall(recall))
    served = read_manifest(run.repository)["default_model"]
    manifest = export(run, PROTOCOL, COMPARED[1 - COMPARED.index(served)])
    assert (manifest["strategy"], manifest["recall@10"]) == (strategy, recall)
    assert read_json(run.repository / "recommend" / "2" / "serving.json")["strategy"] == strategy


def test_each_network_has_the_strategy_that_its_own_recall_allows(run, monkeypatch):
    """One of the two first stages misses too much."""
    other = other_than(read_manifest(run.repository)["default_model"])
    monkeypatch.setattr(source, "LEAST_MOVIES", 120)
    fits = iter([fixed_recall(0.9 if name == other else 0.96) for name in COMPARED])
    monkeypatch.setattr(source, "fit_retrieval", lambda *given, **named: next(fits)(*given, **named))
    manifest = export(run, PROTOCOL, other)
    expected = {name: {"strategy": "two-stage", "recall@10": 0.96} for name in COMPARED}
    expected[other] = {"strategy": "exact", "recall@10": 0.9}
    assert manifest["networks"] == expected
    assert (manifest["strategy"], manifest["recall@10"]) == ("exact", 0.9)
    found = Recommendations(run.repository / "recommend" / "2").rankings
    assert {name: ranking.strategy for name, ranking in found.items()} == {
        name: one["strategy"] for name, one in expected.items()
    }


# -- files -------------------------------------------------------------------------------------------------------------


def test_nothing_in_a_repository_needs_to_be_unpickled(exported):
    kinds = {path.suffix for path in exported.repository.rglob("*") if path.is_file()}
    assert kinds == {".json", ".md", ".npy", ".npz", ".onnx", ".parquet", ".pbtxt", ".py"}
    for path in [*exported.repository.rglob("*.npy"), *exported.repository.rglob("*.npz")]:
        arrays = np.load(path, allow_pickle=False)
        for values in arrays.values() if isinstance(arrays, np.lib.npyio.NpzFile) else [arrays]:
            assert values.dtype != object


def test_the_run_that_is_exported_is_left_alone(exported, run):
    def others(of: Run) -> dict[Path, bytes]:
        return {
            path.relative_to(of.root): path.read_bytes()
            for path in of.root.rglob("*")
            if path.is_file() and of.repository not in path.parents
        }

    export(run, "random-split", None)
    assert others(run) == others(exported)

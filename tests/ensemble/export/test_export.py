"""What is exported: when, which facts, which files, and that nothing is where it would answer otherwise."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from ensemble.export.cut import cut
from google.protobuf import text_format
from models.networks.scoring import scorer
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from core.artifacts import read_manifest, verify
from core.errors import UserError
from core.json_files import read_json, write_json
from core.run_folder import Run
from ensemble.export import export as source
from ensemble.export.export import configs, export
from ensemble.export.retrieval import CANDIDATES
from ensemble.repository.versions import rollback
from models.data.features import load_features
from models.training.train import load
from tests.names import COMPARED, RATING

TRITON_MODELS = ("recommend", "score", "scorer", "similar")
PROTOCOL = "leave-one-out"


@pytest.fixture
def run(exported, tmp_path) -> Run:
    """A copy of the exported run, to be changed."""
    shutil.copytree(exported.root, tmp_path / exported.root.name)
    return Run(tmp_path / exported.root.name)


def state(run: Run) -> dict[str, int]:
    """Every file of the repository, and when it was last written."""
    return {str(path.relative_to(run.root)): path.stat().st_mtime_ns for path in run.repository.rglob("*")}


def refusal(*arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        export(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def other_than(name: str) -> str:
    return COMPARED[1 - COMPARED.index(name)]


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
    assert {path.name for path in (run.repository / "recommend" / "2").glob("*.onnx")} == {
        f"{other}.onnx",
        "retrieval.onnx",
    }
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


def test_a_file_that_was_changed_is_exported_anew(run):
    (run.repository / "scorer" / "1" / "model.py").write_text("import evil")
    manifest = export(run, PROTOCOL, None)
    verify(run.repository)
    assert manifest["previous"] is None
    assert not list(run.repository.glob("*/1"))


def test_the_same_models_give_the_same_files(exported, run):
    shutil.rmtree(run.repository)
    export(run, PROTOCOL, None)
    assert read_manifest(run.repository) == read_manifest(exported.repository)


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


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("table", ["users", "vectors", "hidden"])
def test_a_network_that_scores_otherwise_is_not_exported(run, monkeypatch, name, table):
    """One table of one of the two models, a little off."""

    def wrong(model, users: int, movies: int):
        sides = cut(model, users, movies)
        if model.uses_features == (name == "dlrm"):
            getattr(sides, table)[:] += 0.1
        return sides

    monkeypatch.setattr(source, "cut", wrong)
    before = state(run)
    message = refusal(run, PROTOCOL, other_than(read_manifest(run.repository)["default_model"]))
    assert f"the exported {name} score up to" in message
    assert "nothing was exported" in message
    assert state(run) == before
    assert not list(run.root.glob(".repository*"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_scores_nothing_is_not_exported(run, monkeypatch, value):
    def wrong(model, users: int, movies: int):
        sides = cut(model, users, movies)
        sides.users[5:] = value
        return sides

    monkeypatch.setattr(source, "cut", wrong)
    monkeypatch.setattr(source, "fit_retrieval", fixed_recall(1.0))
    assert "nothing was exported" in refusal(run, PROTOCOL, "dlrm")


def test_recommendations_that_score_otherwise_are_not_exported(run, monkeypatch):
    """The head for pairs is right, the one for a single user is not."""

    def wrong(model, users: int, movies: int):
        sides = cut(model, users, movies)
        bad = cut(model, users, movies).head
        with torch.no_grad():
            bad.offset = bad.offset + 1e-3
        object.__setattr__(sides.head, "for_one_user", bad.for_one_user)
        return sides

    monkeypatch.setattr(source, "cut", wrong)
    (run.repository / "manifest.json").unlink()  # or the one that serves would be up to date
    for name in COMPARED:
        before = state(run)
        assert f"the exported {name}'s recommendations score up to" in refusal(run, PROTOCOL, name)
        assert state(run) == before


def test_a_model_that_was_changed_is_not_exported(run):
    weights = run.model(PROTOCOL, "ncf") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    assert str(weights) in refusal(run, PROTOCOL, None)


def test_a_model_that_is_missing_is_asked_for(run):
    shutil.rmtree(run.model(PROTOCOL, "dlrm"))
    assert "run: python -m marquee train" in refusal(run, PROTOCOL, None)


# -- facts -------------------------------------------------------------------------------------------------------------


def fixed_recall(recall: float) -> Callable:
    """`fit_retrieval` of other sides than these, with a recall."""
    from ensemble.export.retrieval import DIM, Query, Retrieval, Tower

    def fit(sides, users: range, first_movie: int, *_) -> Retrieval:
        rows = torch.rand(3, sides.users.shape[1], generator=torch.Generator().manual_seed(0))
        vectors = np.zeros((len(sides.vectors) - first_movie, DIM), np.float32)
        return Retrieval(Query(Tower(rows)), vectors, recall)

    return fit


def test_the_manifest_says_what_serves(exported):
    manifest = verify(exported.repository)
    assert manifest["dataset"] == "ml-latest-small"
    assert manifest["protocol"] == PROTOCOL
    assert manifest["strategy"] == "exact"  # of so few movies
    assert manifest["candidates"] == CANDIDATES == 500
    assert manifest["recall@10"] == 1.0  # 500 of 120 movies miss none
    assert (manifest["version"], manifest["previous"]) == (1, None)
    facts = {"dataset", "protocol", "default_model", "strategy", "candidates", "recall@10", "fingerprint"}
    assert manifest["releases"] == {"1": {fact: manifest[fact] for fact in facts}}


def test_the_default_is_the_model_that_validated_better(exported):
    value = {
        name: read_json(exported.model(PROTOCOL, name) / "config.json")["validation"]["ndcg@10"] for name in COMPARED
    }
    assert value[read_manifest(exported.repository)["default_model"]] == max(value.values())


@pytest.mark.parametrize(
    ("protocol", "metric", "more_is_better"),
    [(PROTOCOL, "ndcg@10", True), ("random-split", "auc", True), (RATING, "rmse", False)],
)
@pytest.mark.parametrize("values", [(0.7, 0.8), (0.8, 0.7)])
def test_better_is_by_the_metric_that_validation_chooses_by(tmp_path, protocol, metric, more_is_better, values):
    own = Run(tmp_path)
    for name, value in zip(COMPARED, values):
        own.model(protocol, name).mkdir(parents=True)
        write_json(own.model(protocol, name) / "config.json", {"validation": {"auc": 0.5, metric: value}})
    largest, smallest = (COMPARED[values.index(of(values))] for of in (max, min))
    assert source._better(own, protocol) == (largest if more_is_better else smallest)


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


# -- Triton's configurations -------------------------------------------------------------------------------------------

INPUTS = {
    "score": [
        ("user_id", "TYPE_INT64", [-1], False),
        ("movie_id", "TYPE_INT64", [-1], False),
        ("model", "TYPE_STRING", [1], True),
    ],
    "recommend": [
        ("user_id", "TYPE_INT64", [1], False),
        ("k", "TYPE_INT32", [1], True),
        ("history", "TYPE_INT64", [-1], True),
        ("strategy", "TYPE_STRING", [1], True),
    ],
    "similar": [("movie_id", "TYPE_INT64", [1], False), ("k", "TYPE_INT32", [1], True)],
}
OUTPUTS = {
    "score": [("score", "TYPE_FP32", [-1]), ("known", "TYPE_BOOL", [-1])],
    "recommend": [("movie_id", "TYPE_INT64", [-1]), ("score", "TYPE_FP32", [-1]), ("known", "TYPE_BOOL", [1])],
    "similar": [("movie_id", "TYPE_INT64", [-1]), ("score", "TYPE_FP32", [-1])],
}
INPUTS["scorer"], OUTPUTS["scorer"] = INPUTS["score"], OUTPUTS["score"]


@pytest.mark.parametrize("model", TRITON_MODELS)
@pytest.mark.parametrize("version", [1, 12])
def test_a_configuration_has_the_contract_s_tensors(model, version):
    texts = configs(version)
    assert sorted(texts) == sorted(TRITON_MODELS)
    config = text_format.Parse(texts[model], ModelConfig())
    assert config.name == model
    kind = ModelConfig.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
    inputs = [(t.name, kind[t.data_type].name, list(t.dims), t.optional) for t in config.input]
    assert inputs == INPUTS[model]
    assert [(t.name, kind[t.data_type].name, list(t.dims)) for t in config.output] == OUTPUTS[model]
    assert list(config.version_policy.specific.versions) == [version]
    assert config.max_batch_size == (64 if model == "scorer" else 0)
    if model == "score":
        assert config.platform == "ensemble"
        assert not config.backend
    else:
        assert config.backend == "python"
        (group,) = config.instance_group
        assert (group.kind, group.count) == (ModelInstanceGroup.KIND_CPU, 1)


def test_score_hands_everything_on_to_the_scorer():
    texts = configs(3)
    config = text_format.Parse(texts["score"], ModelConfig())
    (step,) = config.ensemble_scheduling.step
    assert (step.model_name, step.model_version) == ("scorer", -1)
    assert dict(step.input_map) == {name: name for name in ("user_id", "movie_id", "model")}
    assert dict(step.output_map) == {name: name for name in ("score", "known")}
    scorer_config = text_format.Parse(texts["scorer"], ModelConfig())
    assert scorer_config.HasField("dynamic_batching")
    assert all(tensor.allow_ragged_batch for tensor in scorer_config.input)


@pytest.mark.parametrize("model", TRITON_MODELS)
def test_each_version_has_its_configuration_and_the_model_a_copy(exported, model):
    for path in (exported.repository / model / "config.pbtxt", exported.repository / model / "1" / "config.pbtxt"):
        assert path.read_text() == configs(1)[model]


# -- files -------------------------------------------------------------------------------------------------------------


def vocabulary(run: Run, kind: str) -> pd.DataFrame:
    return pd.read_parquet(run.features / PROTOCOL / "vocabulary" / f"{kind}_id.parquet")


def test_the_sample_is_what_the_trained_networks_say(exported):
    sample = read_json(exported.repository / "score" / "1" / "sample.json")
    features = load_features(exported, PROTOCOL)
    index = {
        kind: dict(zip(table[f"{kind}_id"].tolist(), table["index"].tolist()))
        for kind in ("user", "movie")
        for table in (vocabulary(exported, kind),)
    }
    user, movie = (
        np.array([index[kind].get(raw, 2) for raw in sample[f"{kind}_id"]], np.int64) for kind in ("user", "movie")
    )
    assert len(user) == len(movie) == 100
    assert -1 in sample["user_id"] + sample["movie_id"]
    offline = {
        name: scorer(load(exported, features, name, torch.device("cpu"))[0], torch.device("cpu")) for name in COMPARED
    }
    assert list(sample["scores"]) == list(COMPARED)
    for name in COMPARED:
        np.testing.assert_allclose(sample["scores"][name], offline[name](user, movie), atol=1e-6, rtol=0)
    default = read_manifest(exported.repository)["default_model"]
    rated = pd.read_parquet(exported.tables / "ratings.parquet").groupby("userId")["movieId"].agg(set)
    assert len(sample["recommend"]) == 3
    for row in sample["recommend"]:
        left = sorted(set(index["movie"]) - rated[row["user_id"]])
        one = np.full(len(left), index["user"][row["user_id"]])
        expected = offline[default](one, np.array([index["movie"][raw] for raw in left]))
        score = dict(zip(left, expected))
        assert len(row["movie_id"]) == 10
        np.testing.assert_allclose(row["score"], np.sort(expected)[::-1][:10], atol=1e-6, rtol=0)
        np.testing.assert_allclose(row["score"], [score[raw] for raw in row["movie_id"]], atol=1e-6, rtol=0)


def test_what_anyone_has_rated_is_listed_by_user(exported):
    """In any split, against the table of ratings."""
    folder = exported.repository / "recommend" / "1"
    rated, starts = np.load(folder / "rated.npy"), np.load(folder / "rated_starts.npy")
    users, movies = vocabulary(exported, "user"), vocabulary(exported, "movie").sort_values("index")
    catalogue = movies["movie_id"].to_numpy()
    ratings = pd.read_parquet(exported.tables / "ratings.parquet").groupby("userId")["movieId"].agg(sorted)
    assert len(starts) == users["index"].max() + 2
    assert len(rated) == ratings.map(len).sum()
    for raw, index in zip(users["user_id"], users["index"]):
        assert sorted(catalogue[rated[starts[index] : starts[index + 1]]].tolist()) == ratings[raw]
    assert starts[:4].tolist() == [0, 0, 0, 0]  # nobody has a reserved index


@pytest.mark.parametrize("name", COMPARED)
def test_a_movie_s_vector_is_half_learned_and_half_its_genres_and_year(exported, name):
    """Row by row by hand."""
    features = load_features(exported, PROTOCOL)
    model, _ = load(exported, features, name, torch.device("cpu"))
    sides = cut(model, features.users, features.movies)
    before = sides.embeddings.copy()
    found = source._movie_vectors(sides, features)
    assert (found.shape, found.dtype) == (
        (120, sides.embeddings.shape[1] + features.side.movie_features.shape[1]),
        "f4",
    )
    mean = before[3:121].mean(axis=0)
    for place in range(120):
        about = features.side.movie_features[3 + place].numpy().astype(np.float64)
        length = np.linalg.norm(about[:-1])
        content = np.append(about[:-1] / (length if length else 1), 0.3 * about[-1])
        content /= np.linalg.norm(content)
        learned = before[3 + place] - mean
        learned = learned / np.linalg.norm(learned) if place < 118 else 0 * learned  # two movies have no rating
        whole = np.concatenate([0.5**0.5 * learned, 0.5**0.5 * content])
        np.testing.assert_allclose(found[place], whole / np.linalg.norm(whole), atol=1e-5)
    np.testing.assert_array_equal(sides.embeddings, before)


def test_nothing_in_a_repository_needs_to_be_unpickled(exported):
    kinds = {path.suffix for path in exported.repository.rglob("*") if path.is_file()}
    assert kinds == {".json", ".npy", ".npz", ".onnx", ".parquet", ".pbtxt", ".py"}
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

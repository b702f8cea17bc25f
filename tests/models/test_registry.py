"""Everything that stands in a comparison, by name: which settings it has, and which of it a run is about."""

import json
import shutil

import pytest

from core.artifacts import new_folder
from core.errors import UserError
from core.run_folder import Run
from models.baselines.base import baselines_of
from models.baselines.ease import EaseSettings
from models.networks.base import NETWORKS as REGISTERED
from models.networks.base import Network, NetworkSettings
from models.registry import (
    baselines_for,
    baselines_in_run,
    chosen_settings,
    compared,
    default_settings,
    fit_baseline,
    networks_for,
    rivals_for,
    trained,
    tunable,
)
from models.training.settings import DEFAULTS, LARGE, MEDIUM, TrainSettings
from tests.names import (
    COMPARED,
    DEFAULT_PROTOCOLS,
    EVERY_NETWORK,
    NETWORKS,
    PROTOCOLS,
    RANKED,
    RATING,
    RIVALS,
    SPLITS,
    compared_by,
    networks_of,
)

CHEAP = {"leave-one-out": ["popularity"], "random-split": ["biases", "popularity"], "rating": ["biases"]}
IN_RUN = {
    "leave-one-out": ["ease", "als", "itemknn", "popularity"],
    "random-split": ["biases", "popularity"],
    "rating": ["knn", "svd", "biases"],
}
ALL = {
    **IN_RUN,
    "random-split": ["bayesian-fm", *IN_RUN["random-split"]],
    "rating": ["bayesian-fm", *IN_RUN["rating"]],
}


@pytest.fixture
def run(tmp_path) -> Run:
    """A run whose features are there as far as their manifests go."""
    run = Run(tmp_path / "ml-1m")
    for split in set(SPLITS.values()):
        with new_folder(run.features_of(split), f"features of {split}"):
            pass
    return run


def put_model(run: Run, protocol: str, name: str, features: str | None = None) -> None:
    """A trained model as far as its manifest goes, of the features that are there unless others are named."""
    features = features or f"features of {SPLITS[protocol]}"
    with new_folder(run.model(protocol, name), "a training", features=features):
        pass


def put_best(run: Run, protocol: str, name: str, content: dict) -> str:
    """Writes `best.json` and gives its path."""
    folder = run.tuning(protocol, name)
    folder.mkdir(parents=True)
    (folder / "best.json").write_text(json.dumps(content))
    return str(folder / "best.json")


@pytest.fixture
def third():
    """A third network that is compared, in the registry for one test."""
    network = Network(title="third", settings=NetworkSettings, assemble=lambda features, settings: None)
    yield REGISTERED.add("third", network)
    REGISTERED.remove("third")


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("dataset", "rows", "file"),
    [
        ("ml-100k", LARGE, "ml-100k"),
        ("ml-1m", 0, "ml-1m"),
        ("ml-latest-small", MEDIUM - 1, "ml-100k"),
        ("synth-x", MEDIUM, "ml-1m"),
        ("ml-25m", LARGE, "large"),
    ],
)
def test_default_settings_are_those_of_the_dataset_or_of_its_size(protocol, dataset, rows, file):
    for name in (*networks_of(protocol), *baselines_of(protocol)):
        chosen = default_settings(protocol, name, dataset, rows)
        assert chosen.source == DEFAULTS / f"{file}.json"
        expected = TrainSettings if name in networks_of(protocol) else baselines_of(protocol)[name].settings
        assert type(chosen.settings) is expected
        if name in networks_of(protocol):
            assert type(chosen.settings.network) is REGISTERED[name].settings


def test_default_settings_are_what_the_file_says():
    kept = json.loads((DEFAULTS / "ml-100k.json").read_text())["leave-one-out"]
    ease = default_settings("leave-one-out", "ease", "ml-100k", 0).settings
    assert ease == EaseSettings(**kept["ease"]["settings"]) != EaseSettings()
    dlrm = default_settings("leave-one-out", "dlrm", "ml-100k", 0).settings
    for name, value in kept["dlrm"]["settings"].items():
        if name != "network":
            assert getattr(dlrm, name) == value
    for name, value in kept["dlrm"]["settings"]["network"].items():
        assert getattr(dlrm.network, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("protocol", "name"),
    [("rating", "als"), ("leave-one-out", "biases"), ("random-split", "bert"), ("rating", "truth")],
)
def test_a_model_that_a_protocol_does_not_have_is_refused(run, protocol, name):
    known = ", ".join((*networks_of(protocol), *baselines_of(protocol)))
    for ask in (
        lambda: default_settings(protocol, name, "ml-1m", 0),
        lambda: chosen_settings(run, protocol, name, 0),
    ):
        with pytest.raises(UserError) as caught:
            ask()
        assert str(caught.value) == f"{protocol} has no model {name!r}; choose one of {known}"


def test_without_a_study_the_defaults_are_chosen(run):
    for name in ("dlrm", "ease"):
        chosen = chosen_settings(run, "leave-one-out", name, 0)
        assert chosen == default_settings("leave-one-out", name, "ml-1m", 0)
        assert chosen.source == DEFAULTS / "ml-1m.json"


def test_what_a_study_found_comes_before_the_defaults(run):
    path = put_best(run, "leave-one-out", "ease", {"settings": {"l2": 12.5}, "study": {"trials": 3}})
    chosen = chosen_settings(run, "leave-one-out", "ease", 0)
    assert chosen.settings == EaseSettings(l2=12.5)
    assert str(chosen.source) == path
    path = put_best(run, "random-split", "dlrm", {"settings": {"network": {"dim": 8, "top": [4]}, "epochs": 3}})
    chosen = chosen_settings(run, "random-split", "dlrm", 0)
    network = REGISTERED["dlrm"].settings(dim=8, top=(4,))
    assert chosen.settings == TrainSettings(network=network, epochs=3)
    assert str(chosen.source) == path
    # neither of the other protocol, nor of the other model
    assert chosen_settings(run, "leave-one-out", "dlrm", 0).source == DEFAULTS / "ml-1m.json"
    assert chosen_settings(run, "random-split", "ncf", 0).source == DEFAULTS / "ml-1m.json"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("ease", {"settings": {"colour": 1}}, ": colour is unknown; allowed is: l2"),
        ("ease", {"settings": {"l2": "5"}}, ': l2 is "5"; input should be a valid number'),
        ("ease", {"settings": {}, "colour": 1}, ": colour is unknown; allowed is: settings, study"),
        ("ease", {"study": {}}, ": settings is missing"),
        ("dlrm", {"settings": {"colour": 1}}, ": colour is unknown; allowed is: network, learning_rate, "),
        ("dlrm", {"settings": {"network": {"colour": 1}}}, ", network: colour is unknown; allowed is: dim, init_std, "),
        (
            "ncf",
            {"settings": {"network": {"bottom": [8]}}},
            ", network: bottom is unknown; allowed is: dim, init_std, ",
        ),
        ("mf", {"settings": {"epochs": True}}, ": epochs is true; input should be a valid integer"),
        ("mf", {"settings": {"epochs": 0}}, ": epochs is 0; input should be greater than 0"),
    ],
)
def test_a_bad_best_json_is_refused_with_the_file_and_the_key(run, name, content, words):
    path = put_best(run, "leave-one-out", name, content)
    with pytest.raises(UserError) as caught:
        chosen_settings(run, "leave-one-out", name, 0)
    assert str(caught.value).startswith(path + words)
    assert "\n" not in str(caught.value)


def test_a_best_json_that_is_not_json_is_refused_with_the_command_that_writes_it(run):
    path = put_best(run, "leave-one-out", "ease", {})
    (run.tuning("leave-one-out", "ease") / "best.json").write_text("{")
    with pytest.raises(UserError) as caught:
        chosen_settings(run, "leave-one-out", "ease", 0)
    assert str(caught.value).startswith(f"{path} is not valid JSON")
    assert str(caught.value).endswith(run.command("tune"))


# -- what a run is about -----------------------------------------------------------------------------------------------


def test_the_networks_in_order_and_those_that_are_compared():
    assert tuple(REGISTERED) == EVERY_NETWORK
    assert compared() == RANKED
    assert {protocol: compared(protocol) for protocol in PROTOCOLS} == {one: compared_by(one) for one in PROTOCOLS}
    assert {name: network.title for name, network in REGISTERED.items()} == {
        "dlrm": "DLRM",
        "ncf": "NCF",
        "sasrec": "SASRec",
        "mf": "Matrix factorisation (MF)",
        "svdpp": "SVD++",
        "fism": "FISM",
        "dlrm-rated-sets": "DLRM with rated sets",
        "ncf-history": "NCF with history",
        "dlrm-without-history": "DLRM without history",
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_large_data_is_spared_the_networks_that_are_baselines(protocol):
    assert networks_for(protocol, 0) == networks_for(protocol, LARGE - 1) == NETWORKS
    assert networks_for(protocol, LARGE) == COMPARED


def test_what_run_leaves_out_is_compared_but_for_large_data(tmp_path):
    for protocol in PROTOCOLS:
        assert not set(RIVALS) & set(networks_for(protocol, 0))
        assert rivals_for(protocol, 0) == rivals_for(protocol, LARGE - 1) == networks_of(protocol)
        assert rivals_for(protocol, LARGE) == NETWORKS
        assert list(baselines_in_run(protocol, LARGE - 1)) == IN_RUN[protocol]
        assert list(baselines_in_run(protocol, LARGE, tmp_path)) == CHEAP[protocol]


def test_what_run_leaves_out_is_no_less_trained_and_tuned(run):
    put_model(run, "random-split", "svdpp")
    assert trained(run, "random-split") == ("svdpp",)
    assert {"svdpp", "bayesian-fm"} <= set(tunable("random-split"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_large_data_is_spared_the_baselines_that_are_not_cheap(protocol, tmp_path):
    assert list(baselines_for(protocol, LARGE - 1)) == ALL[protocol]
    assert list(baselines_for(protocol, LARGE)) == CHEAP[protocol]
    assert list(baselines_for(protocol, LARGE, tmp_path)) == CHEAP[protocol]
    assert all(one is baselines_of(protocol)[name] for name, one in baselines_for(protocol, 0).items())


def test_what_can_be_tuned_has_a_search_space():
    assert tunable("leave-one-out") == (*networks_of("leave-one-out"), "ease", "als", "itemknn")
    assert tunable("random-split") == (*networks_of("random-split"), "bayesian-fm")
    assert tunable("rating") == (*networks_of("rating"), "bayesian-fm", "knn", "svd", "biases")


def test_a_network_that_is_added_is_compared_and_tuned(third):
    assert compared() == (*RANKED, "third")
    assert networks_for("rating", LARGE) == (*COMPARED, "third")
    assert tunable("random-split") == (*networks_of("random-split"), "third", "bayesian-fm")
    assert default_settings("rating", "third", "ml-1m", 0).settings == TrainSettings()


# -- which networks are trained ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_trained_in_a_run_without_models(run, protocol):
    assert trained(run, protocol) == ()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_one_network_alone_is_trained_for_its_protocol_only(run, protocol, name):
    put_model(run, protocol, name)
    expected = {one: (name,) if one == protocol else () for one in PROTOCOLS}
    assert {one: trained(run, one) for one in PROTOCOLS} == expected


def test_trained_networks_are_in_the_order_of_the_tables(run):
    for name in reversed(NETWORKS):
        put_model(run, "random-split", name)
    assert trained(run, "random-split") == NETWORKS


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_a_baseline_that_is_left_over_of_other_features_does_not_count(run, protocol):
    for name in NETWORKS:
        put_model(run, protocol, name, "other features")
    # those that `run` needs count, so that loading them says what is wrong
    assert trained(run, protocol) == COMPARED


def test_a_network_that_run_does_not_train_counts_where_it_is_of_the_features_that_are_there(run):
    """`run` would not bring it up to date: left over, it would end `evaluate` and `export`."""
    put_model(run, "leave-one-out", "dlrm")
    put_model(run, "leave-one-out", "sasrec", "other features")
    assert trained(run, "leave-one-out") == ("dlrm",)
    put_model(run, "leave-one-out", "ncf")
    shutil.rmtree(run.model("leave-one-out", "sasrec"))
    put_model(run, "leave-one-out", "sasrec")
    assert trained(run, "leave-one-out") == ("dlrm", "ncf", "sasrec")


def test_the_rating_protocol_counts_only_what_is_of_the_features_that_are_there(run):
    put_model(run, RATING, "dlrm")
    put_model(run, RATING, "ncf", "other features")
    put_model(run, RATING, "mf")
    assert trained(run, RATING) == ("dlrm", "mf")
    assert trained(run, "random-split") == ()


def test_a_model_folder_without_its_manifest_is_refused_where_the_features_must_be_known(run):
    run.model(RATING, "dlrm").mkdir(parents=True)
    with pytest.raises(UserError, match=r"rating/dlrm is missing or incomplete; run: python -m marquee train"):
        trained(run, RATING)


def test_a_folder_of_an_unknown_name_is_not_a_network(run):
    run.model("random-split", "bert").mkdir(parents=True)
    assert trained(run, "random-split") == ()


# -- fitting a baseline ------------------------------------------------------------------------------------------------


def test_a_baseline_is_fitted_to_the_rows_of_the_parts(prepared):
    import numpy as np

    from models.data.load import load_features

    features = load_features(prepared, "leave-one-out")
    movies = np.arange(features.movies)
    counts = {}
    for parts in (("train",), ("train", "valid")):
        scorer = fit_baseline("popularity", features, parts, baselines_of("leave-one-out")["popularity"].settings(), 0)
        expected = sum(np.bincount(features.interactions(part).movie, minlength=features.movies) for part in parts)
        counts[parts] = scorer(np.full_like(movies, 3), movies)
        assert counts[parts].tolist() == expected.tolist()
    assert counts["train", "valid"].sum() > counts["train",].sum()

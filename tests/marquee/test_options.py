"""How options are read: changed settings, protocols, choices."""

import pytest

from core.errors import UserError
from marquee import options
from marquee.changes import setting_changes
from marquee.options import check_choice, chosen_protocols, listed
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.training.devices import DEVICES, PRECISIONS
from models.training.settings import DEFAULTS, settings_for, to_json, with_changes
from tests import names
from workflows.sources.datasets import DATASETS
from workflows.synthetic.synthesise import LIKE

NONE: dict[str, object] = {"epochs": None, "patience": None}


def refusal(pairs: list[str], single: dict[str, object] = NONE) -> str:
    with pytest.raises(UserError) as caught:
        setting_changes(pairs, single)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_given_changes_nothing():
    assert setting_changes([], NONE) == {}


def test_pairs_become_nested_dictionaries():
    pairs = ["network.dim=64", "recency=10", "network.top=[64, 32]", "a.b.c=1"]
    assert setting_changes(pairs, NONE) == {
        "network": {"dim": 64, "top": [64, 32]},
        "recency": 10,
        "a": {"b": {"c": 1}},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64", 64),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('"64"', "64"),
        ("cosine", "cosine"),
        ("a=b", "a=b"),
        ("", ""),
        ("True", "True"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[1, NaN]", "[1, NaN]"),
    ],
)
def test_a_value_is_json_or_else_a_string(text, value):
    (found,) = setting_changes([f"key={text}"], NONE).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("pair", ["epochs", "", "=3", "network.=3", ".dim=3", "network..dim=3", " =3"])
def test_what_is_not_a_pair_is_refused_with_an_example(pair):
    message = refusal([pair])
    assert f"--set {pair} is not KEY=VALUE" in message
    assert "--set network.dim=64" in message


@pytest.mark.parametrize(
    "pairs",
    [
        ["l2=1", "l2=2"],
        ["network.dim=1", "network.dim=1"],
        ["network=1", "network.dim=1"],
        ["network.dim=1", "network=1"],
    ],
)
def test_a_setting_that_is_given_twice_is_refused(pairs):
    assert "is given twice" in refusal(pairs)


def test_options_of_single_settings_are_changes_like_any_other():
    assert setting_changes(["l2=1"], {"epochs": 3, "patience": None}) == {"l2": 1, "epochs": 3}


def test_an_option_and_a_pair_for_the_same_setting_are_refused():
    message = refusal(["batch_size=512"], {"batch_size": 1024})
    assert "--batch-size" in message
    assert "--set batch_size" in message


def test_the_seed_has_an_option_of_its_own():
    assert "use --seed" in refusal(["seed=1"])


WHERE = "dlrm, leave-one-out"


def test_changed_settings_differ_in_what_was_changed_only():
    before = settings_for("leave-one-out", "dlrm")
    pairs = ["network.dim=96", "recency=11", "schedule=constant" if before.schedule == "cosine" else "schedule=cosine"]
    changes = setting_changes(pairs, {})
    settings = with_changes("dlrm", before, changes, WHERE)
    assert (settings.network.dim, settings.recency, settings.schedule) == (96, 11.0, changes["schedule"])
    for key, value in to_json(before).items():
        if key not in ("network", "recency", "schedule"):
            assert to_json(settings)[key] == value
    assert settings.epochs == before.epochs
    assert settings.network.top == before.network.top


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("epoch=3", ["epoch is unknown", "allowed is: network, learning_rate, schedule", "epochs"]),
        ("network.dimm=3", ["network: dimm is unknown", "allowed is: dim, init_std, bottom, top"]),
        ("epochs=0", ["epochs is 0", "greater than 0"]),
        ("epochs=many", ['epochs is "many"', "integer"]),
        ("epochs=true", ["epochs is true", "integer"]),
        ("epochs=1.5", ["epochs is 1.5", "integer"]),
        ("patience=0", ["patience is 0", "greater than 0"]),
        ('network.dim="64"', ['network: dim is "64"', "integer"]),
        ("network.dim=0", ["network: dim is 0", "greater than 0"]),
        ("network=3", ["network", "is 3", "object"]),
        ("averaging=1", ["averaging is 1", "less than 1"]),
        ("learning_rate=5", ["learning_rate is 5", "above 0 and below 1"]),
        ("learning_rate=1", ["learning_rate is 1", "above 0 and below 1"]),
        ("learning_rate=0", ["learning_rate is 0", "greater than 0"]),
        ("learning_rate=NaN", ['learning_rate is "NaN"', "number"]),
        ("schedule=linear", ['schedule is "linear"', "'constant' or 'cosine'"]),
        ("precision=float64", ['precision is "float64"', "'auto', 'float32' or 'bfloat16'"]),
        ("pretraining=2", ["pretraining is 2", "dlrm has no branches"]),
    ],
)
def test_unknown_settings_and_values_that_are_not_allowed_are_refused(pair, words):
    with pytest.raises(UserError) as caught:
        with_changes("dlrm", settings_for("leave-one-out", "dlrm"), setting_changes([pair], {}), WHERE)
    assert "\n" not in str(caught.value)
    for word in [WHERE, *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("value", [0.0, 1.0, 5.0, -1.0, float("nan"), float("inf")])
def test_the_option_of_the_learning_rate_has_the_same_check(value):
    changes = setting_changes([], {"learning_rate": value})
    with pytest.raises(UserError, match=r"^dlrm, leave-one-out: learning_rate is "):
        with_changes("dlrm", settings_for("leave-one-out", "dlrm"), changes, WHERE)


def test_protocols_are_one_or_a_group():
    assert chosen_protocols("rating") == ("rating",)
    assert chosen_protocols("both") == ("leave-one-out", "random-split")
    assert chosen_protocols("standard") == ("leave-one-out", "random-split", "rating")
    assert chosen_protocols("folds") == names.FOLDS
    assert chosen_protocols("all") == (*chosen_protocols("standard"), "temporal", *names.FOLDS)
    with pytest.raises(UserError, match=r"unknown protocol 'k-fold'; choose one of .*, both, standard, folds, all"):
        chosen_protocols("k-fold")


def test_a_choice_is_given_back_or_refused_with_those_there_are():
    assert check_choice("a", ("a", "b"), "letter") == "a"
    with pytest.raises(UserError, match="unknown letter 'c'; choose one of a, b"):
        check_choice("c", ("a", "b"), "letter")


@pytest.mark.parametrize(("names", "text"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")])
def test_names_as_a_phrase(names, text):
    assert listed(names) == text


def test_the_lists_of_help_texts_name_what_there_is():
    assert set(options.DATASET_NAMES) == set(DATASETS)
    assert set(options.SYNTHETIC_NAMES) == set(LIKE)
    assert options.PRECISION_NAMES == PRECISIONS
    assert options.DEVICE_NAMES == DEVICES
    assert set(options.NETWORK_NAMES) == set(NETWORKS) == set(names.EVERY_NETWORK)
    assert options.PROTOCOL_GROUPS == {
        "both": names.DEFAULT_PROTOCOLS,
        "standard": names.PROTOCOLS,
        "folds": names.FOLDS,
        "all": names.EVERY_PROTOCOL,
    }
    assert tuple(PROTOCOLS) == names.EVERY_PROTOCOL
    assert DEFAULTS.is_dir()

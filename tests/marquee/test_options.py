"""How options are read: changed settings, protocols, lists of choices."""

import pytest
from workflows.synthetic.synth import LIKE

from core.errors import UserError
from marquee import options
from marquee.options import check_choice, chosen_protocols, listed, setting_changes
from models.training.settings import DEFAULTS, PRECISIONS, TrainSettings, changed
from workflows.sources.datasets import DATASETS

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


def test_changed_settings_differ_in_what_was_changed_only():
    settings = changed(TrainSettings(), {"network": {"dim": 64}, "recency": 10, "schedule": "cosine"}, "dlrm")
    assert (settings.network.dim, settings.recency, settings.schedule) == (64, 10.0, "cosine")
    assert settings.epochs == TrainSettings().epochs
    assert settings.network.top == TrainSettings().network.top


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": 3}, ["epoch is unknown", "epochs"]),
        ({"network": {"dimension": 3}}, ["network.dimension is unknown", "dim"]),
        ({"epochs": "many"}, ["epochs"]),
        ({"epochs": True}, ["epochs"]),
        ({"epochs": 1.5}, ["epochs"]),
        ({"network": 3}, ["network"]),
    ],
)
def test_unknown_settings_and_values_of_another_type_are_refused(changes, words):
    with pytest.raises(UserError) as caught:
        changed(TrainSettings(), changes, "dlrm, leave-one-out")
    assert "\n" not in str(caught.value)
    for word in ["dlrm, leave-one-out", *words]:
        assert word in str(caught.value)


def test_protocols_are_one_or_a_group():
    assert chosen_protocols("rating") == ("rating",)
    assert chosen_protocols("both") == ("leave-one-out", "random-split")
    assert chosen_protocols("all") == ("leave-one-out", "random-split", "rating")
    with pytest.raises(UserError, match=r"unknown protocol 'k-fold'; choose one of leave-one-out, .*, both, all"):
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
    assert set(options.PRECISION_NAMES) == set(PRECISIONS)
    assert DEFAULTS.is_dir()

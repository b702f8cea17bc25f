"""JSON that is checked when it is read: what is refused, and what the message says."""

from dataclasses import field
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

from core.errors import UserError
from core.json_files import STRICT, validated


@dataclass(frozen=True, config=STRICT)
class Network:
    dim: int = 16
    top: tuple[int, ...] = (32, 16)


@dataclass(frozen=True, config=STRICT)
class Settings:
    epochs: int
    learning_rate: float = 1e-3
    schedule: str = "constant"
    refit: bool = False
    network: Network = field(default_factory=Network)


def refusal(value: Any, kind: Any = Settings) -> str:
    """The one line that is said."""
    with pytest.raises(UserError) as caught:
        validated(kind, value, "runs/best.json")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("runs/best.json: ")
    return message


def test_a_valid_value_becomes_the_dataclass():
    value = {"epochs": 3, "learning_rate": 0.01, "refit": True, "network": {"dim": 64, "top": [8, 4]}}
    assert validated(Settings, value, "here") == Settings(3, 0.01, "constant", True, Network(64, (8, 4)))


def test_what_is_left_out_has_its_default():
    assert validated(Settings, {"epochs": 3}, "here") == Settings(epochs=3)


def test_an_unknown_key_lists_those_that_are_allowed():
    message = refusal({"epochs": 3, "epoch": 4})
    assert "epoch is unknown" in message
    assert "allowed is: epochs, learning_rate, schedule, refit, network" in message


def test_an_unknown_key_inside_another_lists_those_of_that_place():
    message = refusal({"epochs": 3, "network": {"dimension": 64}})
    assert "network.dimension is unknown" in message
    assert message.endswith("allowed is: dim, top")


def test_an_unknown_key_in_a_list_or_a_dictionary_lists_those_of_that_place():
    assert "0.wide is unknown; allowed is: dim, top" in refusal([{"wide": 1}], list[Network])
    assert "ncf.wide is unknown; allowed is: dim, top" in refusal({"ncf": {"wide": 1}}, dict[str, Network])


def test_a_missing_key_is_named():
    assert "epochs is missing" in refusal({"learning_rate": 0.01})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "5"),
        ("epochs", True),
        ("epochs", 5.5),
        ("epochs", None),
        ("learning_rate", "0.01"),
        ("learning_rate", True),
        ("schedule", 5),
        ("refit", 1),
        ("refit", "true"),
        ("network", 5),
        ("network", []),
    ],
)
def test_a_value_of_another_type_is_refused_and_named(key, value):
    message = refusal({"epochs": 3, key: value})
    assert f"{key} is " in message
    assert "unknown" not in message
    assert "missing" not in message


def test_a_value_of_another_type_inside_another_is_named_with_its_place():
    assert 'network.dim is "64"' in refusal({"epochs": 3, "network": {"dim": "64"}})
    assert 'network.top.1 is "8"' in refusal({"epochs": 3, "network": {"top": [4, "8"]}})


def test_a_whole_number_is_a_float():
    found = validated(Settings, {"epochs": 3, "learning_rate": 1}, "here").learning_rate
    assert found == 1.0
    assert isinstance(found, float)


def test_a_value_that_is_not_an_object_is_refused():
    for value in (None, 3, "text", []):
        assert "the value is " in refusal(value)


def test_a_long_value_is_cut_in_the_message():
    assert len(refusal({"epochs": "9" * 1000})) < 300


def test_other_types_are_checked_too():
    assert validated(dict[str, list[float]], {"auc": [0.4, 1]}, "here") == {"auc": [0.4, 1.0]}
    assert "auc.1 is " in refusal({"auc": [0.4, "x"]}, dict[str, list[float]])


def test_a_misspelt_key_is_reported_as_unknown_and_not_as_missing():
    assert "epoch is unknown; allowed is: epochs" in refusal({"epoch": 3})


def test_the_command_that_writes_the_file_again_is_named():
    for value in ({"epoch": 3}, {}, {"epochs": "3"}):
        with pytest.raises(UserError, match=r"; run again: python -m marquee train$"):
            validated(Settings, value, "runs/best.json", "python -m marquee train")

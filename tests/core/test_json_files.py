"""JSON that is checked when it is read: what is refused, and what the message says."""

import ast
from dataclasses import field
from pathlib import Path
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

import core.json_files
from core.errors import UserError
from core.json_files import STRICT, read_json, validated, write_json


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


# -- what is no JSON ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_no_number_for_is_not_written_and_what_was_there_stays(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, {"auc": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"models": [{"auc": value}]})
    assert read_json(path) == {"auc": 0.5}
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["NaN", "[1, NaN]", '{"a": Infinity}', '{"a": -Infinity}', '{"a": 1e999}', "-2e400"])
def test_what_is_no_json_number_is_refused_when_it_is_read(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(
        UserError, match=r"a\.json is not valid JSON \(.* is not a JSON number\); delete it and run: x"
    ) as error:
        read_json(path, "x")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", "\udcff", "{"])
def test_json_that_cannot_be_read_is_refused_in_a_line(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="is not valid JSON") as error:
        read_json(path)
    assert "\n" not in str(error.value)


def test_a_value_that_is_no_finite_number_is_refused_wherever_it_comes_from():
    for value in (float("nan"), float("inf")):
        assert f"learning_rate is {value}, which is not a finite number" in refusal(
            {"epochs": 3, "learning_rate": value}
        )
    assert Settings(epochs=3, learning_rate=1e-3).learning_rate == 1e-3
    with pytest.raises(ValueError, match="finite"):
        Settings(epochs=3, learning_rate=float("nan"))
    assert validated(dict[str, float | None], {"auc": None}, "here") == {"auc": None}


def test_no_file_of_the_project_writes_json_on_its_own():
    """`core.json_files.write_json` refuses NaN; what writes JSON without it says `allow_nan=False`."""
    root = Path(core.json_files.__file__).parent.parent
    for folder in ("core", "workflows", "models", "ensemble", "report", "marquee", "bench"):
        for file in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("write_text", "json.dump")):
                    text = ast.unparse(node)
                    assert "json.dump" not in text or "allow_nan=False" in text, f"{file}: {text}"

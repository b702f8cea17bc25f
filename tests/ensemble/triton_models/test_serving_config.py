"""`serving.json`: what is written is read, and anything else is refused by file and key."""

import json

import pytest

from ensemble.triton_models.serving_config import NetworkConfig, ServingConfig, read_serving_config

WRITTEN = {
    "dataset": "ml-100k",
    "protocol": "leave-one-out",
    "default_model": "dlrm",
    "strategy": "exact",
    "candidates": 500,
    "recall@10": 0.97,
    "networks": {
        "dlrm": {"strategy": "exact", "recall@10": 0.97},
        "ncf": {"strategy": "two-stage", "recall@10": 0.99},
    },
    "models": ["dlrm", "ncf"],
    "raters": 943,
    "unknown_index": 2,
}


def write(folder, **changes) -> None:
    contents = {key: value for key, value in {**WRITTEN, **changes}.items() if value is not None}
    (folder / "serving.json").write_text(json.dumps(contents))


def test_what_is_written_is_read(tmp_path):
    write(tmp_path)
    config = read_serving_config(tmp_path)
    assert config == ServingConfig(**WRITTEN)
    assert config.models == ("dlrm", "ncf")
    assert config.networks["ncf"] == NetworkConfig(**WRITTEN["networks"]["ncf"])
    assert config.networks["ncf"].strategy == "two-stage"
    assert config.recall_at_10 == 0.97
    assert list(config.as_json().items()) == list(WRITTEN.items())


def test_a_whole_number_is_a_recall(tmp_path):
    write(tmp_path, **{"recall@10": 1})
    assert read_serving_config(tmp_path).recall_at_10 == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"candidates": None}, "candidates is missing"),
        ({"recall@10": None}, "recall@10 is missing"),
        ({"recall_at_10": 0.97}, "recall_at_10 is unknown"),
        ({"threads": 4}, "threads is unknown"),
        ({"candidates": "500"}, 'candidates is "500"; input should be a valid integer'),
        ({"raters": 0.5}, "raters is 0.5; input should be a valid integer"),
        ({"strategy": "fast"}, "strategy is \"fast\"; input should be 'exact' or 'two-stage'"),
        ({"networks": {"ncf": {"strategy": "exact"}}}, "networks.ncf.recall@10 is missing"),
        ({"models": ["dlrm", 3]}, "models.1 is 3; input should be a valid string"),
        ({"models": ["dlrm", "../../../etc/x"]}, 'models.1 is "../../../etc/x"; string should match pattern'),
        ({"default_model": "/etc/x"}, 'default_model is "/etc/x"; string should match pattern'),
        ({"default_model": "dlrm\0"}, "default_model is"),
        ({"unknown_index": True}, "unknown_index is true; input should be a valid integer"),
    ],
)
def test_a_wrong_key_or_type_is_refused(tmp_path, changes, words):
    write(tmp_path, **changes)
    with pytest.raises(ValueError) as refused:
        read_serving_config(tmp_path)
    assert str(tmp_path / "serving.json") in str(refused.value)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_not_a_json_object_is_refused(tmp_path, text):
    (tmp_path / "serving.json").write_text(text)
    with pytest.raises(ValueError, match=r"serving\.json is not a JSON object; export again") as refused:
        read_serving_config(tmp_path)
    assert "\n" not in str(refused.value)

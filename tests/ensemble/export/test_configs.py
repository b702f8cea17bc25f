"""Triton's configurations: their tensors, and how requests are answered."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from ensemble.export.configs import configs

TRITON_MODELS = ("recommend", "score", "scorer", "similar")
INPUTS = {
    "score": [
        ("user_id", "TYPE_INT64", [-1], False),
        ("movie_id", "TYPE_INT64", [-1], False),
        ("model", "TYPE_STRING", [1], True),
    ],
    "recommend": [
        ("user_id", "TYPE_INT64", [1], True),
        ("k", "TYPE_INT32", [1], True),
        ("history", "TYPE_INT64", [-1], True),
        ("model", "TYPE_STRING", [1], True),
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


@pytest.mark.parametrize(
    ("model", "limits"),
    [
        ("score", {"marquee.rows": "user_id,movie_id", "marquee.rows_at_most": "262144"}),
        ("scorer", {"marquee.private": "answers for score; ask score"}),
        ("recommend", {"marquee.history_at_most": "10000"}),
        ("similar", {}),
    ],
)
def test_a_configuration_says_how_much_a_request_may_ask_for(model, limits):
    config = text_format.Parse(configs(1)[model], ModelConfig())
    assert {key: value.string_value for key, value in config.parameters.items()} == limits


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

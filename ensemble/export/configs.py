"""Each Triton model's `config.pbtxt`: its tensors, and how Triton runs it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ensemble.triton_models.limits import LARGEST_BATCH, LARGEST_HISTORY

SCORER = "scorer"
BEHIND_SCORE = "answers for score; ask score"
MOST_TOGETHER = 64  # requests that `scorer` answers at once
UNBATCHED = "max_batch_size: 0"
PYTHON = ('backend: "python"', "instance_group { kind: KIND_CPU count: 1 }")


@dataclass(frozen=True)
class Input:
    """An input tensor; `size` is -1 for any number, or for any up to `at_most` where that is given."""

    name: str
    kind: str
    size: int
    is_optional: bool = False
    at_most: int | None = None


@dataclass(frozen=True)
class Output:
    """An output tensor; `size` is -1 for any number."""

    name: str
    kind: str
    size: int


@dataclass(frozen=True)
class Signature:
    """A Triton model's tensors.

    Attributes:
        rows: the inputs that must all be of one length, as the outputs then are.
        rows_at_most: how many rows a request may have.
        private: why clients may not ask the model; empty where they may.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    rows: tuple[str, ...] = ()
    rows_at_most: int | None = None
    private: str = ""

    def limits(self) -> dict[str, str]:
        """What a request is held to beside the tensors' types, as Triton's `parameters` of a model carry it:
        `marquee.rows`, `marquee.rows_at_most`, and `marquee.<input>_at_most` for other inputs; or `marquee.private`."""
        if self.private:
            return {"marquee.private": self.private}
        found = {"marquee.rows": ",".join(self.rows)} if self.rows else {}
        if self.rows_at_most is not None:
            found["marquee.rows_at_most"] = str(self.rows_at_most)
        bounded = [tensor for tensor in self.inputs if tensor.at_most is not None]
        return found | {f"marquee.{tensor.name}_at_most": str(tensor.at_most) for tensor in bounded}

    def with_kinds(self, kinds: Mapping[str, str]) -> "Signature":
        """The same with other types of some tensors, by their names."""
        inputs = tuple(replace(one, kind=kinds.get(one.name, one.kind)) for one in self.inputs)
        outputs = tuple(replace(one, kind=kinds.get(one.name, one.kind)) for one in self.outputs)
        return replace(self, inputs=inputs, outputs=outputs)

    def config(self, name: str, version: int, *more: str, ragged: bool = False) -> str:
        """`config.pbtxt`.

        Args:
            more: lines that say how requests are answered.
            ragged: whether requests of different lengths may be answered together.
        """
        lines = [f'name: "{name}"', *more]
        for tensor in self.inputs:
            optional = " optional: true" if tensor.is_optional else ""
            mixed = " allow_ragged_batch: true" if ragged else ""
            described = f'name: "{tensor.name}" data_type: {tensor.kind} dims: [ {tensor.size} ]'
            lines.append(f"input {{ {described}{optional}{mixed} }}")
        for output in self.outputs:
            lines.append(f'output {{ name: "{output.name}" data_type: {output.kind} dims: [ {output.size} ] }}')
        for key, value in self.limits().items():
            lines.append(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}')
        return "\n".join([*lines, f"version_policy {{ specific {{ versions: [ {version} ] }} }}", ""])


INT64, TEXT = "TYPE_INT64", "TYPE_STRING"  # of ids
SCORE = Signature(
    (
        Input("user_id", "TYPE_INT64", -1),
        Input("movie_id", "TYPE_INT64", -1),
        Input("model", "TYPE_STRING", 1, is_optional=True),
    ),
    (Output("score", "TYPE_FP32", -1), Output("known", "TYPE_BOOL", -1)),
    rows=("user_id", "movie_id"),
    rows_at_most=LARGEST_BATCH,
)
RECOMMEND = Signature(
    (
        Input("user_id", "TYPE_INT64", 1, is_optional=True),
        Input("k", "TYPE_INT32", 1, is_optional=True),
        Input("history", "TYPE_INT64", -1, is_optional=True, at_most=LARGEST_HISTORY),
        Input("model", "TYPE_STRING", 1, is_optional=True),
        Input("strategy", "TYPE_STRING", 1, is_optional=True),
    ),
    (Output("movie_id", "TYPE_INT64", -1), Output("score", "TYPE_FP32", -1), Output("known", "TYPE_BOOL", 1)),
)
SIMILAR = Signature(
    (Input("movie_id", "TYPE_INT64", 1), Input("k", "TYPE_INT32", 1, is_optional=True)),
    (Output("movie_id", "TYPE_INT64", -1), Output("score", "TYPE_FP32", -1)),
)


def configs(version: int, user_ids: str = INT64, movie_ids: str = INT64) -> dict[str, str]:
    """Every Triton model's `config.pbtxt`.

    Args:
        user_ids, movie_ids: the types of the ids, `INT64` or `TEXT`.

    `score` is what clients ask, with tensors of one dimension, which Triton cannot batch. It hands them on as they are,
    as a row each, to `scorer`, where all that wait are answered together.
    """
    kinds = {"user_id": user_ids, "movie_id": movie_ids, "history": movie_ids}
    score, recommend, similar = (signature.with_kinds(kinds) for signature in (SCORE, RECOMMEND, SIMILAR))
    batched = (f"max_batch_size: {MOST_TOGETHER}", "dynamic_batching { }")
    return {
        "score": score.config("score", version, 'platform: "ensemble"', UNBATCHED, _hand_on_to(SCORER, score)),
        SCORER: replace(score, private=BEHIND_SCORE).config(SCORER, version, *PYTHON, *batched, ragged=True),
        "recommend": recommend.config("recommend", version, *PYTHON, UNBATCHED),
        "similar": similar.config("similar", version, *PYTHON, UNBATCHED),
    }


def _hand_on_to(model: str, tensors: Signature) -> str:
    """An ensemble of one step, which has the same tensors."""
    inputs = [f'input_map {{ key: "{one.name}" value: "{one.name}" }}' for one in tensors.inputs]
    outputs = [f'output_map {{ key: "{one.name}" value: "{one.name}" }}' for one in tensors.outputs]
    step = f'{{ model_name: "{model}" model_version: -1 {" ".join([*inputs, *outputs])} }}'
    return f"ensemble_scheduling {{ step [ {step} ] }}"

"""`serving.json`: what export decided, for the models that serve."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .files import SERVING

Strategy = Literal["exact", "two-stage"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
Name = Annotated[str, Field(pattern=r"^[^/\x00]+$")]  # a part of the names of a network's files
UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")
MISSING_KEY = ("missing", "missing_argument")


STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class NetworkConfig:
    """How `recommend` answers with one network.

    Attributes:
        strategy: how it finds movies where a request does not say.
        recall_at_10: share of the exact top ten that is among the candidates; `recall@10` in the file.
    """

    strategy: Strategy
    recall_at_10: Annotated[float, Field(alias="recall@10")]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ServingConfig:
    """
    Attributes:
        dataset, protocol: what the networks were trained on.
        default_model: the network that answers where a request names none.
        strategy, recall_at_10: those of the default network.
        candidates: movies that the first of two stages finds, at least.
        networks: how `recommend` answers with each network.
        models: the networks that `score` and `recommend` can be asked for.
        raters: users with ratings in training.
        unknown_index: the index of an id that is in no vocabulary.
    """

    dataset: str
    protocol: str
    default_model: Name
    strategy: Strategy
    candidates: int
    recall_at_10: Annotated[float, Field(alias="recall@10")]
    networks: dict[Name, NetworkConfig]
    models: tuple[Name, ...]
    raters: int
    unknown_index: int

    def as_json(self) -> dict[str, Any]:
        """The contents of `serving.json`."""
        return dict(TypeAdapter(ServingConfig).dump_python(self, mode="json", by_alias=True))


def read_serving_config(folder: Path) -> ServingConfig:
    """Reads `serving.json`.

    Raises:
        ValueError: it is not JSON, has an unknown key, lacks one, or a value is of the wrong type; the message names
            the file and the key.
    """
    path = folder / SERVING
    try:
        return TypeAdapter(ServingConfig).validate_json(path.read_text(encoding="utf-8"), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if not key:
        raise ValueError(f"{path} is not a JSON object; export again")
    if first["type"] in UNKNOWN_KEY:
        raise ValueError(f"{path}: {key} is unknown; export again")
    if first["type"] in MISSING_KEY:
        raise ValueError(f"{path}: {key} is missing; export again")
    reason = first["msg"][:1].lower() + first["msg"][1:]
    raise ValueError(f"{path}: {key} is {json.dumps(first['input'], default=str)[:60]}; {reason}")

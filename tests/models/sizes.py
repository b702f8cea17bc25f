"""Networks as small as the tests want them."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from models.networks.base import NETWORKS, NetworkSettings
from models.training.settings import TrainSettings

SMALL = {"dim": 8, "bottom": (16,), "top": (12, 6), "init_std": 0.5}
# Networks that are cut for serving: the name of the network is the first word.
CUT_SIZES: dict[str, dict[str, Any]] = {
    "dlrm with history": {"dim": 8, "bottom": (16,), "top": (12, 6), "history": 5},
    "dlrm without history": {"dim": 8, "bottom": (16,), "top": (12, 6), "history": 0},
    "dlrm without statistics": {"dim": 8, "bottom": (), "top": (12,), "history": 0, "user_statistics": False},
    "dlrm with history alone": {
        "dim": 8,
        "bottom": (64,),
        "top": (64, 32),
        "dropout": 0.5,
        "history": 3,
        "user_statistics": False,
    },
    "ncf": {"dim": 6, "mlp_dim": 10, "top": (12, 6), "dropout": 0.5},
    "ncf of one size": {"dim": 8, "mlp_dim": 0, "top": (12,)},
}


FIXED = {"dlrm-without-history": {"history"}}  # settings that can have one value only


def sized(name: str, sizes: Mapping[str, Any]) -> NetworkSettings:
    """The settings of a network: those of the sizes that it has; the others are of other networks."""
    known = {field.name for network in NETWORKS.values() for field in fields(network.settings)}
    assert not set(sizes) - known, f"no network has {sorted(set(sizes) - known)}"
    own = {field.name for field in fields(NETWORKS[name].settings)} - FIXED.get(name, set())
    return NETWORKS[name].settings(**{key: value for key, value in sizes.items() if key in own})


def small(name: str, **changes: Any) -> NetworkSettings:
    """A small network whose fresh weights give scores that differ."""
    return sized(name, {**SMALL, **changes})


def training_of(name: str, settings: TrainSettings, sizes: Mapping[str, Any]) -> TrainSettings:
    """How a network of such sizes is trained."""
    return replace(settings, network=sized(name, sizes))

"""DLRM without its history: the difference to DLRM is what the history is worth."""

from dataclasses import replace
from typing import Literal

from pydantic.dataclasses import dataclass

from core.json_files import STRICT
from models.networks.base import NETWORKS
from models.networks.dlrm import DLRM, DLRMSettings


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DLRMWithoutHistorySettings(DLRMSettings):
    """Sizes of DLRM, but for `history`, which is 0."""

    history: Literal[0] = 0


NETWORKS.add(
    "dlrm-without-history",
    replace(
        DLRM,
        title="DLRM without history",
        settings=DLRMWithoutHistorySettings,
        history_length=lambda settings: 0,
        space={name: values for name, values in DLRM.space.items() if name != "history"},
        cut=None,
        is_baseline=True,
        in_run=False,
    ),
    position=38,
)

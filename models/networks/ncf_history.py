"""NCF with a history: NeuMF whose users are also what they had rated before, in the form of SVD++.

In both branches, the sum of a second embedding of the movies rated before, over the root of their number, is added to
the user's embedding (Koren, 2008), as DeepICF (Xue et al., "Deep Item-based Collaborative Filtering", 2019) puts such a
sum in the user's place.
"""

from pydantic.dataclasses import dataclass
from torch import nn

from core.json_files import STRICT
from models.data.features import Features
from models.networks._blocks import RatedBefore, UserAndRatedBefore, id_embeddings, neumf
from models.networks.base import NETWORKS, Network, PositiveInt
from models.networks.ncf import NCFSettings, against
from models.search_space import Log, OneOf, Uniform


@dataclass(frozen=True, config=STRICT, kw_only=True)
class NCFHistorySettings(NCFSettings):
    """Sizes of NCF with a history.

    Attributes:
        history: how many of the user's last movies it sees.
    """

    history: PositiveInt = 50


def assemble(features: Features, settings: NCFHistorySettings) -> nn.Module:
    """The network over the inputs of both ids and the history."""

    def inputs(dim: int) -> nn.Module:
        return UserAndRatedBefore(id_embeddings(features, dim), RatedBefore(features, dim))

    dims = settings.dim, settings.mlp_dim or settings.dim
    return neumf(features, inputs, dims=dims, top=settings.top, dropout=settings.dropout)


NETWORKS.add(
    "ncf-history",
    Network(
        title="NCF with history",
        settings=NCFHistorySettings,
        assemble=assemble,
        history_length=lambda settings: settings.history,
        space={
            "top": OneOf(small=(32, 16), medium=(64, 32), deep=(64, 32, 16), wide=(128, 64, 32)),
            "dropout": Uniform(0.0, 0.6),
            "weight_decay": Log(1e-7, 1e-3),
            "history": OneOf(10, 20, 50, 100),
        },
        against=against,
        is_baseline=True,
        in_run=False,
    ),
    position=36,
)

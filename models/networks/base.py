"""DLRM and NCF, assembled from Merlin Models' PyTorch blocks, over index tensors.

DLRM (Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems", 2019): every
categorical feature has an embedding, the continuous ones pass a bottom MLP to the same dimension, all pairs of these
vectors meet in dot products, and a top MLP scores them. It sees all features.

NCF, as NeuMF (He et al., "Neural Collaborative Filtering", 2017): the element-wise product of one pair of user and
movie embeddings (GMF) beside an MLP over another pair, concatenated and scored. It sees ids only.

MF, the baseline that NCF must beat (Rendle et al., "Neural Collaborative Filtering vs. Matrix Factorization Revisited",
2020): a bias of the user, one of the movie, and the dot product of their embeddings.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Dict  # noqa: UP035

import merlin.models.torch as mm
import numpy as np
import torch
from merlin.models.torch.blocks.dlrm import DLRMInputBlock, InteractionBlock
from merlin.models.torch.inputs.embedding import EmbeddingTable
from merlin.schema import ColumnSchema, Schema, Tags
from torch import Tensor, nn

from core.columns import CONTINUOUS, HISTORY, HISTORY_OWNER, HISTORY_STARS, LABEL, MOVIE_ID, USER_ID
from core.run_folder import RATING_PROTOCOL
from models.data.features import Features, SideTables
from models.data.history import NOTHING, Moment, timeline
from workflows.features.vocabulary import FIRST_INDEX, FOLDS, OUT_OF_VOCABULARY


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of a network.

    Attributes:
        dim: of every embedding.
        mlp_dim: of the embeddings of NCF's MLP branch; 0 for `dim`.
        bottom: widths of DLRM's bottom MLP before its last layer, which has width `dim`. NCF has none.
        top: widths of DLRM's top MLP, or of NCF's MLP branch.
        dropout: share of units dropped after each layer of `top`.
        init_std: standard deviation of the embeddings at the start.
        history: how many of the user's last movies DLRM sees; 0 to leave the moment out altogether.
        user_statistics: whether DLRM sees how many ratings the user gave, their mean and time. Beside a user's own
            embedding, what a fold leaves out tells of that fold's labels, which can harm where labels are stars.
    """

    dim: int = 32
    mlp_dim: int = 0
    bottom: tuple[int, ...] = (64,)
    top: tuple[int, ...] = (64, 32)
    dropout: float = 0.0
    init_std: float = 0.05
    history: int = 0
    user_statistics: bool = True


class Product(nn.Module):
    """GMF's interaction: the element-wise product of the user's and the movie's embedding."""

    # typing.Dict, not dict: Merlin tells by the annotation whether a module takes a dictionary
    def forward(self, inputs: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        return inputs[USER_ID] * inputs[MOVIE_ID]


class BiasedDot(nn.Module):
    """Matrix factorisation's interaction: the last column of each embedding is a bias. float [n, 1]."""

    def forward(self, inputs: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        user, movie = inputs[USER_ID], inputs[MOVIE_ID]
        product = (user[:, :-1] * movie[:, :-1]).sum(dim=1, keepdim=True)
        return product + user[:, -1:] + movie[:, -1:]


class HistoryInputs(nn.Module):
    """DLRM's inputs, with the user's last movies as two multi-hot features, pooled with learned weights per position.

    One pools the movies' embeddings, the other the same by how much the user liked them. (Position-weighted pooling of
    recent items as in TorchRec's `PositionWeightedModule`.)
    """

    def __init__(self, inputs: nn.Module, movies: ColumnSchema, dim: int, history: int):
        super().__init__()
        self.inputs = inputs
        self.table = EmbeddingTable(dim, movies)
        self.position = nn.Parameter(torch.full((2, history), history**-0.5))

    def forward(self, inputs: Dict[str, Tensor]) -> Dict[str, Tensor]:  # noqa: UP006
        vectors = self.inputs(inputs)
        codes, stars = inputs[HISTORY], inputs[HISTORY_STARS]
        weights = torch.stack([self.position[0] * (codes != NOTHING), self.position[1] * stars], dim=1)
        pooled = torch.bmm(weights, self.table.table(codes))
        if HISTORY_OWNER in inputs:
            pooled = pooled.index_select(0, inputs[HISTORY_OWNER])
        vectors[HISTORY], vectors[HISTORY_STARS] = pooled[:, 0], pooled[:, 1]
        return vectors


class PairProducts(nn.Module):
    """DLRM's interaction: the dot products of all pairs of vectors, in the order of Merlin's `DLRMInteraction`.

    A batch of 3 x 3 or 6 x 6 matrix products, half of which are thrown away, takes longer than the few products that
    are asked for (measured in bench/README.md).
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """float [n, vectors, dim] to [n, vectors * (vectors - 1) / 2]."""
        return torch.stack([(one * other).sum(dim=1) for one, other in combinations(vectors.unbind(1), 2)], dim=1)


class Recommender(nn.Module):
    """A Merlin model over (user index, movie index): gathers the side tables and scores.

    The side tables are buffers, so they move with the model to its device and into its export, but they are not among
    the trained weights.
    """

    def __init__(
        self,
        network: nn.Module,
        side: SideTables | None,
        embeddings: tuple[int, int],
        now: Moment | None = None,
        offset: float = 0.0,
    ):
        """
        Args:
            side: None for a model that sees ids only.
            embeddings: rows of the users' and of the movies' embedding tables.
            now: every user's last moment, rows by user index; None for a model that knows of no moments.
            offset: added to every score.
        """
        super().__init__()
        self.network = network
        self.register_buffer("offset", torch.tensor(offset))
        self.uses_moments = now is not None
        for name in ("movies", "stars", "mood"):
            self.register_buffer(f"now_{name}", getattr(now, name) if now else None, persistent=False)
        self.user_embeddings, self.movie_embeddings = embeddings
        self.uses_features = side is not None
        self.detail_names = side.detail_names if side else ()
        for name in ("user_details", "user_statistics", "movie_features", "movie_statistics"):
            self.register_buffer(name, getattr(side, name) if side else None, persistent=False)

    def forward(self, user: Tensor, movie: Tensor, fold: Tensor | None = None, moment: Moment | None = None) -> Tensor:
        """Logits, or in the protocol `rating` stars.

        Args:
            user, movie: int64 [n], indices.
            fold: int64 [n], the fold whose ratings the statistics must not contain; None for none left out.
            moment: of each row; None for now, after all that the user has rated.

        Returns:
            float32 [n].
        """
        inputs = self.codes(user, movie)
        continuous = []
        if self.uses_features:
            continuous = [
                self.movie_features.index_select(0, movie),
                _statistics(self.movie_statistics, fold, movie),
            ]
            if self.user_statistics is not None:
                continuous.append(_statistics(self.user_statistics, fold, user))
        if self.uses_moments:
            moment = self.now(user) if moment is None else moment
            inputs[HISTORY] = in_vocabulary(moment.movies, self.movie_embeddings)
            inputs[HISTORY_STARS] = moment.stars
            if moment.owner is not None:
                inputs[HISTORY_OWNER] = moment.owner
            continuous.append(moment.of_samples(moment.mood))
        if continuous:
            inputs[CONTINUOUS] = torch.cat(continuous, dim=1)
        return self.network(inputs).squeeze(1) + self.offset

    def now(self, user: Tensor) -> Moment:
        """The moments after all that the users, int64 [n], have rated."""
        return Moment(*(table.index_select(0, user) for table in (self.now_movies, self.now_stars, self.now_mood)))

    def codes(self, user: Tensor, movie: Tensor) -> dict[str, Tensor]:
        """The categorical inputs, each a row of its embedding table: int64 [n] by name."""
        codes = {
            USER_ID: in_vocabulary(user, self.user_embeddings),
            MOVIE_ID: in_vocabulary(movie, self.movie_embeddings),
        }
        if self.uses_features and self.detail_names:
            codes.update(zip(self.detail_names, self.user_details[user].unbind(1)))
        return codes

    def head(self) -> nn.Linear:
        """NCF's last layer."""
        return next(module for module in reversed(list(self.network.modules())) if isinstance(module, nn.Linear))

    def embedding_tables(self) -> list[tuple[str, nn.Embedding]]:
        """Every embedding of the network, with the input that it belongs to."""
        tables = (module for module in self.network.modules() if isinstance(module, EmbeddingTable))
        return [(next(iter(table.feature_to_domain)), table.table) for table in tables]

    def reserved_rows(self, user: Tensor, movie: Tensor) -> dict[str, list[int]]:
        """Which of the reserved codes these users and movies use, by input: those of rare ids that share a row."""
        codes = self.codes(user, movie)
        return {name: [row for row in range(FIRST_INDEX) if bool((code == row).any())] for name, code in codes.items()}

    @torch.no_grad()
    def fill_reserved_rows(self, trained: dict[str, list[int]]) -> None:
        """Gives reserved rows that no positive ever trained the mean of the others: unknown ids then score as average.

        Args:
            trained: the reserved rows to be left alone, by input: `reserved_rows` of the training positives.
        """
        for name, table in self.embedding_tables():
            known = trained[MOVIE_ID if name == HISTORY else name]  # what was watched before was a positive, too
            for row in set(range(FIRST_INDEX)) - set(known):
                table.weight[row] = table.weight[FIRST_INDEX:].mean(dim=0)


def _statistics(table: Tensor, fold: Tensor | None, index: Tensor) -> Tensor:
    """float32 [n, 3] of a table [FOLDS + 1, entities, 3]."""
    place = (FOLDS if fold is None else fold) * table.shape[1] + index
    return table.flatten(0, 1).index_select(0, place)


def in_vocabulary(index: Tensor, embeddings: int) -> Tensor:
    return torch.where(index < embeddings, index, OUT_OF_VOCABULARY)


def build(
    name: str, features: Features, settings: NetworkSettings, seed: int, known: tuple[str, ...] = ("train",)
) -> Recommender:
    """A fresh model: `dlrm`, `ncf` or `mf`, its weights drawn from `seed`.

    Args:
        known: the splits whose ratings are in the past of "now".

    Raises:
        ValueError: another name.
    """
    now, offset = None, 0.0
    if name == "dlrm" and settings.history:
        now = timeline(features, known, settings.history).now()
    if features.protocol == RATING_PROTOCOL:
        offset = float(features.interactions("train").stars.mean())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ids = features.schema.select_by_name([USER_ID, MOVIE_ID])
        if name == "dlrm":
            network = _dlrm(features.schema, settings)
        elif name == "ncf":
            network = _ncf(ids, features.schema, settings)
        elif name == "mf":
            network = mm.Block(_id_embeddings(ids, settings.dim + 1), BiasedDot())
        else:
            raise ValueError(f"unknown model {name!r}")
        embeddings = features.user_embeddings, features.movie_embeddings
        side = features.side if name == "dlrm" else None
        if side and not settings.user_statistics:
            side = replace(side, user_statistics=None)
        model = Recommender(network, side, embeddings, now, offset)
        with torch.no_grad():
            index = torch.full((2,), OUT_OF_VOCABULARY)
            model(index, index)  # Merlin's layers take their sizes from the first batch
        for _, table in model.embedding_tables():
            nn.init.normal_(table.weight, std=settings.init_std)
    return model


def _output(schema: Schema) -> mm.BinaryOutput:
    """Merlin's binary output without its sigmoid: the loss is taken from logits, which cannot overflow."""
    output = mm.BinaryOutput(schema[LABEL], loss=nn.BCEWithLogitsLoss())
    del output.values[1]
    return output


def _dlrm(schema: Schema, settings: NetworkSettings) -> nn.Module:
    bottom = mm.MLPBlock([*settings.bottom, settings.dim])
    inputs: nn.Module = DLRMInputBlock(schema, settings.dim, bottom)
    if settings.history:
        domain = {**schema[MOVIE_ID].properties["domain"], "name": HISTORY}
        movies = ColumnSchema(HISTORY, dtype=np.int64, tags=[Tags.CATEGORICAL], properties={"domain": domain})
        inputs = HistoryInputs(inputs, movies, settings.dim, settings.history)
    top = mm.MLPBlock(list(settings.top), dropout=settings.dropout or None)
    return mm.Model(mm.Block(inputs, InteractionBlock(PairProducts()), top), _output(schema))


def _id_embeddings(ids: Schema, dim: int) -> mm.TabularInputBlock:
    block = mm.TabularInputBlock(ids)
    block.add_route(Tags.CATEGORICAL, mm.EmbeddingTables(dim, seq_combiner="mean"))
    return block


def _ncf(ids: Schema, schema: Schema, settings: NetworkSettings) -> nn.Module:
    gmf = mm.Block(_id_embeddings(ids, settings.dim), Product())
    mlp = mm.MLPBlock(list(settings.top), dropout=settings.dropout or None)
    mlp = mm.Block(_id_embeddings(ids, settings.mlp_dim or settings.dim), mlp)
    return mm.Model(mm.ParallelBlock({"gmf": gmf, "mlp": mlp}), mm.Concat(), _output(schema))


def branches(model: Recommender) -> list[Recommender]:
    """NCF's GMF and its MLP as models of their own, over the same modules, each with a fresh last layer."""
    found = []
    for block in model.network.values[0].branches.values():
        with torch.no_grad():
            index = torch.full((2,), OUT_OF_VOCABULARY, device=model.offset.device)
            width = block(model.codes(index, index)).shape[1]
        embeddings = model.user_embeddings, model.movie_embeddings
        found.append(
            Recommender(nn.Sequential(block, nn.Linear(width, 1)), None, embeddings, offset=float(model.offset))
        )
    return found

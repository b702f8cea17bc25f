"""What the networks share: their registry, their inputs, and the module that gathers side tables and scores.

A network is assembled from Merlin Models' PyTorch blocks over a dictionary of inputs: the codes of user and movie, of
the user's details, the continuous features, and the user's history.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from merlin.models.torch.inputs.embedding import EmbeddingTable
from pydantic import Field
from pydantic.dataclasses import dataclass as settings_class
from torch import Tensor, nn

from core.columns import CONTINUOUS, HISTORY, HISTORY_OWNER, HISTORY_STARS, MOVIE_ID, USER_ID
from core.json_files import STRICT
from core.registry import Registry
from models.cut import Answer, Cut
from models.data.batches import Batch
from models.data.features import Features, SideTables
from models.data.history import History, timeline
from models.evaluation.metrics.base import TASKS
from models.protocols.base import PROTOCOLS
from models.search_space import SearchSpace
from workflows.features.vocabulary import FIRST_INDEX, FOLDS, OUT_OF_VOCABULARY

NETWORKS: Registry["Network"] = Registry("network", "models.networks")
# The blocks of the continuous inputs, in the order in which the first layer sees them.
CONTINUOUS_BLOCKS = ("movie_features", "movie_statistics", "user_statistics", "recent_means")

PositiveInt = Annotated[int, Field(gt=0)]
Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


@settings_class(frozen=True, config=STRICT, kw_only=True)
class NetworkSettings:
    """Sizes that every network has.

    Attributes:
        dim: of every embedding.
        init_std: standard deviation of the embeddings at the start.
    """

    dim: PositiveInt = 32
    init_std: Annotated[float, Field(gt=0)] = 0.05


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network that can be trained, and what everyone needs to know of it.

    Attributes:
        title: its name in tables, such as `DLRM`.
        settings: the class of its settings.
        assemble: (features, settings) to a Merlin module over the inputs, its weights drawn from PyTorch's state.
        tasks: what it can do: it is trained and compared in every protocol of such a task.
        space: what a study searches, besides what it searches for every network.
        side_tables: (features, settings) to the side tables that it sees; None for a network that sees ids only.
        history_length: settings to how many of the user's last movies it sees; 0 for no history.
        cut: (model, int64 [n] user indices, int64 [m] movie indices) to what serving needs, with a row for each; None
            where it is not served.
        against: (model, batch of positives) to float [n, 1 + k], the scores of each positive's own movie and of the
            movies that the batch shares; None to work them out pair by pair.
        branches: model to parts that can be trained apart before it, each with a last layer of its own; see
            `models/training/pretrain.py`. None where there are none.
        learns_sequences: whether it learns every next movie of a user's history in one pass, not from rows (see
            `models/data/sequences.py`); it needs `against` and a history, and sees nothing else.
        is_baseline: whether it stands in tables as a baseline: it is not compared, not served, and left out for large
            data.
        in_run: whether `run` trains it; `train` with its name, `compare` and `tune` do in any case.
    """

    title: str
    settings: type[NetworkSettings]
    assemble: Callable[[Features, Any], nn.Module]
    tasks: tuple[str, ...] = TASKS
    space: SearchSpace = field(default_factory=dict)
    side_tables: Callable[[Features, Any], SideTables | None] = lambda features, settings: None
    history_length: Callable[[Any], int] = lambda settings: 0
    cut: "Callable[[Recommender, Tensor, Tensor], Cut] | None" = None
    against: "Callable[[Recommender, Any], Tensor] | None" = None
    branches: "Callable[[Recommender], list[Recommender]] | None" = None
    learns_sequences: bool = False
    is_baseline: bool = False
    in_run: bool = True

    @property
    def is_served(self) -> bool:
        """Whether it is exported."""
        return self.cut is not None and not self.is_baseline


class Recommender(nn.Module):
    """A Merlin model over (user index, movie index): gathers the side tables and scores.

    The side tables are buffers, so they move with the model to its device and into its export, but they are not among
    the trained weights.
    """

    def __init__(
        self,
        network: nn.Module,
        embeddings: tuple[int, int],
        *,
        side: SideTables | None = None,
        now: History | None = None,
        offset: float = 0.0,
        name: str = "",
    ):
        """
        Args:
            embeddings: rows of the users' and of the movies' embedding tables.
            side: None for a model that sees ids only.
            now: every user's history after all ratings, rows by user index; None for a model that sees no history.
            offset: added to every score; calibration changes it, and the scale that scores are multiplied by.
            name: of the network in `NETWORKS`.
        """
        super().__init__()
        self.name = name
        self.network = network
        self.register_buffer("offset", torch.tensor(offset))
        self.register_buffer("scale", torch.tensor(1.0))
        self.uses_history = now is not None
        for name in ("movies", "stars", "recent_means"):
            self.register_buffer(f"now_{name}", getattr(now, name) if now else None, persistent=False)
        self.user_embeddings, self.movie_embeddings = embeddings
        self.uses_features = side is not None
        self.detail_names = side.detail_names if side else ()
        for name in ("user_details", "user_statistics", "movie_features", "movie_statistics"):
            self.register_buffer(name, getattr(side, name) if side else None, persistent=False)

    def forward(
        self, user: Tensor, movie: Tensor, fold: Tensor | None = None, history: History | None = None
    ) -> Tensor:
        """Logits, or in the protocol `rating` stars: float32 [n], of what `inputs` is given."""
        return self.network(self.inputs(user, movie, fold, history)).squeeze(1) * self.scale + self.offset

    def inputs(
        self, user: Tensor, movie: Tensor, fold: Tensor | None = None, history: History | None = None
    ) -> dict[str, Tensor]:
        """What the network sees, by name, a row for each sample (of histories that samples share, for each of them).

        Args:
            user, movie: int64 [n], indices.
            fold: int64 [n], the fold whose ratings the statistics must not contain; None for none left out.
            history: of each row; None for now, after all that the user has rated.
        """
        inputs = self.codes(user, movie)
        if self.uses_history:
            history = self.now(user) if history is None else history
            inputs[HISTORY] = self.movie_rows(history.movies)
            inputs[HISTORY_STARS] = history.stars
            if history.owner is not None:
                inputs[HISTORY_OWNER] = history.owner
        blocks = self.continuous(user, movie, fold, history)
        if blocks:
            inputs[CONTINUOUS] = torch.cat([blocks[name] for name in CONTINUOUS_BLOCKS if name in blocks], dim=1)
        return inputs

    def against(self, batch: Any) -> Tensor:
        """The scores of positives' own movies, and of the movies that they share: float [n, 1 + k], not scaled."""
        found = NETWORKS[self.name].against if self.name in NETWORKS else None
        return found(self, batch) if found else self._against_by_pairs(batch)

    def _against_by_pairs(self, batch: Batch) -> Tensor:
        own = self(batch.user, batch.movie, batch.fold, batch.history)
        rows, shared = len(batch), batch.negatives()
        count, history = len(shared.movie), batch.history
        if history is not None:
            history = replace(history, owner=torch.arange(rows, device=own.device).repeat_interleave(count))
        others = self(batch.user.repeat_interleave(count), shared.movie.repeat(rows), shared.fold.repeat(rows), history)
        return torch.cat([own[:, None], others.view(rows, count)], dim=1)

    def continuous(
        self, user: Tensor, movie: Tensor, fold: Tensor | None, history: History | None
    ) -> dict[str, Tensor]:
        """The continuous inputs by block, float32 [n, ...]; see `CONTINUOUS_BLOCKS`."""
        blocks = {}
        if self.uses_features:
            blocks["movie_features"] = self.movie_features.index_select(0, movie)
            blocks["movie_statistics"] = _statistics(self.movie_statistics, fold, movie)
        if self.user_statistics is not None:
            blocks["user_statistics"] = _statistics(self.user_statistics, fold, user)
        if self.uses_history and history is not None:
            blocks["recent_means"] = history.of_samples(history.recent_means)
        return blocks

    def now(self, user: Tensor) -> History:
        """The histories after all that the users, int64 [n], have rated."""
        movies, stars, means = (
            table.index_select(0, user) for table in (self.now_movies, self.now_stars, self.now_recent_means)
        )
        return History(movies, stars, means)

    def as_of(self, user: Tensor, history: History) -> "Recommender":
        """The same model, to which some users are as they were at other moments.

        Args:
            user: int [n].
            history: of each of them.
        """
        other = copy(self)
        other._buffers = dict(self._buffers)
        for name in ("movies", "stars", "recent_means"):
            table = getattr(self, f"now_{name}").clone()
            table[user.long().to(table.device)] = getattr(history, name).to(table.device)
            setattr(other, f"now_{name}", table)
        return other

    def codes(self, user: Tensor, movie: Tensor) -> dict[str, Tensor]:
        """The categorical inputs, each a row of its embedding table: int64 [n] by name."""
        codes = {USER_ID: self.user_rows(user), MOVIE_ID: self.movie_rows(movie)}
        if self.uses_features and self.detail_names:
            codes.update(zip(self.detail_names, self.user_details[user].unbind(1)))
        return codes

    def user_rows(self, user: Tensor) -> Tensor:
        """Rows of the users' embedding table, int64 [n]."""
        return in_vocabulary(user, self.user_embeddings)

    def movie_rows(self, movie: Tensor) -> Tensor:
        """Rows of the movies' embedding tables, int64 [n]."""
        return in_vocabulary(movie, self.movie_embeddings)

    def embedding_tables(self) -> list[tuple[str, nn.Embedding]]:
        """Every embedding of the network, with the input that it belongs to."""
        tables = (part for part in self.network.modules() if isinstance(part, EmbeddingTable))
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


def build(
    name: str, features: Features, settings: NetworkSettings, seed: int, known: tuple[str, ...] = ("train",)
) -> Recommender:
    """A fresh model, its weights drawn from `seed`.

    Args:
        name: of a network in `NETWORKS`.
        known: the splits whose ratings it knows of beforehand, as in the history of "now".

    Raises:
        UserError: another name.
    """
    network = NETWORKS.choose(name)
    length = network.history_length(settings)
    now = timeline(features, known, length).now() if length else None
    offset = PROTOCOLS[features.protocol].offset(features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Recommender(
            network.assemble(replace(features, known=known), settings),
            (features.user_embeddings, features.movie_embeddings),
            side=network.side_tables(features, settings),
            now=now,
            offset=offset,
            name=name,
        )
        with torch.no_grad():
            index = torch.full((2,), OUT_OF_VOCABULARY)
            model(index, index)  # Merlin's layers take their sizes from the first batch
        for _, table in model.embedding_tables():
            nn.init.normal_(table.weight, std=settings.init_std)
    return model


def cut(model: Recommender, users: int, movies: int) -> Cut:
    """A trained network on the CPU for serving, as of now: after all that the users rated.

    Args:
        users, movies: rows of the side tables.

    Raises:
        ValueError: the network is not served.
    """
    return cut_of(model, torch.arange(users), torch.arange(movies))


@torch.no_grad()
def cut_of(model: Recommender, users: Tensor, movies: Tensor) -> Cut:
    """The same with a row for each of int64 [n] users and int64 [m] movies.

    Raises:
        ValueError: the network is not served.
    """
    cut_network = NETWORKS[model.name].cut
    if cut_network is None:
        raise ValueError(f"{model.name} has no cut for serving")
    found = cut_network(model, users, movies)
    return replace(found, head=Answer(found.head, model.scale, model.offset).eval())


def in_vocabulary(index: Tensor, embeddings: int) -> Tensor:
    """Indices, int64, as rows of an embedding table of so many rows: those without one take the shared row."""
    return torch.where(index < embeddings, index, OUT_OF_VOCABULARY)


def _statistics(table: Tensor, fold: Tensor | None, index: Tensor) -> Tensor:
    """float32 [n, 3] of a table [FOLDS + 1, entities, 3]."""
    place = (FOLDS if fold is None else fold) * table.shape[1] + index
    return table.flatten(0, 1).index_select(0, place)

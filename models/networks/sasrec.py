"""SASRec (Kang and McAuley, "Self-Attentive Sequential Recommendation", 2018): a transformer over a user's last movies.

Trained by a softmax over many shared negatives, without which it falls short of what it can do (Klenitskiy and Vasilev,
"Turning Dross Into Gold Loss: is BERT4Rec really better than SASRec?", 2023). It sees which movies a user rated, in
which order, and nothing else: no user id, no stars, no side tables.
"""

from typing import Annotated, Dict  # noqa: UP035

import torch
from merlin.models.torch.inputs.embedding import EmbeddingTable
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from core.columns import HISTORY, HISTORY_OWNER, MOVIE_ID
from core.json_files import STRICT
from models.cut import Cut, DotHead
from models.data.features import Features
from models.data.history import NOTHING
from models.data.sequences import SequenceBatch
from models.networks._blocks import ByteDropout, products_against, with_byte_dropout
from models.networks.base import (
    NETWORKS,
    Network,
    NetworkSettings,
    PositiveInt,
    Recommender,
    Share,
    in_vocabulary,
)
from models.search_space import OneOf, Uniform


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SASRecSettings(NetworkSettings):
    """Sizes of SASRec.

    Attributes:
        history: how many of the user's last movies it sees.
        blocks: layers of attention.
        heads: of each; `dim` is a multiple.
        dropout: share of what is dropped of inputs, attention and layers.
    """

    history: PositiveInt = 200
    blocks: PositiveInt = 2
    heads: Annotated[int, Field(gt=0)] = 2
    dropout: Share = 0.2

    @model_validator(mode="after")
    def _heads_divide(self) -> "SASRecSettings":
        if self.dim % self.heads:
            raise ValueError(f"dim is {self.dim}; it must be a multiple of heads, which is {self.heads}")
        return self


class SelfAttention(nn.Module):
    """Movies' embeddings, whose last column is a bias, and the transformer over them."""

    def __init__(self, table: EmbeddingTable, settings: SASRecSettings):
        super().__init__()
        self.table, self.dim, self.length = table, settings.dim, settings.history
        self.position = nn.Parameter(torch.empty(settings.history, settings.dim))
        nn.init.normal_(self.position, std=settings.init_std)
        self.dropout = ByteDropout(settings.dropout)
        layer = nn.TransformerEncoderLayer(
            settings.dim,
            settings.heads,
            4 * settings.dim,
            settings.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, settings.blocks, norm=nn.LayerNorm(settings.dim), enable_nested_tensor=False
        )
        with_byte_dropout(self.encoder)

    def states(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """What is known after each movie: float [n, width, dim].

        Args:
            codes: int64 [n, width], rows of the table, the oldest first; after the last one anything.
            lengths: int64 [n], how many there are.
        """
        width = codes.shape[1]
        column = torch.arange(width, device=codes.device)
        # positions count from the last movie backwards
        position = (self.length - lengths[:, None] + column).clamp(max=self.length - 1)
        inputs = self.table.table(codes)[..., :-1] * self.dim**0.5 + self.position[position]
        future = torch.ones(width, width, dtype=torch.bool, device=codes.device).triu(1)
        return self.encoder(self.dropout(inputs), mask=future)

    def after(self, codes: Tensor) -> Tensor:
        """What is known of each user after all of their movies, float [n, dim]; 0 without any.

        Args:
            codes: int64 [n, length], rows of the table, the latest first; `NOTHING` where there were fewer.
        """
        lengths = (codes != NOTHING).sum(dim=1)
        width = codes.shape[1]  # of any batch, where it is traced; else no wider than it needs to be
        if not torch.jit.is_tracing():
            width = max(1, int(lengths.max())) if len(codes) else 1
        column = torch.arange(width, device=codes.device)
        oldest_first = codes.gather(1, (lengths[:, None] - 1 - column).clamp(min=0))
        states = self.states(oldest_first, lengths)
        last = states[torch.arange(codes.shape[0], device=codes.device), (lengths - 1).clamp(min=0)]
        return torch.where(lengths[:, None] > 0, last, 0.0)

    # typing.Dict, not dict: Merlin reads from the annotation whether a module takes a dictionary
    def forward(self, inputs: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        """float [n, 1]."""
        user = self.after(inputs[HISTORY])
        if HISTORY_OWNER in inputs:
            user = user.index_select(0, inputs[HISTORY_OWNER])
        movie = self.table.table(inputs[MOVIE_ID])
        return (user * movie[:, :-1]).sum(dim=1, keepdim=True) + movie[:, -1:]


def assemble(features: Features, settings: SASRecSettings) -> nn.Module:
    """The network over a user's last movies."""
    return SelfAttention(EmbeddingTable(settings.dim + 1, features.schema[MOVIE_ID]), settings)


def against(model: Recommender, batch: SequenceBatch) -> Tensor:
    """Scores of ratings' own movies and of shared negatives."""
    network = model.network
    states = network.states(model.movie_rows(batch.inputs), batch.lengths)
    user = states[batch.owner, batch.state]
    movie = network.table.table(model.movie_rows(batch.movies()))
    return products_against(user, movie) + model.offset


class ListEncoder(nn.Module):
    """A user's row from a list of movies: `SelfAttention.after` for one user, without dropout.

    Attention is written out in matrix products, as ONNX keeps the length of the example where PyTorch's own layers are
    traced.
    """

    def __init__(self, network: SelfAttention, embeddings: int):
        """
        Args:
            embeddings: rows of the movies' table that have a movie of their own or are shared.
        """
        super().__init__()
        self.network, self.embeddings = network, embeddings

    def forward(self, movies: Tensor) -> Tensor:
        """int64 [1, m] movie indices, the latest last, to float32 [1, dim + 1]: the last movies count, as many as the
        network sees."""
        network = self.network
        codes = in_vocabulary(movies[0, -network.length :], self.embeddings)
        column = torch.arange(codes.shape[0], device=codes.device)
        position = network.length - codes.shape[0] + column
        rows = network.table.table(codes)[:, :-1] * network.dim**0.5 + network.position[position]
        is_later = column > column[:, None]
        for layer in network.encoder.layers:
            rows = rows + _attended(layer.self_attn, layer.norm1(rows), is_later)
            rows = rows + layer.linear2(functional.gelu(layer.linear1(layer.norm2(rows))))
        row = network.encoder.norm(rows[-1:])
        return torch.cat([row, torch.zeros_like(row[:, :1])], dim=1)


def _attended(attention: nn.MultiheadAttention, rows: Tensor, is_later: Tensor) -> Tensor:
    """Self-attention over float [m, dim] rows; bool [m, m] is true where the column is hidden from the row."""
    parts = functional.linear(rows, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=1)
    query, key, value = (part.view(-1, attention.num_heads, attention.head_dim).transpose(0, 1) for part in parts)
    scores = query @ key.transpose(1, 2) / attention.head_dim**0.5
    shares = torch.softmax(scores.masked_fill(is_later, -torch.inf), dim=2)
    return attention.out_proj((shares @ value).transpose(0, 1).reshape(-1, attention.embed_dim))


def cut(model: Recommender, users: Tensor, movies: Tensor) -> Cut:
    """A user's row is [what is known after the last movie, 0]: the bias is the movie's alone."""
    now = model.now(users)
    rows = torch.cat([model.network.after(model.movie_rows(part)) for part in now.movies.split(1 << 10)])
    table = model.network.table.table.weight[model.movie_rows(movies)]
    vectors = table[:, :-1].contiguous().numpy()
    return Cut(
        users=torch.cat([rows, torch.zeros(len(rows), 1)], dim=1).numpy(),
        vectors=vectors,
        hidden=table[:, -1:].contiguous().numpy(),
        head=DotHead().eval(),
        embeddings=vectors,
        encoder=ListEncoder(model.network, model.movie_embeddings).eval(),
    )


NETWORKS.add(
    "sasrec",
    Network(
        title="SASRec",
        settings=SASRecSettings,
        assemble=assemble,
        history_length=lambda settings: settings.history,
        space={
            "history": OneOf(50, 100, 200),
            "blocks": OneOf(1, 2, 3),
            "dropout": Uniform(0.1, 0.6),
            "shared_negatives": OneOf(128, 256, 512, 1024),
        },
        cut=cut,
        against=against,
        learns_sequences=True,
        tasks=("ranking",),
        in_run=False,
    ),
    position=25,
)

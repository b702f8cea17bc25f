"""Features that no dataset has: random side tables, details of users, and ids out of vocabulary."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from merlin.schema import ColumnSchema, Schema, Tags

from core.columns import CONTINUOUS, LABEL, MOVIE_ID, USER_ID
from models.data.features import Features, SideTables
from models.data.interactions import Interactions
from models.protocols.base import PROTOCOLS
from workflows.features.vocabulary import FIRST_INDEX, FOLDS

GENRES_AND_YEAR = 4
MOVIE_COLUMNS = {"genres": ["Action", "Comedy", "Drama"], "year": ["year"]}
DETAIL_CODES = {"gender": 5, "age": 7, "occupation": 6}
USER_DETAILS = tuple(DETAIL_CODES)
OUT = 10  # users and movies, the last ones, without an embedding of their own


def categorical(name: str, rows: int, *tags: Tags) -> ColumnSchema:
    """A column of codes below `rows`."""
    domain = {"min": 0, "max": rows - 1, "name": name}
    return ColumnSchema(name, dtype=np.int64, tags=[Tags.CATEGORICAL, *tags], properties={"domain": domain})


def synthetic_features(
    users: int, movies: int, user_embeddings: int, movie_embeddings: int, details: Iterable[str] = USER_DETAILS
) -> Features:
    """Features without a folder, with every side table random."""
    generator = torch.Generator().manual_seed(0)
    names = tuple(details)
    columns = [
        torch.randint(0, DETAIL_CODES[name], (users, 1), generator=generator, dtype=torch.int64) for name in names
    ]
    side = SideTables(
        user_details=torch.cat(columns, dim=1) if columns else torch.zeros((users, 0), dtype=torch.int64),
        user_statistics=torch.randn((FOLDS + 1, users, 3), generator=generator),
        movie_features=torch.randn((movies, GENRES_AND_YEAR), generator=generator),
        movie_statistics=torch.randn((FOLDS + 1, movies, 3), generator=generator),
        detail_names=names,
        movie_columns=MOVIE_COLUMNS,
    )
    schema = Schema(
        [
            categorical(USER_ID, user_embeddings, Tags.USER, Tags.USER_ID),
            categorical(MOVIE_ID, movie_embeddings, Tags.ITEM, Tags.ITEM_ID),
            *(categorical(name, DETAIL_CODES[name], Tags.USER) for name in names),
            ColumnSchema(CONTINUOUS, dtype=np.float32, tags=[Tags.CONTINUOUS], dims=(None, GENRES_AND_YEAR + 3 + 3)),
            ColumnSchema(LABEL, dtype=np.float32, tags=[Tags.BINARY_CLASSIFICATION, Tags.TARGET]),
        ]
    )
    return Features(
        protocol="leave-one-out",
        dataset="synthetic",
        folder=Path("nowhere"),
        schema=schema,
        side=side,
        user_embeddings=user_embeddings,
        movie_embeddings=movie_embeddings,
        users=users,
        movies=movies,
        rated_movies=movies - FIRST_INDEX,
        fingerprint="synthetic",
        label=PROTOCOLS["leave-one-out"].label,
    )


@dataclass(frozen=True, kw_only=True)
class FeaturesOfRows(Features):
    """Features whose training rows are given; the other splits are empty."""

    train: Interactions

    def interactions(self, part: str) -> Interactions:
        return self.train if part == "train" else taken(self.train, slice(0))


def taken(rows: Interactions, which: slice) -> Interactions:
    """Some of the rows."""
    return Interactions(**{name: column[which] for name, column in vars(rows).items()})


def features_of_rows(rows: Interactions, users: int, movies: int, protocol: str) -> Features:
    """Features of a protocol around training rows; every index is in the vocabulary."""
    features = synthetic_features(users, movies, users, movies)
    known = {**vars(features), "protocol": protocol, "label": PROTOCOLS[protocol].label}
    return FeaturesOfRows(**known, train=rows)


def less_vocabulary(features: Features) -> Features:
    """The last users and movies are out of vocabulary, some movies of histories among them."""
    less = {name: getattr(features, name) - OUT for name in ("user_embeddings", "movie_embeddings")}
    return replace(features, **less)


def with_details(features: Features) -> Features:
    """The same features with a random gender, age and occupation of each user."""
    generator = torch.Generator().manual_seed(0)
    codes = [torch.randint(0, DETAIL_CODES[name], (features.users,), generator=generator) for name in USER_DETAILS]
    columns = [categorical(name, DETAIL_CODES[name], Tags.USER) for name in USER_DETAILS]
    side = replace(features.side, user_details=torch.stack(codes, dim=1), detail_names=USER_DETAILS)
    return replace(features, schema=Schema([*features.schema, *columns]), side=side)


def rows_at(ratings: Iterable[tuple[int, int, int]]) -> Interactions:
    """Training rows of (user, movie, second); of ratings of the same second the later row came later."""
    user, movie, second = (np.array(column, np.int64) for column in zip(*ratings))
    same = user[:, None] == user
    place = np.arange(len(user))
    is_later = (second > second[:, None]) | ((second == second[:, None]) & (place > place[:, None]))
    others = ~np.eye(len(user), dtype=bool)
    later = (same & is_later).sum(axis=1)
    not_before = (same & others & (second >= second[:, None])).sum(axis=1)
    columns = {"user": user, "movie": movie, "later": later, "not_before": not_before}
    return Interactions(
        **{name: torch.from_numpy(column.astype(np.int32)) for name, column in columns.items()},
        label=torch.ones(len(user)),
        fold=torch.from_numpy((place % FOLDS).astype(np.int8)),
        stars=torch.from_numpy(1.0 + place % 5).float(),
    )

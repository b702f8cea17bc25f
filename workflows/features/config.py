"""`features.json`: what the features of a split consist of."""

from pydantic.dataclasses import dataclass

from core.json_files import STRICT

FEATURES_CONFIG = "features.json"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class VocabularySizes:
    """How many users or movies there are, the reserved indices included, but for `rated`.

    Attributes:
        embeddings: rows of the embedding table.
        rows: of the side tables.
        rated: how many have a rating in any split.
    """

    embeddings: int
    rows: int
    rated: int


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FeaturesConfig:
    """The contents of `features.json`.

    Attributes:
        continuous: the names of the continuous features, in the order in which a model sees them.
        folds: into how many folds the training rows were drawn.
        movie_features: the columns of each feature of movies, in the order of the side table.
    """

    user_id: VocabularySizes
    movie_id: VocabularySizes
    continuous: list[str]
    folds: int
    seed: int
    movie_features: dict[str, list[str]]

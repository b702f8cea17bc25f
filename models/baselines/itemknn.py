"""Item-kNN: movies that were rated by the same users, by `implicit`."""

import warnings
from typing import Annotated, Literal

import numpy as np
import torch
from implicit.nearest_neighbours import (  # type: ignore[import-untyped]
    BM25Recommender,
    CosineRecommender,
    TFIDFRecommender,
)
from implicit.utils import ParameterWarning  # type: ignore[import-untyped]
from pydantic import Field
from pydantic.dataclasses import dataclass

from core.json_files import STRICT
from models.baselines.base import Baseline, TrainingData, add
from models.baselines.matrix import rated_matrix
from models.baselines.neighbourhood import Neighbourhood
from models.search_space import Integer, Log, OneOf, Uniform


@dataclass(frozen=True, config=STRICT)
class ItemKnnSettings:
    """Settings of `ItemKnn`.

    Attributes:
        neighbours: how many similarities are kept for a movie, the one with itself included.
        weighting: of the ratings, before their cosines are taken.
        k1, b: of BM25 only: how soon weights saturate, and how much popular movies are held back (0 to 1).
    """

    neighbours: Annotated[int, Field(gt=0)] = 100
    weighting: Literal["cosine", "tfidf", "bm25"] = "bm25"
    k1: Annotated[float, Field(ge=0)] = 1.2
    b: Annotated[float, Field(ge=0, le=1)] = 1.0


class ItemKnn(Neighbourhood):
    """Scores a movie by the sum of its similarities to the movies that the user has rated.

    Sarwar et al., "Item-Based Collaborative Filtering Recommendation Algorithms", 2001, by `implicit`: two movies are
    similar where the same users rated both, the more so the fewer movies these users rated ("tfidf" and "bm25";
    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009). As in `implicit`, a rated
    movie counts for those that are among its own nearest. Stars and labels do not matter: every training rating is a 1,
    everything else a 0.
    """

    def __init__(self, data: TrainingData, settings: ItemKnnSettings, seed: int):
        threads = torch.get_num_threads()
        if settings.weighting == "bm25":
            model = BM25Recommender(settings.neighbours, settings.k1, settings.b, num_threads=threads)
        else:
            kinds = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender}
            model = kinds[settings.weighting](settings.neighbours, num_threads=threads)
        # With the reserved movies no user has rated all but one, whose inverse frequency would be the logarithm of 1.
        self.ratings = rated_matrix(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParameterWarning)  # of the matrix that `implicit` itself makes on the way
            model.fit(self.ratings, show_progress=False)
        self.weights = model.similarity
        self.column = np.arange(data.movies)


add(
    Baseline(
        name="itemknn",
        title="ItemKNN",
        tasks=("ranking",),
        fit=ItemKnn,
        settings=ItemKnnSettings,
        space={
            "neighbours": Integer(10, 1000, log=True),
            "weighting": OneOf("cosine", "tfidf", "bm25"),
            "k1": Log(0.01, 100),
            "b": Uniform(0.0, 1.0),
        },
        position=30,
    )
)

"""What the protocols share that ask which movie comes next: a held-out movie among others, of each user.

A rating of any value is a positive. The held-out movie is ranked among 99 sampled movies that the user has rated in no
split, and among all movies that the user has not rated before, which is what validation chooses by: sampled metrics can
mislead.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from core.constants import CANDIDATE_NEGATIVES
from models.evaluation.judgement import Judgement, Scorer
from models.evaluation.metrics.ranking import how_many
from models.evaluation.ranking import CatalogueQuestions, catalogue_questions, full_catalogue_metrics, sampled_metrics
from models.protocols.base import Examples
from models.protocols.binary import BinaryProtocol
from models.search_space import OneOf, SearchSpace

if TYPE_CHECKING:
    from models.data.features import Features
    from models.data.interactions import Candidates


NEGATIVES = 4  # movies that were not rated, for each one that was, in what a probability means


@dataclass(frozen=True)
class HeldOut:
    """What is asked of held-out movies: where they stand among sampled movies, and among all."""

    sampled: "Candidates"
    full: CatalogueQuestions


@dataclass(frozen=True, kw_only=True)
class NextMovie(BinaryProtocol[HeldOut]):
    """See the module. How it is judged and trained is the same for all, unless one says otherwise."""

    task: str = "ranking"
    monitor: str = "full_ndcg@10"
    deciding: str = "full_ndcg@10"
    also_compared: tuple[str, ...] = ("full_hr@10", "full_mrr@10", "hr@10", "ndcg@10")
    needs_validation: bool = False  # a catalogue that is too small to rank in can still be learned
    draws_negatives: bool = True
    # A step is over every positive with every shared negative, so its positives are fewer than elsewhere.
    space: SearchSpace = field(
        default_factory=lambda: {
            "batch_size": OneOf(256, 512, 1024),
            "shared_negatives": OneOf(32, 64, 128, 256),
            "popularity": OneOf(0.0, 0.5, 0.75, 1.0),
            "recency": OneOf(0.0, 3.0, 5.0, 10.0, 30.0, 100.0),
            "recency_draws": OneOf(False, True),
        }
    )

    def heading(self, others: tuple[int, int] | None) -> str:
        return self.question.replace(str(CANDIDATE_NEGATIVES), how_many(others or (CANDIDATE_NEGATIVES,) * 2))

    def questions(self, features: "Features", part: str, seed: int = 0) -> HeldOut:
        candidates = features.candidates(part)
        return HeldOut(candidates, catalogue_questions(features, candidates, part, seed))

    def judge(self, scorer: Scorer, questions: HeldOut) -> list[Judgement]:
        model = scorer.asked(questions.sampled)
        return [sampled_metrics(model.pairs, questions.sampled), full_catalogue_metrics(model, questions.full)]

    def examples(self, scorer: Scorer, questions: HeldOut) -> Examples:
        """The held-out movies, and for each its sampled ones, which weigh as much as `NEGATIVES` of them together."""
        asked = questions.sampled
        movies = np.concatenate([asked.positive[:, None], asked.negatives], axis=1).astype(np.int64)
        there = movies >= 0
        users = np.broadcast_to(asked.user[:, None], movies.shape)[there].astype(np.int64)
        label = np.broadcast_to(np.arange(movies.shape[1]) == 0, movies.shape)
        count = np.maximum(there.sum(axis=1, keepdims=True) - 1, 1)
        weight = np.where(label, 1.0, NEGATIVES / count)
        return Examples(scorer.asked(asked).pairs(users, movies[there]), label[there].astype(np.float32), weight[there])

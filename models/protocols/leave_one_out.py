"""What will they watch next? The NCF paper's protocol: a user's last movie among 99 that they have not rated.

He et al., "Neural Collaborative Filtering", 2017. A rating of any value is a positive. The held-out movie is also
ranked among all movies that the user has not rated before, which is what validation chooses by: sampled metrics can
mislead.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.constants import CANDIDATE_NEGATIVES
from models.evaluation.judgement import Judgement, Scorer
from models.evaluation.metrics.ranking import how_many
from models.evaluation.ranking import CatalogueQuestions, catalogue_questions, full_catalogue_metrics, sampled_metrics
from models.protocols.base import PROTOCOLS, Examples
from models.protocols.binary import BinaryProtocol
from models.search_space import OneOf

if TYPE_CHECKING:
    from models.data.features import Features
    from models.data.interactions import Candidates


NEGATIVES = 4  # movies that were not rated, for each one that was, in what a probability means


@dataclass(frozen=True)
class HeldOut:
    """What is asked of held-out movies: where they stand among sampled movies, and among all."""

    sampled: "Candidates"
    full: CatalogueQuestions


class LeaveOneOut(BinaryProtocol[HeldOut]):
    """See the module."""

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


PROTOCOLS.add(
    "leave-one-out",
    LeaveOneOut(
        name="leave-one-out",
        split="leave-one-out",
        task="ranking",
        monitor="full_ndcg@10",
        deciding="hr@10",
        also_compared=("ndcg@10",),
        question="What will they watch next? (leave-one-out, a user's last movie among 99 unseen)",
        title="What will they watch next? (leave-one-out)",
        needs_validation=False,  # a catalogue that is too small to rank in can still be learned
        draws_negatives=True,
        space={"negatives": OneOf(2, 4, 8), "recency": OneOf(0.0, 3.0, 5.0, 10.0, 30.0, 100.0)},
    ),
    position=10,
)

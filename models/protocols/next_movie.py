"""What the protocols share that ask which movie comes next: a held-out movie among others, of each user.

A rating of any value is a positive. The held-out movie is ranked among 99 sampled movies that the user has rated in no
split, and in the test also in the whole catalogue.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.constants import CANDIDATE_NEGATIVES
from models.evaluation.judgement import Judgement, PerUser, Scorer
from models.evaluation.metrics.ranking import how_many
from models.evaluation.ranking import full_catalogue_metrics, sampled_metrics
from models.protocols.binary import BinaryProtocol
from models.search_space import OneOf, SearchSpace

if TYPE_CHECKING:
    from models.data.features import Features
    from models.data.interactions import Candidates


@dataclass(frozen=True, kw_only=True)
class NextMovie(BinaryProtocol["Candidates"]):
    """See the module. How it is judged and trained is the same for all, unless one says otherwise."""

    task: str = "ranking"
    monitor: str = "ndcg@10"
    deciding: str = "hr@10"
    also_compared: tuple[str, ...] = ("ndcg@10",)
    needs_validation: bool = False  # a catalogue that is too small to rank in can still be learned
    draws_negatives: bool = True
    space: SearchSpace = field(
        default_factory=lambda: {"negatives": OneOf(2, 4, 8), "recency": OneOf(0.0, 3.0, 5.0, 10.0, 30.0, 100.0)}
    )

    def heading(self, others: tuple[int, int] | None) -> str:
        return self.question.replace(str(CANDIDATE_NEGATIVES), how_many(others or (CANDIDATE_NEGATIVES,) * 2))

    def questions(self, features: "Features", part: str) -> "Candidates":
        return features.candidates(part)

    def judge(self, scorer: Scorer, questions: "Candidates") -> PerUser:
        return sampled_metrics(scorer.pairs, questions)

    def test(self, scorer: Scorer, features: "Features", seed: int) -> list[Judgement]:
        questions = self.questions(features, "test")
        return [self.judge(scorer, questions), full_catalogue_metrics(scorer.pairs, features, questions, seed)]

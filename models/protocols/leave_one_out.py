"""What will they watch next? The NCF paper's protocol: a user's last movie among 99 that they have not rated.

He et al., "Neural Collaborative Filtering", 2017. A rating of any value is a positive. The test also ranks the held-out
movie in the whole catalogue.
"""

from typing import TYPE_CHECKING

from core.constants import CANDIDATE_NEGATIVES
from models.evaluation.judgement import Judgement, PerUser, Scorer
from models.evaluation.metrics.ranking import how_many
from models.evaluation.ranking import full_catalogue_metrics, sampled_metrics
from models.protocols.base import PROTOCOLS
from models.protocols.binary import BinaryProtocol
from models.search_space import OneOf

if TYPE_CHECKING:
    from models.data.features import Features
    from models.data.interactions import Candidates


class LeaveOneOut(BinaryProtocol["Candidates"]):
    """See the module."""

    def heading(self, others: tuple[int, int] | None) -> str:
        return self.question.replace(str(CANDIDATE_NEGATIVES), how_many(others or (CANDIDATE_NEGATIVES,) * 2))

    def questions(self, features: "Features", part: str) -> "Candidates":
        return features.candidates(part)

    def judge(self, scorer: Scorer, questions: "Candidates") -> PerUser:
        return sampled_metrics(scorer.pairs, questions)

    def test(self, scorer: Scorer, features: "Features", seed: int) -> list[Judgement]:
        questions = self.questions(features, "test")
        return [self.judge(scorer, questions), full_catalogue_metrics(scorer.pairs, features, questions, seed)]


PROTOCOLS.add(
    "leave-one-out",
    LeaveOneOut(
        name="leave-one-out",
        split="leave-one-out",
        task="ranking",
        monitor="ndcg@10",
        deciding="full_ndcg@10",
        also_compared=("full_hr@10", "full_mrr@10", "hr@10", "ndcg@10"),
        question="What will they watch next? (leave-one-out; all movies, and a sample of 99)",
        title="What will they watch next? (leave-one-out)",
        needs_validation=False,  # a catalogue that is too small to rank in can still be learned
        draws_negatives=True,
        space={"negatives": OneOf(2, 4, 8), "recency": OneOf(0.0, 3.0, 5.0, 10.0, 30.0, 100.0)},
    ),
    position=10,
)

"""Will they like it? A random fifth of the ratings is the test; a movie is liked with more than 3 stars."""

from typing import TYPE_CHECKING

import numpy as np

from models.evaluation.judgement import Judgement, Scorer, judge_split
from models.protocols.base import PROTOCOLS, Examples
from models.protocols.binary import BinaryProtocol

if TYPE_CHECKING:
    from models.data.features import Features
    from models.data.interactions import Interactions


class RandomSplit(BinaryProtocol["Interactions"]):
    """See the module."""

    def questions(self, features: "Features", part: str, seed: int = 0) -> "Interactions":
        return features.interactions(part)

    def judge(self, scorer: Scorer, questions: "Interactions") -> list[Judgement]:
        label, scores = questions.label.numpy(), scorer.rows(questions)
        return [judge_split(self.task, questions, label, scores, scorer.is_probability)]

    def examples(self, scorer: Scorer, questions: "Interactions") -> Examples:
        label = questions.label.numpy()
        return Examples(scorer.rows(questions), label, np.ones(len(label)))


PROTOCOLS.add(
    "random-split",
    RandomSplit(
        name="random-split",
        split="random-split",
        task="classification",
        monitor="auc",
        deciding="auc",
        question="Will they like it? (random-split)",
        title="Will they like it? (random-split)",
    ),
    position=20,
)

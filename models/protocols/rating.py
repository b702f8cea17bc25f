"""How many stars will they give? Asked of the random split's features."""

from typing import TYPE_CHECKING

import numpy as np

from models.evaluation.judgement import Judgement, Scorer, judge_split
from models.protocols.base import PROTOCOLS, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from models.data.features import Features
    from models.data.interactions import Interactions


class Rating(Protocol["Interactions"]):
    """See the module."""

    def label(self, rows: "Interactions") -> "Tensor":
        return rows.stars

    def loss(self, outputs: "Tensor", label: "Tensor", weight: "Tensor | None") -> "Tensor":
        """The squared error. Nothing weighs its rows: what is asked is not what comes next."""
        from torch.nn.functional import mse_loss

        return mse_loss(outputs, label)

    def answer(self, outputs: "Tensor") -> "Tensor":
        return outputs

    def offset(self, features: "Features") -> float:
        """The mean of the training stars."""
        return float(features.interactions("train").stars.mean())

    def questions(self, features: "Features", part: str, seed: int = 0) -> "Interactions":
        return features.interactions(part)

    def judge(self, scorer: Scorer, questions: "Interactions") -> list[Judgement]:
        stars = questions.stars.numpy().astype(np.float64)
        return [judge_split(self.task, questions, stars, scorer.rows(questions).astype(np.float64))]


PROTOCOLS.add(
    "rating",
    Rating(
        name="rating",
        split="random-split",
        task="rating",
        monitor="rmse",
        deciding="rmse",
        question="How many stars will they give? (rating, the same split)",
        title="How many stars? (rating)",
        is_default=False,
        is_served=False,
    ),
    position=30,
)

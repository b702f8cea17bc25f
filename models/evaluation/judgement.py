"""The two protocols' questions, put to any scorer, and `evaluation.json`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.artifacts import package_versions
from core.run_folder import RATING_PROTOCOL
from models.baselines.base import PairScorer
from models.data.features import Candidates, Features, Interactions
from models.evaluation.metrics import (
    auc,
    bootstrap,
    hit_rate,
    log_losses,
    mrr,
    ndcg,
    placements,
    rank_of_positive,
    user_auc,
)

# int64 [n] user indices, int64 [n] movie indices -> float [n] scores
Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]
FULL_CATALOGUE_USERS = 2_000  # at most so many users are ranked against every movie,
FULL_CATALOGUE_PAIRS = 60_000_000  # with at most so many scores
BOOTSTRAP_ROUNDS = 1_000
PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class PerUser:
    """Metrics that are means over users: name to float64 [users]."""

    values: dict[str, np.ndarray]

    def means(self) -> dict[str, float]:
        return {name: float(value.mean()) for name, value in self.values.items()}

    def intervals(self, seed: int) -> dict[str, list[float]]:
        """95 % intervals by bootstrap over users."""

        values = np.stack(list(self.values.values()), axis=1)
        low, high = bootstrap(lambda weight: weight @ values / weight.sum(), len(values), seed, BOOTSTRAP_ROUNDS)
        return {name: [float(low[i]), float(high[i])] for i, name in enumerate(self.values)}


@dataclass(frozen=True)
class PerRow:
    """Random-split's metrics: scores and labels of rows, and whose row each is (0 to users - 1)."""

    label: np.ndarray
    score: np.ndarray
    owner: np.ndarray
    is_probability: bool

    def means(self) -> dict[str, float]:
        metrics = {"auc": auc(self.label, self.score)}
        if self.is_probability:
            metrics["log_loss"] = float(log_losses(self.label, self.score).mean())
        return metrics

    def intervals(self, seed: int) -> dict[str, list[float]]:
        """95 % intervals by bootstrap over users, all rows of a user together.

        The AUC of a resample is taken to first order in the users' weights, from each row's share of the other label's
        rows that it is on the right side of: one sort for all resamples (Obuchowski, "Nonparametric Analysis of
        Clustered ROC Curve Data", 1997).
        """
        positive = self.label > 0
        share = placements(self.label, self.score)
        sums: list[np.ndarray] = [positive, ~positive, share * positive, share * ~positive]
        if self.is_probability:
            sums += [np.ones(len(share)), log_losses(self.label, self.score)]
        of_users = np.stack([np.bincount(self.owner, values) for values in sums], axis=1)
        area = auc(self.label, self.score)

        def resampled(weight: np.ndarray) -> list[float]:
            positives, negatives, of_positives, of_negatives, *rest = weight @ of_users
            with np.errstate(invalid="ignore"):
                aucs = of_positives / positives + of_negatives / negatives - area
            return [aucs, rest[1] / rest[0]] if rest else [aucs]

        low, high = bootstrap(resampled, len(of_users), seed, BOOTSTRAP_ROUNDS)
        return {name: [float(low[i]), float(high[i])] for i, name in enumerate(self.means())}


@dataclass(frozen=True)
class PerRating:
    """Star prediction's metrics: true and predicted stars of rows, and whose row each is."""

    stars: np.ndarray
    predicted: np.ndarray
    owner: np.ndarray

    def means(self) -> dict[str, float]:
        error = self.predicted - self.stars
        return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.abs(error).mean())}

    def intervals(self, seed: int) -> dict[str, list[float]]:
        """95 % intervals by bootstrap over users, all rows of a user together."""
        error = self.predicted - self.stars
        sums = (np.ones(len(error)), error**2, np.abs(error))
        of_users = np.stack([np.bincount(self.owner, values) for values in sums], axis=1)

        def resampled(weight: np.ndarray) -> list[float]:
            rows, squares, absolute = weight @ of_users
            return [np.sqrt(squares / rows), absolute / rows]

        low, high = bootstrap(resampled, len(of_users), seed, BOOTSTRAP_ROUNDS)
        return {name: [float(low[i]), float(high[i])] for i, name in enumerate(self.means())}


def leave_one_out_metrics(score: Scorer, questions: Candidates) -> PerUser:
    """HR@10, NDCG@10, MRR@10 and AUC of each held-out movie among its sampled unseen movies."""
    blocks = np.array_split(np.arange(len(questions.user)), -(-questions.negatives.size // PAIRS_AT_ONCE))
    parts = [_sampled_metrics(score, questions, block) for block in blocks]
    return PerUser({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _sampled_metrics(score: Scorer, questions: Candidates, block: np.ndarray) -> dict[str, np.ndarray]:
    movies = np.concatenate([questions.positive[block, None], questions.negatives[block]], axis=1).astype(np.int64)
    there = movies >= 0
    users = np.repeat(questions.user[block].astype(np.int64), movies.shape[1]).reshape(movies.shape)
    scores = np.zeros(movies.shape, np.float32)
    scores[there] = score(users[there], movies[there])
    positive, others, valid = scores[:, 0], scores[:, 1:], there[:, 1:]
    rank = rank_of_positive(positive, others, valid)
    return {
        "auc": user_auc(positive, others, valid),
        "hr@10": hit_rate(rank),
        "ndcg@10": ndcg(rank),
        "mrr@10": mrr(rank),
    }


def full_catalogue_metrics(score: Scorer, features: Features, questions: Candidates, seed: int) -> PerUser:
    """HR@10 and NDCG@10 of the held-out test movie among all movies that the user has rated in no other split.

    Sampled metrics can order models wrongly (Krichene and Rendle, "On Sampled Metrics for Item Recommendation", 2020).
    Where there are more users than `FULL_CATALOGUE_USERS` and `FULL_CATALOGUE_PAIRS` allow, they are drawn from `seed`.
    """
    catalogue = features.catalogue
    chosen = np.arange(len(questions.user))
    most = min(FULL_CATALOGUE_USERS, max(1, FULL_CATALOGUE_PAIRS // len(catalogue)))
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, most, replace=False))
    position = np.full(features.users, -1)
    position[questions.user[chosen]] = np.arange(len(chosen))
    user, movie = features.seen("train", "valid")
    asked = position[user] >= 0
    rated = np.zeros((len(chosen), len(catalogue)), bool)
    rated[position[user[asked]], movie[asked] - catalogue[0]] = True
    at_once = max(1, PAIRS_AT_ONCE // len(catalogue))
    rank = np.empty(len(chosen), np.int64)
    for start in range(0, len(chosen), at_once):
        part = slice(start, min(start + at_once, len(chosen)))
        rows = chosen[part]
        users = np.repeat(questions.user[rows].astype(np.int64), len(catalogue))
        scores = score(users, np.tile(catalogue, len(rows))).reshape(len(rows), -1)
        held_out = questions.positive[rows] - catalogue[0]
        positive = scores[np.arange(len(rows)), held_out]
        valid = ~rated[part]
        valid[np.arange(len(rows)), held_out] = False
        rank[part] = rank_of_positive(positive, scores, valid)
    return PerUser({"full_hr@10": hit_rate(rank), "full_ndcg@10": ndcg(rank)})


def random_split_metrics(scores: np.ndarray, rows: Interactions, is_probability: bool = True) -> PerRow:
    """AUC over all rows, and the log loss where the scores, float [n], are probabilities."""
    return PerRow(rows.label.numpy(), scores, owners(rows), is_probability)


def rating_metrics(scores: np.ndarray, rows: Interactions) -> PerRating:
    """RMSE and MAE of predicted stars, float [n], over all rows."""
    return PerRating(rows.stars.numpy().astype(np.float64), scores.astype(np.float64), owners(rows))


def owners(rows: Interactions) -> np.ndarray:
    """Whose row each is, from 0 to one less than the users that have any: int64 [n]."""
    user = rows.user.long().numpy()
    return (np.cumsum(np.bincount(user) > 0) - 1)[user]


@dataclass(frozen=True)
class Contender:
    """A model or a baseline, as a test set asks it.

    Attributes:
        pairs: its scores of users and movies, now.
        rows: its scores of a split's rows, each at its own moment.
        is_probability: whether the scores are probabilities, so that a log loss means something.
    """

    pairs: Scorer
    rows: Callable[[Interactions], np.ndarray]
    is_probability: bool

    @classmethod
    def of_rule(cls, rule: PairScorer) -> "Contender":
        """Of a scorer that knows nothing of moments, with `is_probability`."""

        def rows(table: Interactions) -> np.ndarray:
            return np.asarray(rule(table.user.long().numpy(), table.movie.long().numpy()))

        return cls(rule, rows, rule.is_probability)


def judge(contender: Contender, features: Features, seed: int) -> list[PerUser | PerRow | PerRating]:
    """Scores the test set of a protocol.

    Args:
        seed: which users are asked about all movies, where there are too many.
    """
    if features.protocol == "leave-one-out":
        questions = features.candidates("test")
        sampled = leave_one_out_metrics(contender.pairs, questions)
        return [sampled, full_catalogue_metrics(contender.pairs, features, questions, seed)]
    rows = features.interactions("test")
    scores = contender.rows(rows)
    if features.protocol == RATING_PROTOCOL:
        return [rating_metrics(scores, rows)]
    return [random_split_metrics(scores, rows, contender.is_probability)]


def test_result(
    name: str, contender: Contender, features: Features, seed: int, training: dict[str, Any]
) -> dict[str, Any]:
    """Scores the test set of a protocol: one entry of `evaluation.json`.

    Args:
        training: `epochs`, `train_seconds` and `samples_per_second`, where the model was trained.
    """
    parts = judge(contender, features, seed)
    judged: dict[str, int] = {}
    for part in parts:
        if isinstance(part, PerUser):
            full = "full_hr@10" in part.values
            judged["full_catalogue_users" if full else "test_users"] = len(next(iter(part.values.values())))
        else:
            judged["test_rows"] = len(part.owner)
    return {
        "model": name,
        "protocol": features.protocol,
        "metrics": {key: value for part in parts for key, value in part.means().items()},
        "ci95": {key: value for part in parts for key, value in part.intervals(seed).items()},
        "seed": seed,
        "epochs": training.get("epochs", 0),
        "train_seconds": training.get("train_seconds", 0.0),
        "samples_per_second": training.get("samples_per_second", 0),
        **judged,
        "versions": package_versions(),
    }

"""The two protocols' questions, put to any scorer, and `evaluation.json`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from marquee.runs import package_versions
from models.data import Candidates, Features, Interactions
from models.metrics import AucOrder, auc, bootstrap, hit_rate, log_losses, mrr, ndcg, rank_of_positive, user_auc

# int64 [n] user indices, int64 [n] movie indices -> float [n] scores
Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]
FULL_CATALOGUE_USERS = 2_000  # at most so many users are ranked against every movie
BOOTSTRAP_ROUNDS = 1_000
BOOTSTRAP_ROUNDS_AUC = 200  # each a pass over all rows
PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class PerUser:
    """Metrics that are means over users: name to float64 [users]."""

    values: dict[str, np.ndarray]

    def means(self) -> dict[str, float]:
        return {name: float(value.mean()) for name, value in self.values.items()}

    def intervals(self, seed: int) -> dict[str, list[float]]:
        """95 % intervals by bootstrap over users."""

        def interval(value: np.ndarray) -> list[float]:
            return bootstrap(lambda weight: float(weight @ value / weight.sum()), len(value), seed, BOOTSTRAP_ROUNDS)

        return {name: interval(value) for name, value in self.values.items()}


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
        """95 % intervals by bootstrap over users, all rows of a user together."""
        users = int(self.owner.max()) + 1
        order = AucOrder(self.label, self.score)
        result = {"auc": bootstrap(lambda weight: order.auc(weight[self.owner]), users, seed, BOOTSTRAP_ROUNDS_AUC)}
        if self.is_probability:
            losses = np.bincount(self.owner, log_losses(self.label, self.score), users)
            rows = np.bincount(self.owner, minlength=users)
            result["log_loss"] = bootstrap(lambda w: float(w @ losses / (w @ rows)), users, seed, BOOTSTRAP_ROUNDS)
        return result


def leave_one_out_metrics(score: Scorer, questions: Candidates) -> PerUser:
    """HR@10, NDCG@10, MRR@10 and AUC of each held-out movie among its sampled unseen movies."""
    movies = np.concatenate([questions.positive[:, None], questions.negatives], axis=1)
    there = movies >= 0
    users = np.repeat(questions.user, movies.shape[1]).reshape(movies.shape)
    scores = np.zeros(movies.shape, np.float32)
    scores[there] = score(users[there], movies[there])
    positive, others, valid = scores[:, 0], scores[:, 1:], there[:, 1:]
    rank = rank_of_positive(positive, others, valid)
    return PerUser(
        {
            "auc": user_auc(positive, others, valid),
            "hr@10": hit_rate(rank),
            "ndcg@10": ndcg(rank),
            "mrr@10": mrr(rank),
        }
    )


def full_catalogue_metrics(score: Scorer, features: Features, questions: Candidates, seed: int) -> PerUser:
    """HR@10 and NDCG@10 of the held-out test movie among all movies that the user has rated in no other split.

    Sampled metrics can order models wrongly (Krichene and Rendle, "On Sampled Metrics for Item Recommendation", 2020).
    Where there are more than `FULL_CATALOGUE_USERS` users, so many of them are drawn from `seed`.
    """
    chosen = np.arange(len(questions.user))
    if len(chosen) > FULL_CATALOGUE_USERS:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, FULL_CATALOGUE_USERS, replace=False))
    catalogue = features.catalogue
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
        users = np.repeat(questions.user[rows], len(catalogue))
        scores = score(users, np.tile(catalogue, len(rows))).reshape(len(rows), -1)
        held_out = questions.positive[rows] - catalogue[0]
        positive = scores[np.arange(len(rows)), held_out]
        valid = ~rated[part]
        valid[np.arange(len(rows)), held_out] = False
        rank[part] = rank_of_positive(positive, scores, valid)
    return PerUser({"full_hr@10": hit_rate(rank), "full_ndcg@10": ndcg(rank)})


def random_split_metrics(score: Scorer, rows: Interactions, is_probability: bool = True) -> PerRow:
    """AUC over all rows, and the log loss where the score is a probability."""
    _, owner = np.unique(rows.user.numpy(), return_inverse=True)
    return PerRow(rows.label.numpy(), score(rows.user.numpy(), rows.movie.numpy()), owner, is_probability)


def test_result(
    name: str, score: Scorer, features: Features, seed: int, is_probability: bool, training: dict[str, Any]
) -> dict[str, Any]:
    """Scores the test set of a protocol: one entry of `evaluation.json`.

    Args:
        is_probability: whether the scores are probabilities, so that a log loss means something.
        training: `epochs`, `train_seconds` and `samples_per_second`, where the model was trained.
    """
    if features.protocol == "leave-one-out":
        questions = features.candidates("test")
        sampled = leave_one_out_metrics(score, questions)
        full = full_catalogue_metrics(score, features, questions, seed)
        metrics = {**sampled.means(), **full.means()}
        intervals = {**sampled.intervals(seed), **full.intervals(seed)}
        judged = {"test_users": len(questions.user), "full_catalogue_users": len(full.values["full_hr@10"])}
    else:
        rows = random_split_metrics(score, features.interactions("test"), is_probability)
        metrics, intervals = rows.means(), rows.intervals(seed)
        judged = {"test_rows": len(rows.label)}
    return {
        "model": name,
        "protocol": features.protocol,
        "metrics": metrics,
        "ci95": intervals,
        "seed": seed,
        "epochs": training.get("epochs", 0),
        "train_seconds": training.get("train_seconds", 0.0),
        "samples_per_second": training.get("samples_per_second", 0),
        **judged,
        "versions": package_versions(),
    }

"""Where held-out movies stand: among sampled unseen movies, and in the whole catalogue."""

from typing import TYPE_CHECKING

import numpy as np

from core.constants import K
from models.evaluation.judgement import PerUser, ScorePairs
from models.evaluation.metrics.base import FULL, metrics_of
from models.evaluation.metrics.ranking import ranking

if TYPE_CHECKING:
    from models.data.features import Features
    from models.data.interactions import Candidates

FULL_CATALOGUE_USERS = 2_000  # at most so many users are ranked against every movie,
FULL_CATALOGUE_PAIRS = 60_000_000  # with at most so many scores
PAIRS_AT_ONCE = 1 << 20


def sampled_metrics(score: ScorePairs, questions: "Candidates") -> PerUser:
    """Every ranking metric of each held-out movie among its sampled unseen movies.

    A user with fewer than `K` of those is left out of all of them: the held-out movie is among the first `K` whatever
    the scores.
    """
    others = (questions.negatives >= 0).sum(axis=1)
    judged = np.flatnonzero(others >= K)
    pairs = len(judged) * questions.negatives.shape[1]
    blocks = np.array_split(judged, max(1, -(-pairs // PAIRS_AT_ONCE)))
    parts = [_sampled_metrics(score, questions, block) for block in blocks]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return PerUser(
        values, left_out=len(others) - len(judged), others=_fewest_and_most(others[judged] if len(judged) else others)
    )


def _fewest_and_most(others: np.ndarray) -> tuple[int, int] | None:
    return (int(others.min()), int(others.max())) if len(others) else None


def _sampled_metrics(score: ScorePairs, questions: "Candidates", block: np.ndarray) -> dict[str, np.ndarray]:
    movies = np.concatenate([questions.positive[block, None], questions.negatives[block]], axis=1).astype(np.int64)
    there = movies >= 0
    users = np.repeat(questions.user[block].astype(np.int64), movies.shape[1]).reshape(movies.shape)
    scores = np.zeros(movies.shape, np.float32)
    if len(block):
        scores[there] = score(users[there], movies[there])
    found = ranking(scores[:, 0], scores[:, 1:], there[:, 1:])
    return {name: metric.per_user(found) for name, metric in metrics_of("ranking").items() if metric.per_user}


def full_catalogue_metrics(score: ScorePairs, features: "Features", questions: "Candidates", seed: int) -> PerUser:
    """Ranking metrics of the held-out test movie among all movies that the user has rated in no other split.

    Sampled metrics can order models wrongly (Krichene and Rendle, "On Sampled Metrics for Item Recommendation", 2020).
    Where there are more users than `FULL_CATALOGUE_USERS` and `FULL_CATALOGUE_PAIRS` allow, they are drawn from `seed`.
    Of those, users with fewer than `K` others are left out, as in `sampled_metrics`.
    """
    catalogue = features.catalogue
    drawn = _chosen_users(len(questions.user), len(catalogue), seed)
    rated = _rated_before(features, questions.user[drawn])
    rated[np.arange(len(drawn)), questions.positive[drawn] - catalogue[0]] = True  # no movie is ranked among itself
    judged = (~rated).sum(axis=1) >= K
    chosen, rated = drawn[judged], rated[judged]
    metrics = {name: one.per_user for name, one in metrics_of("ranking").items() if one.full_catalogue and one.per_user}
    values: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    at_once = max(1, PAIRS_AT_ONCE // len(catalogue))
    for start in range(0, len(chosen), at_once):
        rows = chosen[start : start + at_once]
        users = np.repeat(questions.user[rows].astype(np.int64), len(catalogue))
        scores = score(users, np.tile(catalogue, len(rows))).reshape(len(rows), -1)
        place = np.arange(len(rows))
        held_out = questions.positive[rows] - catalogue[0]
        found = ranking(scores[place, held_out], scores, ~rated[start : start + at_once])
        for name, per_user in metrics.items():
            values[name].append(per_user(found))
    return PerUser(
        {FULL + name: np.concatenate(parts) if parts else np.empty(0) for name, parts in values.items()},
        "full_catalogue_users",
        left_out=len(drawn) - len(chosen),
    )


def _chosen_users(users: int, movies: int, seed: int) -> np.ndarray:
    """The places of the users that are asked about, ascending."""
    chosen = np.arange(users)
    most = min(FULL_CATALOGUE_USERS, max(1, FULL_CATALOGUE_PAIRS // movies))
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, most, replace=False))
    return chosen


def _rated_before(features: "Features", users: np.ndarray) -> np.ndarray:
    """Which movies of the catalogue each user has rated in train or validation: bool [users, movies]."""
    catalogue = features.catalogue
    position = np.full(features.users, -1)
    position[users] = np.arange(len(users))
    user, movie = features.seen("train", "valid")
    asked = position[user] >= 0
    rated = np.zeros((len(users), len(catalogue)), bool)
    rated[position[user[asked]], movie[asked] - catalogue[0]] = True
    return rated

"""Where held-out movies stand: among sampled unseen movies, and in the whole catalogue."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.constants import K
from models.evaluation.judgement import Asked, PerUser, ScorePairs
from models.evaluation.kept import FULL_CATALOGUE, SAMPLED, Kept, best_columns, lists, standing
from models.evaluation.metrics.base import FULL, metrics_of
from models.evaluation.metrics.ranking import ranking

if TYPE_CHECKING:
    from models.data.features import Features
    from models.data.interactions import Candidates

MOST_USERS = {"valid": 2_000, "test": 10_000}  # at most so many users are ranked against every movie,
FULL_CATALOGUE_PAIRS = 60_000_000  # with at most so many scores
BEFORE = {"valid": ("train",), "test": ("train", "valid")}  # the splits that come before one
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
    found = [_sampled_metrics(score, questions, block) for block in blocks]
    values, columns = (_joined([part[place] for part in found]) for place in range(2))
    kept = Kept(name=SAMPLED, user=questions.user[judged], movie=questions.positive[judged], columns=columns)
    return PerUser(
        values,
        left_out=len(others) - len(judged),
        others=_fewest_and_most(others[judged] if len(judged) else others),
        kept=(kept,),
    )


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _fewest_and_most(others: np.ndarray) -> tuple[int, int] | None:
    return (int(others.min()), int(others.max())) if len(others) else None


def _sampled_metrics(
    score: ScorePairs, questions: "Candidates", block: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics of some users, and the columns that are kept."""
    movies = np.concatenate([questions.positive[block, None], questions.negatives[block]], axis=1).astype(np.int64)
    there = movies >= 0
    users = np.repeat(questions.user[block].astype(np.int64), movies.shape[1]).reshape(movies.shape)
    scores = np.zeros(movies.shape, np.float32)
    if len(block):
        scores[there] = score(users[there], movies[there])
    found = ranking(scores[:, 0], scores[:, 1:], there[:, 1:])
    metrics = {name: metric.per_user(found) for name, metric in metrics_of("ranking").items() if metric.per_user}
    return metrics, standing(found)


@dataclass(frozen=True, kw_only=True)
class CatalogueQuestions:
    """Held-out movies to be ranked among all movies that their users have not rated before.

    Attributes:
        asked: the questions of the users that are asked about.
        catalogue: int64 [movies], the indices of all movies.
        rated: bool [users, movies], which movies are no others: rated before, or held out.
        known: bool [users], which users have rated anything before.
        left_out: how many more users were drawn, with fewer than `K` others.
    """

    asked: "Candidates"
    catalogue: np.ndarray
    rated: np.ndarray
    known: np.ndarray
    left_out: int


def catalogue_questions(features: "Features", questions: "Candidates", part: str, seed: int) -> CatalogueQuestions:
    """What `valid` or `test` asks about all movies: those rated in the splits before it are no answer.

    Sampled metrics can order models wrongly (Krichene and Rendle, "On Sampled Metrics for Item Recommendation", 2020).
    Where there are more users than `MOST_USERS` and `FULL_CATALOGUE_PAIRS` allow, they are drawn from `seed`. Of those,
    users with fewer than `K` others are left out, as in `sampled_metrics`.
    """
    catalogue = features.catalogue
    drawn = _chosen_users(len(questions.user), len(catalogue), MOST_USERS[part], seed)
    rated = _rated_before(features, questions.user[drawn], BEFORE[part])
    known = rated.any(axis=1)
    rated[np.arange(len(drawn)), questions.positive[drawn] - catalogue[0]] = True  # no movie is ranked among itself
    judged = (~rated).sum(axis=1) >= K
    return CatalogueQuestions(
        asked=questions.at(drawn[judged]),
        catalogue=catalogue,
        rated=rated[judged],
        known=known[judged],
        left_out=len(drawn) - int(judged.sum()),
    )


def full_catalogue_metrics(model: Asked, questions: CatalogueQuestions) -> PerUser:
    """Ranking metrics of each held-out movie among all movies that the user has not rated before.

    What is kept are the users' ranks, and their `K` best movies: of the others and the held-out one.
    """
    users, held_out = questions.asked.user.astype(np.int64), questions.asked.positive
    at_once = max(1, PAIRS_AT_ONCE // len(questions.catalogue))
    blocks = [slice(start, start + at_once) for start in range(0, max(1, len(users)), at_once)]
    found = [_full_metrics(model, questions, block) for block in blocks]
    values, columns, best = (_joined([part[place] for part in found]) for place in range(3))
    kept = Kept(name=FULL_CATALOGUE, user=users, movie=held_out, columns=columns)
    return PerUser(values, "full_catalogue_users", left_out=questions.left_out, kept=(kept, lists(users, **best)))


def _full_metrics(
    model: Asked, questions: CatalogueQuestions, block: slice
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics of some users, the columns that are kept, and the users' best movies with their scores."""
    catalogue, rated = questions.catalogue, questions.rated[block]
    users = questions.asked.user[block].astype(np.int64)
    scores = np.zeros((len(users), len(catalogue)), np.float32)
    if len(users):
        scores = model.of_each(users, catalogue)
    row, column = np.arange(len(users)), questions.asked.positive[block] - catalogue[0]
    found = ranking(scores[row, column], scores, ~rated)
    chosen = {name: one.per_user for name, one in metrics_of("ranking").items() if one.full_catalogue and one.per_user}
    metrics = {FULL + name: per_user(found) for name, per_user in chosen.items()}
    allowed = found.valid.copy()
    allowed[row, column] = True
    best = best_columns(scores, allowed)
    return metrics, standing(found), {"movie": catalogue[best], "score": scores[row[:, None], best]}


def _chosen_users(users: int, movies: int, most: int, seed: int) -> np.ndarray:
    """The places of the users that are asked about, ascending."""
    chosen = np.arange(users)
    most = min(most, max(1, FULL_CATALOGUE_PAIRS // movies))
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, most, replace=False))
    return chosen


def _rated_before(features: "Features", users: np.ndarray, parts: tuple[str, ...]) -> np.ndarray:
    """Which movies of the catalogue each user has rated in these splits: bool [users, movies]."""
    catalogue = features.catalogue
    position = np.full(features.users, -1)
    position[users] = np.arange(len(users))
    user, movie = features.seen(*parts)
    asked = position[user] >= 0
    rated = np.zeros((len(users), len(catalogue)), bool)
    rated[position[user[asked]], movie[asked] - catalogue[0]] = True
    return rated

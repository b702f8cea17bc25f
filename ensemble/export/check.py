"""The trained networks and the exported files, asked the same questions before a version is sealed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from ensemble.export.lists import ScoreList
from ensemble.parity import is_equal, largest_difference
from ensemble.triton_models.recommendations import Recommendations
from ensemble.triton_models.scores import Scores
from models.evaluation.judgement import ScorePairs
from workflows.features.vocabulary import OUT_OF_VOCABULARY

PARITY_PAIRS = 1_000
UNKNOWN = 0.05  # of the ids that are checked
SAMPLE_PAIRS = 100
SAMPLE_PEOPLE = 3
LISTS = (1, 2, 50, 300)  # movies that someone unknown lists, at most
NO_READERS: Mapping[str, ScoreList] = {}


class OfflineCheck:
    """Compares what the files answer with what the trained networks say.

    Args:
        trained: each trained network as a function of user and movie indices.
        scorer, recommend: the version folders of these two Triton models.
        readers: those of the networks that read a list of movies as a user's history, as such functions.
    """

    def __init__(
        self,
        trained: Mapping[str, ScorePairs],
        scorer: Path,
        recommend: Path,
        readers: Mapping[str, ScoreList] = NO_READERS,
    ):
        self.rng = np.random.default_rng(0)
        self.trained, self.readers = trained, readers
        self.scores = Scores(scorer)
        self.recommendations = Recommendations(recommend)

    def pairs(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Random pairs, known and unknown: raw ids of users and of movies, [count], then their indices."""
        raw, index = [], []
        for table in (self.scores.users, self.scores.movies):
            place = np.where(self.rng.random(count) < UNKNOWN, -1, self.rng.integers(0, len(table.ids), count))
            ids = table.ids[place]
            ids[place < 0] = table.nobody
            raw.append(ids)
            index.append(np.where(place < 0, OUT_OF_VOCABULARY, table.index[place]))
        return raw[0], raw[1], index[0], index[1]

    def check_scores(self, name: str) -> None:
        """
        Raises:
            UserError: the exported network scores otherwise than the trained one.
        """
        raw_user, raw_movie, user, movie = self.pairs(PARITY_PAIRS)
        exported, _ = self.scores.score(raw_user, raw_movie, name)
        _check_equal(name, exported, self.trained[name](user, movie))

    def sample(self) -> dict[str, Any]:
        """What the trained networks say of a few pairs, and each one's best movies of a few users and, where it reads
        them itself, of a few lists, for later checks.

        Raises:
            UserError: the exported recommendations score otherwise than the trained network.
        """
        raw_user, raw_movie, user, movie = self.pairs(SAMPLE_PAIRS)
        scores = {name: score(user, movie).tolist() for name, score in self.trained.items()}
        users = self.scores.users
        places = self.rng.integers(0, len(users.ids), SAMPLE_PEOPLE)
        people = [(users.ids[place], int(users.index[place])) for place in places]
        best = [self._recommended(name, *person) for name in self.trained for person in people]
        listed = [self._listed(name, length) for name in self.readers for length in LISTS]
        nobody = {"user_id": plain([users.nobody])[0], "movie_id": plain([self.scores.movies.nobody])[0]}
        asked = {"user_id": plain(raw_user), "movie_id": plain(raw_movie), "nobody": nobody}
        return {**asked, "scores": scores, "recommend": best, "listed": listed}

    def _recommended(self, name: str, user_id: int | bytes, index: int) -> dict[str, Any]:
        catalogue = self.scores.movies.index
        expected = self.trained[name](np.full(len(catalogue), index), catalogue)
        expected[self.recommendations.rated_by(index)] = -np.inf
        movies, found, _ = self.recommendations.recommend(user_id, strategy="exact", model=name)
        _check_equal(f"{name}'s recommendations", found, _best(expected, len(found)))
        who = plain([user_id])[0]
        return {"model": name, "user_id": who, "movie_id": plain(movies), "score": found.tolist()}

    def _listed(self, name: str, length: int) -> dict[str, Any]:
        catalogue = self.scores.movies
        places = self.rng.choice(len(catalogue.ids), min(length, len(catalogue.ids)), replace=False)
        expected = self.readers[name](catalogue.index[places], catalogue.index)
        expected[places] = -np.inf
        history = catalogue.ids[places]
        movies, found, _ = self.recommendations.recommend(None, history=history, strategy="exact", model=name)
        _check_equal(f"{name}'s recommendations for lists", found, _best(expected, len(found)))
        return {"model": name, "history": plain(history), "movie_id": plain(movies), "score": found.tolist()}


def plain(ids: Iterable[Any]) -> list[int | str]:
    """Ids as JSON has them."""
    return [one.decode() if isinstance(one, bytes) else int(one) for one in ids]


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    return scores[np.argsort(-scores, kind="stable")[:count]]


def _check_equal(what: str, exported: np.ndarray, trained: np.ndarray) -> None:
    worst = largest_difference(exported, trained)
    if not is_equal(worst):
        raise UserError(f"the exported {what} score up to {worst:.1e} away from the trained ones; nothing was exported")

"""Questions that show whether a server answers, and whether its answers are correct."""

from typing import Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from core.errors import UserError
from core.json_files import read_json
from ensemble import arguments, client
from ensemble.client import Access
from ensemble.front_door.signature import PRIVATE
from ensemble.parity import is_equal, largest_difference
from ensemble.repository.releases import Release
from ensemble.triton_models.files import CONFIG, SAMPLE

TIE = 1e-6  # scores that differ by less may come in either order


class WrongAnswerError(UserError):
    """A server answers, but not as the trained networks do."""


class Canary:
    """Asks what a release must be able to answer.

    Args:
        release: `score/<version>/sample.json` in it holds answers of the trained networks.

    Attributes:
        sample: these answers.
        ids: a user and a movie that are in the vocabulary, by tensor name.
        configs: each model's `config.pbtxt`.
    """

    def __init__(self, release: Release):
        self.release = release
        self.sample = read_json(release.folder / "score" / str(release.version) / SAMPLE)
        nobody = self.sample.get("nobody", {"movie_id": -1})["movie_id"]  # versions before ids could be text have none
        movie = next(movie for movie in self.sample["movie_id"] if movie != nobody)
        self.ids = {"user_id": self.sample["recommend"][0]["user_id"], "movie_id": movie}
        self.configs = {
            name: text_format.Parse((release.folder / name / CONFIG).read_text(), model_config_pb2.ModelConfig())
            for name in release.models
        }

    def parts(self, model: str) -> list[str]:
        """The models that an ensemble passes its requests to; none for any other model."""
        return [step.model_name for step in self.configs[model].ensemble_scheduling.step]

    def has_process(self, model: str) -> bool:
        """Whether the model runs in a Python process of its own."""
        return bool(self.configs[model].backend == "python")

    def is_private(self, model: str) -> bool:
        """Whether the front door refuses it to clients."""
        return PRIVATE in self.configs[model].parameters

    def ask(self, url: str, access: Access, model: str, timeout: float) -> None:
        """One question to one model.

        Args:
            timeout: seconds.

        Raises:
            UserError: no answer, or not this release's.
        """
        config = self.configs[model]
        shape = (1, 1) if config.max_batch_size else (1,)  # a model that Triton batches takes requests of one row
        names = [tensor.name for tensor in config.input if tensor.name in self.ids]
        inputs = [client.ids_tensor(name, arguments.one_id(name, self.ids[name]).reshape(shape)) for name in names]
        result = client.infer(url, model, inputs, access, timeout=timeout)
        version = result.get_response().model_version
        if version != str(self.release.version):
            raise UserError(f"{model} answers with version {version}, not {self.release.version}")

    def check_sample(self, url: str, access: Access) -> None:
        """Asks every question of the sample; scores must be equal to the tolerance of `parity`.

        Raises:
            UserError: an answer is missing; a `WrongAnswerError` where one is different, which says by how much.
        """
        users, movies = self.sample["user_id"], self.sample["movie_id"]
        with client.Client(url, access=access) as asked:
            for name, expected in self.sample["scores"].items():
                _compare(f"{name} scores", asked.score(users, movies, name).score, expected)
            # versions that Marquee wrote before a network read lists have none
            for row in (*self.sample["recommend"], *self.sample.get("listed", ())):
                _check_recommended(asked, row)


def _check_recommended(asked: client.Client, row: dict[str, Any]) -> None:
    """A row of the sample: what a user, or someone unknown who lists movies, is recommended.

    Raises:
        WrongAnswerError: these are others, or they score otherwise.
    """
    user, history, expected = row.get("user_id"), row.get("history", ()), np.array(row["score"])
    who, whose = (f"user {user}", f"user {user}'s") if user is not None else ("someone with a list", "a list's")
    name = row.get("model", "")  # versions that Marquee wrote before `recommend` took a model have none
    # A strategy that looks at some movies only may miss others, which is not a fault.
    found = asked.recommend(user, max(1, len(expected)), history, model=name, strategy="exact")
    what = " ".join(filter(None, ["recommend", name and f"by {name}"]))
    _compare(f"{what} scores {whose} movies", found.score, expected)
    # Movies that score the same may change places; the last one, with a movie that is not in the list.
    gaps = np.abs(np.diff(expected, prepend=np.inf, append=expected[-1:]))
    alone = np.minimum(gaps[:-1], gaps[1:]) > TIE
    movies = np.array(row["movie_id"], found.movie_id.dtype)
    if not np.array_equal(found.movie_id[alone], movies[alone]):
        raise WrongAnswerError(f"{what} gives {who} other movies than the trained network does")


def _compare(what: str, found: np.ndarray, expected: list[float] | np.ndarray) -> None:
    if len(found) != len(expected):
        raise WrongAnswerError(f"{what}: {len(found)} where the trained network gives {len(expected)}")
    worst = largest_difference(found, expected)
    if not is_equal(worst):
        raise WrongAnswerError(f"{what} up to {worst:.1e} away from the trained network's")

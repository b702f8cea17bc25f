"""The contract of networks, for each of those that there are, and for scorers that were trained."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from models.evaluation.judgement import ScorePairs
from models.evaluation.scorers import pair_scorer
from models.networks.base import NETWORKS, build
from models.training.loop import Callbacks, refit
from models.training.settings import TrainSettings
from tests.contracts.networks import NetworkContract
from tests.contracts.scorers import ScorerContract
from tests.models.sizes import CUT_SIZES, sized
from tests.models.synthetic import features_of_rows

PROTOCOL = "leave-one-out"
# Those that `run` leaves out are slow tests: the fast ones of them are in files of their own.
EVERY = [name if one.in_run else pytest.param(name, marks=pytest.mark.slow) for name, one in NETWORKS.items()]


def cuts_of(name: str) -> list[dict]:
    return [sizes for case, sizes in CUT_SIZES.items() if case.split()[0] == name]


class TestEveryNetwork(NetworkContract):
    """Those that were added in other files too."""

    @pytest.fixture(autouse=True, params=EVERY)
    def _name(self, request):
        self.name = request.param


class TestDLRM(NetworkContract):
    name = "dlrm"
    sizes = {"history": 3, "dropout": 0.3}  # noqa: RUF012
    cut_sizes = cuts_of("dlrm")
    cut_tolerance = 1e-6


class TestNCF(NetworkContract):
    name = "ncf"
    sizes = {"mlp_dim": 10, "dropout": 0.3}  # noqa: RUF012
    cut_sizes = cuts_of("ncf")
    cut_tolerance = 1e-6


class TestMF(NetworkContract):
    name = "mf"
    sizes = {"dim": 5}  # noqa: RUF012


@dataclass(frozen=True)
class TrainedScorer:
    """A trained network as the contract of scorers asks it."""

    score: ScorePairs
    is_probability: bool = True

    def __call__(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        return self.score(user, movie)


class TestTrainedNetworks(ScorerContract):
    """Trained for two epochs."""

    uses_chance = True
    tolerance = 1e-6
    permutation_tolerance = None

    @pytest.fixture(autouse=True, params=EVERY)
    def _name(self, request):
        self.case = request.param

    def fit(self, rows, seed):
        network = sized(self.case, {"dim": 8, "bottom": (8,), "top": (8,), "history": 3})
        settings = TrainSettings(network=network, batch_size=256, learning_rate=0.01, averaging=0.9)
        settings = replace(settings, seed=seed)
        features = features_of_rows(rows, self.users, self.movies, PROTOCOL)
        model = build(self.case, features, network, seed)
        refit(model, features, settings, 2, torch.device("cpu"), Callbacks())
        return TrainedScorer(pair_scorer(model, torch.device("cpu"), PROTOCOL))

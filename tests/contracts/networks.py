"""What holds for every network: a class whose tests a concrete class inherits.

class TestNCF(NetworkContract):
    name = "ncf"
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import UserError
from core.run_folder import DEFAULT_SEED
from models import registry, tuning, tuning_space
from models.cut import Cut
from models.data.features import Features
from models.data.load import load_features
from models.evaluation.metrics.base import TASKS
from models.networks.base import NETWORKS, NetworkSettings, Recommender, build, cut
from models.search_space import OneOf, Range
from models.training.checkpoint import Checkpoint
from models.training.loop import Callbacks, fit
from models.training.settings import TrainSettings, from_json, to_json
from tests.models.sizes import small
from tests.models.synthetic import less_vocabulary, with_details
from tests.names import PROTOCOLS
from workflows.features.vocabulary import OUT_OF_VOCABULARY

CPU = torch.device("cpu")
SIDE_TABLES = ("user_details", "user_statistics", "movie_features", "movie_statistics")


def every_pair(features: Features) -> tuple[Tensor, Tensor]:
    """Every user with every movie, those out of vocabulary included: int64 [users * movies] each."""
    grid = torch.cartesian_prod(torch.arange(features.users), torch.arange(features.movies))
    return grid[:, 0], grid[:, 1]


@torch.no_grad()
def scores(model: Recommender, user: Tensor, movie: Tensor, fold: Tensor | None = None) -> Tensor:
    """float32 [n], as of now and without dropout."""
    return model.eval()(user, movie, fold)


@torch.no_grad()
def with_wider_scores(model: Recommender) -> Recommender:
    """Fresh layers make all pairs score nearly alike; these do not."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight *= 2
    return model.eval()


@torch.no_grad()
def scores_of_cut(parts: Cut, user: Tensor, movie: Tensor) -> Tensor:
    """What the head makes of the rows of pairs."""
    rows = (torch.from_numpy(table) for table in (parts.users, parts.vectors, parts.hidden))
    return parts.head(*(table[index] for table, index in zip(rows, (user, movie, movie))))


def values_of(parameter: Range) -> list[Any]:
    """The names of all choices, or both ends of a range."""
    return list(parameter.choices) if isinstance(parameter, OneOf) else [parameter.low, parameter.high]


class NetworkContract:
    """Override `name`, and what else differs.

    Attributes:
        name: of the network in `NETWORKS`.
        sizes: settings that differ from `tests.models.sizes.SMALL`.
        cut_sizes: what differs from `sizes` each time that the network is cut.
        cut_tolerance: how far the cut's scores may be off.
    """

    name = ""
    sizes: Mapping[str, Any] = {}
    cut_sizes: Sequence[Mapping[str, Any]] = ({},)
    cut_tolerance = 1e-5

    @property
    def protocol(self) -> str:
        """The first protocol that the network is for."""
        return next(protocol for protocol in PROTOCOLS if self.name in registry.networks_of(protocol))

    @pytest.fixture
    def features(self, prepared) -> Features:
        """With details of users; the last users and movies are out of vocabulary."""
        return with_details(less_vocabulary(load_features(prepared, self.protocol)))

    def settings(self, **changes: Any) -> NetworkSettings:
        return small(self.name, **{**self.sizes, **changes})

    def model(self, features: Features, seed: int = 1, **changes: Any) -> Recommender:
        return build(self.name, features, self.settings(**changes), seed)

    def training(self, **changes: Any) -> TrainSettings:
        """Settings that learn something in a few epochs."""
        network = self.settings(top=(16, 8), init_std=0.05)
        return TrainSettings(network=network, **{"learning_rate": 0.01, "batch_size": 128, "seed": 3, **changes})

    def refuse_other_task(self, protocol: str) -> None:
        """Skips a test by a protocol that the network is not for."""
        if self.name not in registry.networks_of(protocol):
            pytest.skip(f"{self.name} is not for {protocol}")

    def cuts(self, prepared) -> list[tuple[Features, Recommender, Cut]]:
        """The network with each of its sizes, without and with details of users; skips one that has no cut."""
        if NETWORKS[self.name].cut is None:
            pytest.skip(f"{self.name} is not served")
        plain = less_vocabulary(load_features(prepared, self.protocol))
        found = []
        for features in (plain, with_details(plain)):
            for sizes in self.cut_sizes:
                model = with_wider_scores(self.model(features, **sizes))
                found.append((features, model, cut(model, features.users, features.movies)))
        return found

    def test_its_tasks_are_those_that_there_are(self):
        tasks = NETWORKS[self.name].tasks
        assert tasks
        assert set(tasks) <= set(TASKS)

    # -- scores --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("rows", [1, 2, 33])
    def test_a_pair_has_one_finite_logit_whatever_the_batch(self, features, rows):
        model = self.model(features)
        user, movie = torch.arange(rows) % features.users, torch.arange(rows) % features.movies
        found = scores(model, user, movie)
        assert found.shape == (rows,)
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        one_by_one = torch.cat([scores(model, user[i : i + 1], movie[i : i + 1]) for i in range(rows)])
        torch.testing.assert_close(found, one_by_one, atol=1e-6, rtol=0)

    def test_every_pair_has_a_finite_logit(self, features):
        found = scores(self.model(features), *every_pair(features))
        assert found.isfinite().all()
        assert found.std() > 0.01

    def test_an_id_out_of_vocabulary_scores_as_the_shared_row(self, features):
        model = self.model(features)
        if model.uses_features or model.uses_history:
            pytest.skip(f"{self.name} sees more than ids")
        users, movies = model.user_embeddings, model.movie_embeddings
        user, movie = torch.arange(users), torch.arange(users) % movies
        shared = torch.full_like(user, OUT_OF_VOCABULARY)
        of_shared_movie, of_shared_user = scores(model, user, shared), scores(model, shared, movie)
        for index in (movies, features.movies - 1):
            assert torch.equal(scores(model, user, torch.full_like(user, index)), of_shared_movie)
        for index in (users, features.users - 1):
            assert torch.equal(scores(model, torch.full_like(user, index), movie), of_shared_user)
        last_known = scores(model, user, torch.full_like(user, movies - 1))
        assert not torch.isclose(last_known, of_shared_movie).any()

    # -- weights -------------------------------------------------------------------------------------------------------

    def test_a_seed_fixes_the_weights(self, features):
        first, again, other = (self.model(features, seed).state_dict() for seed in (7, 7, 8))
        assert all(torch.equal(first[key], again[key]) for key in first)
        drawn = [key for key, value in first.items() if key.endswith(".weight") and value.std() > 0]  # not all ones
        weights = [key for key in drawn if first[key].numel() > 1]
        assert weights
        assert not [key for key in weights if torch.equal(first[key], other[key])]

    def test_building_leaves_the_global_generator_alone(self, features):
        before = torch.random.get_rng_state()
        self.model(features, seed=7)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_the_global_generator_does_not_change_the_weights(self, features):
        first = self.model(features, seed=7).state_dict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(123)
            again = self.model(features, seed=7).state_dict()
        assert all(torch.equal(first[key], again[key]) for key in first)

    def test_embeddings_start_with_the_spread_asked_for(self, features):
        model = self.model(features, dim=64, init_std=0.01)
        for _, table in model.embedding_tables():
            assert table.weight.std().item() == pytest.approx(0.01, rel=0.15)

    def test_side_tables_are_not_in_the_state_dict(self, features):
        state = self.model(features).state_dict()
        assert not [key for key in state if any(name in key.split(".") for name in SIDE_TABLES)]
        assert not [key for key in state if "statistics" in key or "details" in key or "movie_features" in key]
        assert not [key for key in state if key.startswith("now_")]

    # -- training ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_the_loss_falls(self, prepared, protocol):
        self.refuse_other_task(protocol)
        settings = self.training(epochs=6, patience=6)
        features = load_features(prepared, protocol)
        history, _ = fit(build(self.name, features, settings.network, settings.seed), features, settings, CPU)
        losses = [row["train_loss"] for row in history]
        assert len(losses) == 6
        # a softmax over all movies starts at the logarithm of their number, of which few ratings take off little
        falls_to = 0.97 if NETWORKS[self.name].learns_sequences else 0.8
        assert losses[-1] < falls_to * losses[0], losses
        assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize("embedding_rate", [0.0, 0.05], ids=["by Adam", "row-wise"])
    def test_a_training_resumes_from_its_checkpoint_with_the_same_weights(
        self, prepared, tmp_path: Path, monkeypatch, embedding_rate
    ):
        monkeypatch.setattr("models.training.epoch.LARGE_TABLE", 10)
        settings = self.training(epochs=3, patience=3, embedding_rate=embedding_rate)
        features = load_features(prepared, self.protocol)

        def weights(callbacks: Callbacks) -> dict[str, Tensor]:
            model = build(self.name, features, settings.network, settings.seed)
            fit(model, features, settings, CPU, callbacks)
            return model.state_dict()

        def stop(epoch: int, value: float) -> None:
            raise KeyboardInterrupt

        checkpoint, notes = Checkpoint(tmp_path / "checkpoint", "made from this"), []
        expected = weights(Callbacks())
        with pytest.raises(KeyboardInterrupt):
            weights(Callbacks(watch=stop, checkpoint=checkpoint))
        found = weights(Callbacks(advance=lambda by, note: notes.append(note), checkpoint=checkpoint))
        assert any(note.startswith("resumes after epoch 1") for note in notes)
        assert found.keys() == expected.keys()
        assert not [key for key in expected if not torch.equal(found[key], expected[key])]

    # -- the cut -------------------------------------------------------------------------------------------------------

    def test_the_cut_scores_every_pair_as_the_whole_network(self, prepared):
        for features, model, parts in self.cuts(prepared):
            user, movie = every_pair(features)
            expected = torch.sigmoid(scores(model, user, movie))
            assert expected.std() > 0.01
            found = scores_of_cut(parts, user, movie)
            torch.testing.assert_close(found, expected, atol=self.cut_tolerance, rtol=0)

    def test_the_head_for_one_user_is_the_head_for_pairs(self, prepared):
        for features, _, parts in self.cuts(prepared):
            one_user = parts.head.for_one_user()
            vectors, hidden = torch.from_numpy(parts.vectors), torch.from_numpy(parts.hidden)
            movie = torch.arange(features.movies)
            for user in (0, 2, 3, 17, features.user_embeddings, features.users - 1):
                pairs = scores_of_cut(parts, torch.full_like(movie, user), movie)
                with torch.no_grad():
                    found = one_user(torch.from_numpy(parts.users[user : user + 1]), vectors, hidden)
                torch.testing.assert_close(found, pairs, atol=self.cut_tolerance, rtol=0)

    def test_the_cut_has_a_finite_row_for_every_index(self, prepared):
        for features, _, parts in self.cuts(prepared):
            for table, rows in (
                (parts.users, features.users),
                (parts.vectors, features.movies),
                (parts.hidden, features.movies),
                (parts.embeddings, features.movies),
            ):
                assert table.dtype == np.float32
                assert len(table) == rows
                assert np.isfinite(table).all()

    def test_a_network_without_a_cut_is_not_served(self, features):
        network = NETWORKS[self.name]
        if network.cut is None:
            assert not network.is_served
            with pytest.raises(ValueError, match=self.name):
                cut(self.model(features), features.users, features.movies)

    # -- settings ------------------------------------------------------------------------------------------------------

    def test_settings_survive_json(self):
        for settings in (
            self.training(seed=DEFAULT_SEED, refit=True, l2=0.1),
            TrainSettings(network=self.settings()),
            TrainSettings(network=NETWORKS[self.name].settings()),
        ):
            assert from_json(self.name, to_json(settings), "x") == settings
        assert "seed" not in to_json(self.training(seed=7))

    def test_an_unknown_setting_is_refused_with_those_that_are_allowed(self):
        with pytest.raises(UserError) as error:
            from_json(self.name, {"network": {"no_such_size": 1}}, "some.json")
        for word in ("some.json", "no_such_size", *(field.name for field in fields(NETWORKS[self.name].settings))):
            assert word in str(error.value)
        with pytest.raises(UserError, match="no_such_rate") as error:
            from_json(self.name, {"no_such_rate": 1}, "some.json")
        assert "learning_rate" in str(error.value)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_every_value_of_the_search_space_makes_valid_settings(self, protocol):
        self.refuse_other_task(protocol)
        space = tuning_space.space(protocol, self.name)
        base = registry.default_settings(protocol, self.name, tuning.START, 0).settings
        assert space
        for name, parameter in space.items():
            for value in values_of(parameter):
                settings = tuning_space.with_parameters(base, space, {name: value})
                assert from_json(self.name, to_json(settings), f"{name} {value}") == settings
                assert tuning_space.parameters_of(settings, space)[name] == value

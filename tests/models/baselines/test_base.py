"""The registry of baselines, their settings and search spaces; and the contract, for each that is registered."""

import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from core.json_files import validated
from models.baselines.base import BASELINES, Baseline, NoSettings, add, baselines_of
from models.registry import baselines_for, baselines_in_run
from models.search_space import Integer, Log, OneOf, Uniform
from models.training.settings import LARGE
from tests.models.baselines.contracts import BaselineContract

ROOT = Path(__file__).resolve().parents[3]
DRAWS_BY_INDEX = {"bayesian-fm"}  # a draw belongs to a place, and a sampler's mean moves with its draws
KEYS = [key for key, baseline in BASELINES.items() if baseline.name != "truth"]


class TestEveryBaseline(BaselineContract):
    """With the default settings."""

    @pytest.fixture(autouse=True, params=KEYS)
    def _choose(self, request):
        self.key = self.case = request.param
        if self.baseline.uses_chance:
            self.permutation_tolerance = None if self.baseline.name in DRAWS_BY_INDEX else 1e-3


@pytest.fixture
def first_movie():
    """A baseline that is in the registry for one test."""
    baseline = Baseline(name="first", title="first movie", tasks=("ranking", "rating"), fit=FirstMovie)
    add(baseline)
    yield baseline
    for task in baseline.tasks:
        BASELINES.remove(f"{task}/first")


class FirstMovie:
    """Scores the movies by their indices."""

    is_probability = False

    def __init__(self, data, settings, seed):
        pass

    def __call__(self, user, movie):
        return -movie.astype(np.float32)


def test_the_order_of_the_tables():
    assert list(baselines_of("leave-one-out")) == ["ease", "als", "itemknn", "popularity", "truth"]
    assert list(baselines_of("random-split")) == ["bayesian-fm", "biases", "popularity", "truth"]
    assert list(baselines_of("rating")) == ["bayesian-fm", "knn", "svd", "biases"]
    assert baselines_of("rating")["biases"].fit is not baselines_of("random-split")["biases"].fit


def test_a_baseline_that_is_added_is_in_every_protocol_of_its_tasks(first_movie):
    assert baselines_of("leave-one-out")["first"] is baselines_of("rating")["first"] is first_movie
    assert list(baselines_of("leave-one-out"))[-2:] == ["first", "truth"]
    assert list(baselines_for("rating", LARGE - 1)) == ["bayesian-fm", "knn", "svd", "biases", "first"]
    assert list(baselines_in_run("rating", LARGE - 1)) == ["knn", "svd", "biases", "first"]
    assert list(baselines_for("rating", LARGE)) == ["biases"]


def test_only_a_synthetic_dataset_has_a_truth(tmp_path):
    assert "truth" not in baselines_for("leave-one-out", 0)
    assert "truth" not in baselines_for("leave-one-out", 0, tmp_path)
    (tmp_path / "synth.json").write_text("{}")
    for rows in (0, LARGE):
        assert list(baselines_for("leave-one-out", rows, tmp_path))[-1] == "truth"
        assert list(baselines_for("random-split", rows, tmp_path))[-1] == "truth"
    assert "truth" not in baselines_for("rating", 0, tmp_path)


def test_some_baselines_use_chance():
    assert {baseline.name for baseline in BASELINES.values() if baseline.uses_chance} == {"als", "svd", "bayesian-fm"}


def test_the_registry_is_imported_without_the_libraries_that_compute():
    code = "import models.baselines.base, sys; print(*{name.split('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "implicit", "myfm", "sklearn", "scipy", "merlin", "optuna"} & set(result.stdout.split())


# -- settings and search spaces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", BASELINES)
def test_settings_are_checked_when_they_are_read(key):
    kind = BASELINES[key].settings
    default = kind()
    assert validated(kind, asdict(default), "a.json") == default
    assert validated(kind, {}, "a.json") == default
    known = ", ".join(field.name for field in fields(kind)) or "nothing"
    with pytest.raises(UserError, match=f"a.json: colour is unknown; allowed is: {known}"):
        validated(kind, {"colour": 1}, "a.json")
    for name, value in asdict(default).items():
        with pytest.raises(UserError, match=f"a.json: {name} is true;"):
            validated(kind, {name: True}, "a.json")
        with pytest.raises(UserError, match=f"a.json: {name} is "):
            validated(kind, {name: "5"}, "a.json")
        if isinstance(value, float):
            found = getattr(validated(kind, {name: 1}, "a.json"), name)
            assert (type(found), found) == (float, 1.0)
        if not isinstance(value, str):
            for make in (lambda change: validated(kind, change, "a.json"), lambda change: replace(default, **change)):
                with pytest.raises((UserError, ValueError), match=name):
                    make({name: -1})


@pytest.mark.parametrize("key", BASELINES)
def test_every_end_of_a_search_space_makes_settings(key):
    baseline = BASELINES[key]
    for name, values in baseline.space.items():
        default = getattr(baseline.settings(), name)
        if isinstance(values, OneOf):
            assert default in values.choices.values()
            ends = tuple(values.choices.values())
        else:
            assert values.low <= default <= values.high
            ends = (values.low, values.high)
        for end in ends:
            assert getattr(replace(baseline.settings(), **{name: end}), name) == end


def test_a_baseline_without_settings_has_no_search_space():
    for baseline in BASELINES.values():
        assert not (baseline.settings is NoSettings and baseline.space)
        assert baseline.space.keys() <= {field.name for field in fields(baseline.settings)}


def test_ranges_become_distributions_of_optuna():
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from models.tuning_space import distributions_of

    space = {
        "log": Log(10, 100),
        "uniform": Uniform(0.1, 3),
        "integer": Integer(5, 30),
        "log integer": Integer(5, 30, log=True),
        "one of": OneOf("cosine", "bm25"),
        "named": OneOf(small=(32, 16), large=(64, 32)),
    }
    assert distributions_of(space) == {
        "log": FloatDistribution(10, 100, log=True),
        "uniform": FloatDistribution(0.1, 3),
        "integer": IntDistribution(5, 30),
        "log integer": IntDistribution(5, 30, log=True),
        "one of": CategoricalDistribution(("cosine", "bm25")),
        "named": CategoricalDistribution(("small", "large")),
    }

"""Everything that stands in the comparison, by name: models that are trained, and rules that are fitted at once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.json_files import read_json
from core.run_folder import MODELS, RATING_PROTOCOL, TRAINED, Run
from models.baselines.neighbours import Als, AlsSettings, Ease, EaseSettings, ItemKnn, KnnSettings
from models.baselines.simple import Biases, Popularity
from models.baselines.stars import BiasSettings, KnnMeans, KnnMeansSettings, StarBiases, Svd, SvdSettings
from models.data.features import Features, Interactions
from models.data.history import joined
from models.evaluation.judgement import Scorer
from models.training.settings import LARGE, TrainSettings, defaults_file, defaults_of


@dataclass(frozen=True)
class NoSettings:
    """Of a rule that has none."""


@dataclass(frozen=True)
class Rule:
    """A baseline that is fitted at once.

    Attributes:
        fit: training rows, users, movies, settings and seed to a scorer.
        settings: the class of its settings.
        uses_chance: whether another seed gives another scorer.
        is_cheap: whether it is fitted to datasets of any size.
    """

    fit: Callable[[Interactions, int, int, Any, int], Scorer]
    settings: type = NoSettings
    uses_chance: bool = False
    is_cheap: bool = False


_POPULARITY = Rule(lambda rows, users, movies, *_: Popularity(rows, users, movies), is_cheap=True)
RULES: dict[str, dict[str, Rule]] = {
    "leave-one-out": {
        "ease": Rule(Ease, EaseSettings),
        "als": Rule(Als, AlsSettings, uses_chance=True),
        "itemknn": Rule(ItemKnn, KnnSettings),
        "popularity": _POPULARITY,
    },
    "random-split": {
        "biases": Rule(lambda rows, users, movies, *_: Biases(rows, users, movies), is_cheap=True),
        "popularity": _POPULARITY,
    },
    RATING_PROTOCOL: {
        "knn": Rule(KnnMeans, KnnMeansSettings),
        "svd": Rule(Svd, SvdSettings, uses_chance=True),
        "biases": Rule(StarBiases, BiasSettings, is_cheap=True),
    },
}


def models_for(rows: int) -> tuple[str, ...]:
    """Which models `run` trains for so many training ratings: large data is spared the baseline."""
    return TRAINED if rows < LARGE else MODELS


def rules_for(protocol: str, rows: int) -> dict[str, Rule]:
    """The rules that are fitted to so many training ratings."""
    return {name: rule for name, rule in RULES[protocol].items() if rule.is_cheap or rows < LARGE}


def settings_of(protocol: str, name: str, dataset: str, rows: int) -> Any:
    """The default settings of a model or rule: `TrainSettings`, or those of the rule.

    Raises:
        UserError: the protocol has no such model.
    """
    if name not in TRAINED and name not in RULES[protocol]:
        known = ", ".join((*TRAINED, *RULES[protocol]))
        raise UserError(f"{protocol} has no model {name!r}; choose one of {known}")
    return _from_json(protocol, name, defaults_of(dataset, rows)[protocol].get(name, {"settings": {}}))


def chosen_settings(run: Run, protocol: str, name: str, rows: int) -> Any:
    """What `tune` found in the run's folder; else the default settings of the dataset."""
    found = run.tuning(protocol, name) / "best.json"
    return (
        _from_json(protocol, name, read_json(found))
        if found.is_file()
        else settings_of(protocol, name, run.root.name, rows)
    )


def settings_source(run: Run, protocol: str, name: str, rows: int) -> Path:
    """The file that `chosen_settings` reads."""
    found = run.tuning(protocol, name) / "best.json"
    return found if found.is_file() else defaults_file(run.root.name, rows)


def _from_json(protocol: str, name: str, found: dict[str, Any]) -> Any:
    make = TrainSettings.of if name in TRAINED else lambda values: RULES[protocol][name].settings(**values)
    return make(found["settings"])


def fit_rule(name: str, features: Features, parts: tuple[str, ...], settings: Any, seed: int) -> Scorer:
    """A rule of the features' protocol, fitted to some of its splits."""
    rows = joined([features.interactions(part) for part in parts])
    return RULES[features.protocol][name].fit(rows, features.users, features.movies, settings, seed)

"""Everything that stands in the comparison, by name: models that are trained, and baselines."""

from pathlib import Path
from typing import Any

from core.errors import UserError
from core.json_files import read_json, validated
from core.run_folder import MODELS, TRAINED, Run
from models.baselines.base import Baseline, PairScorer, TrainingData, baselines_of
from models.data.features import Features
from models.data.history import joined
from models.training.settings import LARGE, TrainSettings, defaults_of


def models_for(rows: int) -> tuple[str, ...]:
    """Which models `run` trains for so many training ratings: large data is spared the baseline."""
    return TRAINED if rows < LARGE else MODELS


def rules_for(protocol: str, rows: int, tables: Path | None = None) -> dict[str, Baseline]:
    """The baselines that are fitted to so many training ratings.

    Args:
        tables: the folder of the dataset's tables; without it, only the baselines of every dataset.
    """
    return {
        name: baseline
        for name, baseline in baselines_of(protocol).items()
        if baseline.applies(tables) and (baseline.is_cheap or rows < LARGE)
    }


def settings_of(protocol: str, name: str, dataset: str, rows: int) -> Any:
    """The default settings: `TrainSettings` of a trained model, or those of the baseline.

    Raises:
        UserError: the protocol has no such model.
    """
    if name not in TRAINED and name not in baselines_of(protocol):
        known = ", ".join((*TRAINED, *baselines_of(protocol)))
        raise UserError(f"{protocol} has no model {name!r}; choose one of {known}")
    found = defaults_of(dataset, rows)[protocol].get(name, {"settings": {}})
    return _from_json(protocol, name, found, f"the default settings of {name}, {protocol}")


def chosen_settings(run: Run, protocol: str, name: str, rows: int) -> Any:
    """What `tune` found in the run's folder; else the default settings of the dataset."""
    found = run.tuning(protocol, name) / "best.json"
    return (
        _from_json(protocol, name, read_json(found), str(found))
        if found.is_file()
        else settings_of(protocol, name, run.root.name, rows)
    )


def _from_json(protocol: str, name: str, found: dict[str, Any], where: str) -> Any:
    if name in TRAINED:
        return TrainSettings.of(found["settings"])
    return validated(baselines_of(protocol)[name].settings, found["settings"], where)


def fit_baseline(
    name: str, features: Features, parts: tuple[str, ...], settings: Any, seed: int, *, tables: Path | None = None
) -> PairScorer:
    """A baseline of the features' protocol, fitted to some of its splits.

    Args:
        parts: of `train`, `valid` and `test`.
        tables: the folder of the dataset's tables, which the truth reads.
    """
    rows = joined([features.interactions(part) for part in parts])
    data = TrainingData(rows, features.users, features.movies, features=features, tables=tables)
    return baselines_of(features.protocol)[name].fit(data, settings, seed)

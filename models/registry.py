"""Everything that stands in a comparison, by name: networks that are trained, and baselines that are fitted at once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.artifacts import read_manifest
from core.errors import UserError
from core.json_files import read_json, validated
from core.run_folder import Run
from models.baselines.base import Baseline, TrainingData, baselines_of
from models.data.features import Features
from models.data.interactions import joined
from models.evaluation.judgement import PairScorer
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS, preparing
from models.training.settings import LARGE, Found, default_of, from_json


@dataclass(frozen=True)
class Chosen:
    """Settings of a model, and the file that they come from.

    Attributes:
        settings: `TrainSettings` of a network, or an instance of the baseline's own class.
    """

    settings: Any
    source: Path


def networks_of(protocol: str) -> tuple[str, ...]:
    """The networks that can be trained for a protocol: those for its task."""
    return tuple(name for name, network in NETWORKS.items() if PROTOCOLS[protocol].task in network.tasks)


def networks_for(protocol: str, rows: int) -> tuple[str, ...]:
    """Which networks `run` trains for so many training ratings: large data is spared those that are baselines."""
    names = (name for name in networks_of(protocol) if rows < LARGE or not NETWORKS[name].is_baseline)
    return tuple(name for name in names if NETWORKS[name].in_run)


def rivals_for(protocol: str, rows: int, among: Collection[str] = ()) -> tuple[str, ...]:
    """Which networks `compare` trains for so many training ratings: for large data, none that `run` never trains.

    Args:
        among: the networks that are asked for; empty for those.
    """
    if among:
        return tuple(name for name in networks_of(protocol) if name in among)
    return tuple(name for name in networks_of(protocol) if rows < LARGE or NETWORKS[name].in_run)


def protocols_for(name: str, asked: Sequence[str]) -> tuple[str, ...]:
    """Those of the protocols whose task a network is for.

    Raises:
        UserError: there is none.
    """
    found = tuple(protocol for protocol in asked if name in networks_of(protocol))
    if not found:
        fitting = ", ".join(protocol for protocol in PROTOCOLS if name in networks_of(protocol))
        raise UserError(f"{name} cannot be trained for {', '.join(asked)}; choose a protocol of {fitting}")
    return found


def protocols_for_any(names: Sequence[str], asked: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the protocols whose task is one of any of the networks; all where none is named.

    Raises:
        UserError: there is none for one of them.
    """
    fitting = {protocol for name in names for protocol in protocols_for(name, asked)}
    return tuple(protocol for protocol in asked if protocol in fitting or not names)


def baselines_for(protocol: str, rows: int, tables: Path | None = None) -> dict[str, Baseline]:
    """The baselines that `compare` fits to so many training ratings.

    Args:
        tables: the run's tables, which some baselines need.
    """
    found = baselines_of(protocol).items()
    return {name: one for name, one in found if one.applies(tables) and (one.is_cheap or rows < LARGE)}


def baselines_in_run(protocol: str, rows: int, tables: Path | None = None) -> dict[str, Baseline]:
    """Of the same, those that `run` and `evaluate` fit."""
    return {name: one for name, one in baselines_for(protocol, rows, tables).items() if one.in_run}


def compared(protocol: str | None = None) -> tuple[str, ...]:
    """The networks that a comparison is about.

    Args:
        protocol: by which they are compared; None for any.
    """
    names = tuple(NETWORKS) if protocol is None else networks_of(protocol)
    return tuple(name for name in names if not NETWORKS[name].is_baseline)


def trained(run: Run, protocol: str) -> tuple[str, ...]:
    """The networks that are trained for a protocol.

    A network that `run` can do without (a baseline, one that it does not train, or any for a protocol that it does not
    ask) counts only where it was trained on the features that are there: one that is left over is passed over.
    """
    needed = tuple(name for name in compared(protocol) if NETWORKS[name].in_run and PROTOCOLS[protocol].is_default)
    folders = {name: run.model(protocol, name) for name in networks_of(protocol) if run.model(protocol, name).is_dir()}
    return tuple(
        name for name, folder in folders.items() if name in needed or _is_of_these_features(run, protocol, folder)
    )


def _is_of_these_features(run: Run, protocol: str, folder: Path) -> bool:
    features = run.features_of(PROTOCOLS[protocol].split)
    fingerprint = read_manifest(features, run.command(preparing(protocol)))["fingerprint"]
    return bool(read_manifest(folder, run.command("train")).get("features") == fingerprint)


def tunable(protocol: str) -> tuple[str, ...]:
    """The networks and baselines of a protocol that can be tuned."""
    return (*networks_of(protocol), *(name for name, one in baselines_of(protocol).items() if one.space))


def default_settings(protocol: str, name: str, dataset: str, rows: int) -> Chosen:
    """The default settings of a network or baseline.

    Raises:
        UserError: the protocol has no such model.
    """
    _refuse_other(protocol, name)
    found, path = default_of(protocol, name, dataset, rows)
    return Chosen(settings_of(protocol, name, found.settings, f"{path}, {protocol}, {name}"), path)


def chosen_settings(run: Run, protocol: str, name: str, rows: int) -> Chosen:
    """What `tune` found in the run's folder; else the default settings of the dataset.

    Raises:
        UserError: the protocol has no such model, or a file holds what is not a setting.
    """
    _refuse_other(protocol, name)
    path = run.tuning(protocol, name) / "best.json"
    if not path.is_file():
        return default_settings(protocol, name, run.root.name, rows)
    found = validated(Found, read_json(path, run.command("tune")), str(path))
    return Chosen(settings_of(protocol, name, found.settings, str(path)), path)


def _refuse_other(protocol: str, name: str) -> None:
    known = (*networks_of(protocol), *baselines_of(protocol))
    if name not in known:
        raise UserError(f"{protocol} has no model {name!r}; choose one of {', '.join(known)}")


def settings_of(protocol: str, name: str, values: dict[str, Any], where: str) -> Any:
    """The settings of a network or baseline from what JSON keeps of them.

    Args:
        where: the file, for the message.

    Raises:
        UserError: an unknown key or a wrong value.
    """
    if name in NETWORKS:
        return from_json(name, values, where)
    return validated(baselines_of(protocol)[name].settings, values, where)


def fit_baseline(
    name: str, features: Features, parts: tuple[str, ...], settings: Any, seed: int, tables: Path | None = None
) -> PairScorer:
    """A baseline of the features' protocol, fitted to some of its splits.

    Args:
        tables: the run's tables, which some baselines need.
    """
    rows = joined([features.interactions(part) for part in parts])
    data = TrainingData(rows, features.users, features.movies, features=features, tables=tables)
    return baselines_of(features.protocol)[name].fit(data, settings, seed)

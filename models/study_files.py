"""The trials of a study in a small file: beside the study in the run's folder, and with the shipped defaults.

A file of defaults names the file of its study and the trial that its settings are from. What this file says of that
trial is compared with the settings wherever it is used. Optuna is not needed to read it.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from core.errors import UserError, naming
from core.json_files import STRICT, read_json, validated
from core.partial import partial_file
from models import registry
from models.networks.base import NETWORKS
from models.training.settings import DEFAULTS, Found

STUDIES = DEFAULTS.parent / "studies"
FILE, TRIAL = "file", "trial"  # keys of a study in the defaults
State = Literal["complete", "pruned", "failed", "cut"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class KeptTrial:
    """One trial. The numbers of trials that were killed are missing: they were run again.

    Attributes:
        state: `complete`; `pruned`, as it was behind the others; `failed`, as training broke down; or `cut`, as the
            study's seconds were used up.
        value: the validation metric of a complete trial.
        seconds: what it took, by the wall clock.
        epochs: that were trained; None for a baseline.
        start: its place among the study's `starts`, whose settings it has; None where the sampler chose them.
        parameters: what the sampler chose, by the names of the settings. A start's may lie outside of the search space:
            then its settings are in `starts` alone, and here is the nearest point.
    """

    number: int
    state: State
    seconds: float
    value: float | None = None
    epochs: int | None = None
    start: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class KeptStudy:
    """A study.

    Attributes:
        metric: on validation, what the trials are judged by.
        seed: of the draws, and of training.
        epochs: the bound of every trial's; None where the settings' own held.
        base: the settings that all trials share but the starts: the parameters of a trial replace some of them.
        starts: the settings that were tried first: what `train` would have used is the first.
    """

    dataset: str
    protocol: str
    model: str
    metric: str
    seed: int
    epochs: int | None
    base: dict[str, Any]
    starts: list[dict[str, Any]]
    trials: list[KeptTrial]

    def trial(self, number: int, where: str) -> KeptTrial:
        """The trial of a number.

        Raises:
            UserError: there is none.
        """
        found = next((trial for trial in self.trials if trial.number == number), None)
        if found is None:
            raise UserError(f"{where}: there is no trial {number}; its trials are {_numbers(self.trials)}")
        return found

    def settings(self, number: int, where: str) -> Any:
        """The settings of a trial, as `registry.settings_of` makes them.

        Raises:
            UserError: there is no such trial, or it holds what is not a setting.
        """
        trial = self.trial(number, where)
        if trial.start is None:
            values = _replaced(self.model, self.base, trial.parameters)
        elif trial.start < len(self.starts):
            values = self.starts[trial.start]
        else:
            raise UserError(f"{where}: trial {number} is start {trial.start}, but there are {len(self.starts)} starts")
        return registry.settings_of(self.protocol, self.model, values, f"{where}, trial {number}")


def _numbers(trials: Sequence[KeptTrial]) -> str:
    return ", ".join(str(trial.number) for trial in trials[:20]) + (", ..." if len(trials) > 20 else "")


def _replaced(model: str, base: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON keeps them, with some replaced; those of a network itself lie under `network`."""
    if model not in NETWORKS:
        return {**base, **parameters}
    own = {one.name for one in fields(NETWORKS[model].settings)}
    network = {name: value for name, value in parameters.items() if name in own}
    rest = {name: value for name, value in parameters.items() if name not in own}
    return {**base, **rest, "network": {**base.get("network", {}), **network}}


def write_study(path: Path, study: KeptStudy) -> None:
    """Writes a study whole or not at all, a trial a line."""
    head = {key: value for key, value in asdict(study).items() if key != "trials"}
    rows = [json.dumps(_without_none(asdict(trial)), allow_nan=False) for trial in study.trials]
    text = json.dumps(head, indent=2, allow_nan=False)[: -len("\n}")] + ',\n  "trials": [\n    '
    with naming(path), partial_file(path) as temporary:
        temporary.write_text(text + ",\n    ".join(rows) + "\n  ]\n}\n", encoding="utf-8")
        os.replace(temporary, path)


def _without_none(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def read_study(path: Path, command: str = "python -m marquee tune") -> KeptStudy:
    """A study that `write_study` wrote.

    Raises:
        UserError: the file is missing, or not of that form.
    """
    return validated(KeptStudy, read_json(path, command), str(path), command)


def study_of(found: Found, protocol: str, model: str, where: str, studies: Path = STUDIES) -> KeptStudy | None:
    """The study that defaults name, None where they name no file.

    Args:
        where: the file of the defaults, for the message.
        studies: the folder that the file's name starts from.

    Raises:
        UserError: its file is missing or of another model, or the settings are not those of the trial that is named.
    """
    if FILE not in found.study:
        return None
    path = studies / found.study[FILE]
    study = read_study(path)
    if (study.protocol, study.model) != (protocol, model):
        raise UserError(
            f"{path} is a study of {study.protocol}, {study.model}; {where} names it for {protocol}, {model}"
        )
    checked(found, study, where, str(path))
    return study


def checked(found: Found, study: KeptStudy, where: str, path: str) -> None:
    """Compares what defaults say with the trial of a study that they name.

    Raises:
        UserError: the settings, or the value, are not the trial's.
    """
    number = found.study.get(TRIAL)
    if not isinstance(number, int):
        raise UserError(f"{where}, {study.protocol}, {study.model}: the study names no trial of {path}")
    trial = study.trial(number, path)
    kept = registry.settings_of(study.protocol, study.model, found.settings, where)
    if trial.state != "complete" or trial.value != found.study.get("value"):
        raise UserError(
            f"{where}, {study.protocol}, {study.model}: the value is {found.study.get('value')}; "
            f"trial {number} of {path} is {trial.state}, with {trial.value}"
        )
    if kept != study.settings(number, path):
        raise UserError(
            f"{where}, {study.protocol}, {study.model}: the settings are not those of trial {number} of {path}"
        )

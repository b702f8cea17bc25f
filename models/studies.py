"""Optuna's studies, in SQLite: opened where they were stopped, and read."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.trial import TrialState

from core.artifacts import fingerprint
from core.errors import UserError
from models.protocols.base import Protocol

LOCKED_SECONDS = 60  # that SQLite waits for another process
WARM_UP = 3  # epochs, and trials before any is pruned
NAME_LENGTH = 16  # of a study's name, the beginning of its origin's fingerprint
ORIGIN = "origin"  # the key of what a study was made from
# What a trial says of itself. `ENDED` stands where Optuna's own state says less than is known.
SECONDS, EPOCHS, ENDED, THREADS, HARDWARE = "seconds", "epochs", "ended", "threads", "hardware"
CUT, FAILED = "cut", "failed"


def open_study(folder: Path, protocol: Protocol, made_from: str) -> optuna.Study:
    """The study of this origin in a folder, where it was stopped, or a new one.

    Args:
        made_from: the fingerprint of its origin.

    Raises:
        UserError: its file is not one of Optuna's.
    """
    with _readable(folder):
        study = optuna.create_study(
            storage=_storage(folder),
            study_name=made_from[:NAME_LENGTH],
            direction="maximize" if protocol.metric(protocol.monitor).higher_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP, n_warmup_steps=WARM_UP),
            load_if_exists=True,
        )
        for stale in study.get_trials(states=(TrialState.RUNNING,)):  # of a study that was killed
            study.tell(stale.number, state=TrialState.FAIL)
        return study


def changed_since(folder: Path, origin: Mapping[str, Any]) -> list[str] | None:
    """What changed since the latest study in a folder, by the names in `origin`: nothing where it goes on.

    Returns:
        None where there is no study. A study that does not say what it was made from is of an unknown `version`.

    Raises:
        UserError: the file is not one of Optuna's.
    """
    if not (folder / "study.db").is_file():
        return None
    with _readable(folder):
        storage = _storage(folder)
        known = {study.study_name: study for study in optuna.get_all_study_summaries(storage, include_best_trial=False)}
    if fingerprint(**origin)[:NAME_LENGTH] in known:
        return []
    if not known:
        return None
    before = list(known.values())[-1].user_attrs.get(ORIGIN, {})
    now = parts_of(origin)
    return [name for name in now if before.get(name) != now[name]] if before else ["version"]


def parts_of(origin: Mapping[str, Any]) -> dict[str, str]:
    """A fingerprint of each part of an origin, as a study keeps them."""
    return {name: fingerprint(value=value)[:NAME_LENGTH] for name, value in origin.items()}


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, RuntimeError):
        path = folder / "study.db"
        raise UserError(f"{path} is not a study of this version of Optuna; delete it and run tune again") from None


def _storage(folder: Path) -> optuna.storages.RDBStorage:
    # SQLite opens the file itself: in a URL, some characters of a folder's name would mean something else.
    connect = partial(sqlite3.connect, folder / "study.db", timeout=LOCKED_SECONDS, check_same_thread=False)
    return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})


def seconds(trial: Any) -> float:
    """What a trial took."""
    return float(trial.user_attrs.get(SECONDS, trial.duration.total_seconds()))


def state_of(trial: Any) -> str:
    """`complete`, `pruned`, `failed` (training broke down), `cut` (the seconds were used up), or '' for any other.

    A trial that broke down is one that was pruned for Optuna, which learns from it to keep away.
    """
    said = trial.user_attrs.get(ENDED)
    if trial.state == TrialState.FAIL:  # one that was killed says nothing, or was not counted when it was killed
        return CUT if said == CUT else ""
    if trial.state == TrialState.PRUNED:
        return FAILED if said == FAILED else "pruned"
    return "complete" if trial.state == TrialState.COMPLETE else ""


def ended(study: optuna.Study) -> list[Any]:
    """All trials but those that were killed, which are run again, and those that have not ended."""
    return [trial for trial in study.get_trials(deepcopy=False) if state_of(trial)]


def used(study: optuna.Study) -> float:
    """The seconds that the trials took, those of earlier calls included."""
    return sum(seconds(trial) for trial in ended(study))


def finished(study: optuna.Study) -> list[Any]:
    """The trials that came to an end, were pruned or broke down."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def note(study: optuna.Study, monitor: str) -> str:
    """What the last trial found, and the best so far, in words."""
    last = study.trials[-1]
    value = f"{monitor} {last.value:.4f}" if last.state == TrialState.COMPLETE else state_of(last)
    best = f", best {study.best_value:.4f} in trial {study.best_trial.number}" if has_ended(study) else ""
    return f"trial {last.number}: {value}{best}"


def has_ended(study: optuna.Study) -> bool:
    """Whether any trial came to its end."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

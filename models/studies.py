"""Optuna's studies, in SQLite: opened where they were stopped, and read."""

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.trial import TrialState

from core.errors import UserError
from models.protocols.base import Protocol

LOCKED_SECONDS = 60  # that SQLite waits for another process
WARM_UP = 3  # epochs, and trials before any is pruned


def open_study(folder: Path, protocol: Protocol, made_from: str) -> optuna.Study:
    """The study of this origin in a folder, where it was stopped, or a new one.

    Raises:
        UserError: its file is not one of Optuna's.
    """
    path = folder / "study.db"
    try:
        return _opened(path, protocol, made_from)
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, RuntimeError):
        raise UserError(f"{path} is not a study of this version of Optuna; delete it and run tune again") from None


def _opened(path: Path, protocol: Protocol, made_from: str) -> optuna.Study:
    # SQLite opens the file itself: in a URL, some characters of a folder's name would mean something else.
    storage = optuna.storages.RDBStorage(
        "sqlite:///study.db",
        engine_kwargs={"creator": partial(sqlite3.connect, path, timeout=LOCKED_SECONDS, check_same_thread=False)},
    )
    study = optuna.create_study(
        storage=storage,
        study_name=made_from[:16],
        direction="maximize" if protocol.metric(protocol.monitor).higher_is_better else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP, n_warmup_steps=WARM_UP),
        load_if_exists=True,
    )
    for stale in study.get_trials(states=(TrialState.RUNNING,)):  # of a study that was killed
        study.tell(stale.number, state=TrialState.FAIL)
    return study


def seconds(trial: Any) -> float:
    """What a trial took."""
    return float(trial.duration.total_seconds())


def finished(study: optuna.Study) -> list[Any]:
    """The trials that came to an end or were pruned."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def note(study: optuna.Study, monitor: str) -> str:
    """What the last trial found, and the best so far, in words."""
    last = study.trials[-1]
    value = "pruned" if last.state == TrialState.PRUNED else f"{monitor} {last.value:.4f}"
    best = f", best {study.best_value:.4f} in trial {study.best_trial.number}" if has_ended(study) else ""
    return f"trial {last.number}: {value}{best}"


def has_ended(study: optuna.Study) -> bool:
    """Whether any trial came to its end."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

"""Tuning on validation, with Optuna: what `marquee tune` does for one model of one protocol.

A study lies in the run's folder, in SQLite, and resumes where it was stopped. Trials that are behind the others' median
are pruned (networks report their validation metric after every epoch). The first trial is the default settings, so
that a study never ends below them. The test set plays no part.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from core.artifacts import fingerprint, package_versions
from core.errors import UserError
from core.json_files import read_json, write_json
from core.run_folder import DEFAULT_SEED, Run
from models import registry
from models.baselines.base import BASELINES
from models.data.batches import epoch_seed
from models.data.features import Features
from models.data.load import load_features, training_rows
from models.evaluation.judgement import scorer_of
from models.importance import draw_importance
from models.networks.base import NETWORKS, build
from models.protocols.base import PROTOCOLS, Protocol
from models.search_space import Integer, Log, OneOf, Range, SearchSpace
from models.training.loop import FIT, Callbacks, fit
from models.training.settings import DEFAULTS, TrainSettings, to_json, with_changes

LOCKED_SECONDS = 60  # that SQLite waits for another process
WARM_UP = 3  # epochs, and trials before any is pruned
START = "start"  # whose defaults a study starts from: what an earlier one has found plays no part
STARTUP = 8  # trials drawn at random before TPE learns from them

Advance = Callable[[float, str], None]


# What a study of any network searches; the network's and the protocol's own come after it.
NETWORK_SPACE: SearchSpace = {
    "dim": OneOf(16, 32, 64),
    "init_std": Log(0.005, 0.2),
    "learning_rate": Log(3e-4, 1e-2),
    "batch_size": OneOf(512, 1024, 2048, 4096),
    "schedule": OneOf("constant", "cosine"),
    "l2": Log(1e-5, 0.1),
    "averaging": OneOf(0.99, 0.995, 0.999),
}


def space(protocol: str, name: str) -> SearchSpace:
    """The search space of a network or baseline."""
    if name in NETWORKS:
        return {**NETWORK_SPACE, **NETWORKS[name].space, **PROTOCOLS[protocol].space}
    return BASELINES[f"{protocol}/{name}"].space


def distributions_of(space: SearchSpace) -> dict[str, BaseDistribution]:
    """A search space as Optuna has it."""
    return {name: _distribution(parameter) for name, parameter in space.items()}


def _distribution(parameter: Range) -> BaseDistribution:
    if isinstance(parameter, OneOf):
        return CategoricalDistribution(tuple(parameter.choices))
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=isinstance(parameter, Log))


def with_parameters(base: Any, space: SearchSpace, parameters: dict[str, Any]) -> Any:
    """Settings with the parameters of a trial; what is not among them is as in `base`."""
    chosen: dict[str, Any] = {}
    for name, value in parameters.items():
        parameter = space[name]
        chosen[name] = parameter.choices[value] if isinstance(parameter, OneOf) else value
    if not isinstance(base, TrainSettings):
        return replace(base, **chosen)
    own = {field.name for field in fields(base.network)}
    network = {name: value for name, value in chosen.items() if name in own}
    rest = {name: value for name, value in chosen.items() if name not in own}
    return replace(base, network=replace(base.network, **network), **rest)


def parameters_of(settings: Any, space: SearchSpace) -> dict[str, Any]:
    """Where settings lie in a search space, as far as they lie in it."""
    flat = {field.name: getattr(settings, field.name) for field in fields(settings)}
    if isinstance(settings, TrainSettings):
        flat |= {field.name: getattr(settings.network, field.name) for field in fields(settings.network)}
    found = {}
    for name, parameter in space.items():
        value = flat[name]
        if isinstance(parameter, OneOf):
            labels = [label for label, choice in parameter.choices.items() if choice == value]
            if labels:
                found[name] = labels[0]
        elif parameter.low <= value <= parameter.high:
            found[name] = value
    return found


def names_of(protocol: str, wanted: str) -> list[str]:
    """The models that `tune` is asked for: one, or with `all` every one of the protocol that has settings.

    Raises:
        UserError: the protocol has no such model, or there is nothing to tune about it.
    """
    known = registry.tunable(protocol)
    if wanted == "all":
        return list(known)
    if wanted not in known:
        raise UserError(f"{wanted!r} cannot be tuned for {protocol}; choose one of {', '.join(known)}, or all")
    return [wanted]


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """How a study searches.

    Attributes:
        trials: in all, those of earlier calls included.
        seed: of the draws, and of training.
        epochs: of every trial, at most; None for the default settings'.
        tolerance: of the trials that validated at most so much worse than the best, the one that took least time wins.
    """

    trials: int
    seed: int
    epochs: int | None = None
    tolerance: float = 0.0


def tune(
    run: Run, protocol: str, name: str, search: StudySettings, device: torch.device, advance: Advance
) -> dict[str, Any]:
    """Runs a study up to so many trials and writes `tuning/<protocol>/<model>/`: `best.json` and `importance.png`.

    Args:
        advance: reported 1 for each trial, with a note.

    Returns:
        What `best.json` holds: the settings, as they differ from the class's defaults, and the study.

    Raises:
        UserError: no features, or no such model.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    features = load_features(run, protocol)
    base = registry.default_settings(protocol, name, START, training_rows(run, protocol)).settings
    if name in NETWORKS:
        base = with_changes(name, base, {"epochs": search.epochs}, "--epochs")
    folder = run.tuning(protocol, name)
    folder.mkdir(parents=True, exist_ok=True)
    study = _open_study(
        folder, PROTOCOLS[protocol], fingerprint(features=features.fingerprint, base=asdict(base), seed=search.seed)
    )
    done = len(_finished(study))
    advance(done, f"resumes after trial {done}" if done else "")
    choices = space(protocol, name)

    def found() -> dict[str, Any]:
        return _found(study, features, name, base, search)

    while (done := len(_finished(study))) < search.trials:
        if not done:
            study.enqueue_trial(parameters_of(base, choices))
        # A sampler for each trial, so that a study that was stopped resumes as if it had not been.
        study.sampler = optuna.samplers.TPESampler(
            seed=epoch_seed(search.seed, done), multivariate=True, n_startup_trials=STARTUP
        )
        _run_trial(study, features, name, base, device)
        advance(1, _note(study, PROTOCOLS[protocol].monitor))
        if _complete(study):
            write_json(folder / "best.json", found())
    if not _complete(study):
        raise UserError(f"no trial of this study came to its end; ask for more than --trials {search.trials}")
    best = found()
    write_json(folder / "best.json", best)
    title = f"{name}, {protocol}, {features.dataset}: what {PROTOCOLS[protocol].monitor} depends on"
    draw_importance(study, title, folder / "importance.png")
    return best


def _run_trial(study: optuna.Study, features: Features, name: str, base: Any, device: torch.device) -> None:
    """Trains a model with the parameters that the sampler chooses, and validates it."""
    choices = space(features.protocol, name)
    trial = study.ask(distributions_of(choices))
    try:
        value = _validate(features, name, with_parameters(base, choices, trial.params), device, trial)
    except (optuna.TrialPruned, UserError):  # a loss that broke down is no more than a bad trial
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)


def _open_study(folder: Path, protocol: Protocol, made_from: str) -> optuna.Study:
    database = (folder / "study.db").absolute()
    # Opened here, as in a URL the folder's name would be another where it holds `?`, `%` or braces.
    connect = partial(sqlite3.connect, database, timeout=LOCKED_SECONDS, check_same_thread=False)
    study = optuna.create_study(
        storage=optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect}),
        study_name=made_from[:16],
        direction="maximize" if protocol.metrics[protocol.monitor].higher_is_better else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP, n_warmup_steps=WARM_UP),
        load_if_exists=True,
    )
    for stale in study.get_trials(states=(TrialState.RUNNING,)):  # of a study that was killed
        study.tell(stale.number, state=TrialState.FAIL)
    return study


def _command(features: Features, name: str, search: StudySettings) -> str:
    """The command line that repeats a study."""
    command = f"python -m marquee tune --dataset {features.dataset} --protocol {features.protocol} --model {name}"
    command += f" --trials {search.trials} --seed {search.seed}"
    command += f" --epochs {search.epochs}" if search.epochs and name in NETWORKS else ""
    return command + (f" --tolerance {search.tolerance:g}" if search.tolerance else "")


def _found(study: optuna.Study, features: Features, name: str, base: Any, search: StudySettings) -> dict[str, Any]:
    """`best.json` of a study as far as it is."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    good = [trial for trial in ended if abs(trial.values[0] - study.best_value) <= search.tolerance]
    chosen = min(good, key=_seconds) if search.tolerance else study.best_trial
    settings = with_parameters(base, space(features.protocol, name), chosen.params)
    return {
        "settings": to_json(settings) if isinstance(settings, TrainSettings) else asdict(settings),
        "study": {
            "metric": PROTOCOLS[features.protocol].monitor,
            "value": chosen.value,
            "best_value": study.best_value,
            "trials": len(_finished(study)),
            "pruned": len(study.get_trials(states=(TrialState.PRUNED,))),
            "trial": chosen.number,
            "command": _command(features, name, search),
            "versions": {**package_versions(), "optuna": optuna.__version__},
        },
    }


def _seconds(trial: Any) -> float:
    return float(trial.duration.total_seconds())


def _finished(study: optuna.Study) -> list[Any]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _note(study: optuna.Study, monitor: str) -> str:
    last = study.trials[-1]
    value = "pruned" if last.state == TrialState.PRUNED else f"{monitor} {last.value:.4f}"
    best = f", best {study.best_value:.4f} in trial {study.best_trial.number}" if _complete(study) else ""
    return f"trial {last.number}: {value}{best}"


def _complete(study: optuna.Study) -> bool:
    return bool(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _validate(features: Features, name: str, settings: Any, device: torch.device, trial: optuna.Trial) -> float:
    """A model's validation metric with a trial's settings.

    Raises:
        TrialPruned: it is behind the other trials.
        UserError: training broke down.
    """
    protocol = PROTOCOLS[features.protocol]
    if name in NETWORKS:

        def watch(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        model = build(name, features, settings.network, settings.seed).to(device)
        history, best = fit(model, features, settings, device, Callbacks(watch=watch))
        return float(history[best - 1][protocol.monitor])
    score = registry.fit_baseline(name, features, FIT, settings, DEFAULT_SEED)
    return protocol.judge(scorer_of(score), protocol.questions(features, "valid")).means()[protocol.monitor]


def ship(dataset: str, protocol: str, name: str, found: dict[str, Any]) -> Path:
    """Writes what a study found into the defaults of its dataset, in the place of what was there."""
    path = DEFAULTS / f"{dataset}.json"
    defaults = read_json(path) if path.is_file() else {}
    defaults.setdefault(protocol, {})[name] = found
    write_json(path, defaults)
    return path

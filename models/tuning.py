"""Tuning on validation, with Optuna: what `marquee tune` does for one model of one protocol.

A study lies in the run's folder, in SQLite, and resumes where it was stopped. Trials that are behind the others' median
are pruned (networks report their validation metric after every epoch). The first trial is what `train` would use
without the study, so that a study never ends below it. The test set plays no part.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from core.artifacts import fingerprint, package_versions
from core.errors import UserError
from core.json_files import only_writer, read_json, write_json
from core.run_folder import Run
from core.stage_code import stage_code
from models import registry
from models.baselines.base import BASELINES
from models.data.batches import epoch_seed
from models.data.features import Features
from models.data.load import load_features, training_rows
from models.evaluation import evaluate
from models.evaluation.judgement import means_of, scorer_of
from models.importance import draw_importance
from models.networks.base import NETWORKS, build
from models.protocols.base import PROTOCOLS
from models.studies import finished, has_ended, note, open_study, seconds
from models.training.loop import FIT, Callbacks, fit, undefined_in_validation
from models.training.settings import DEFAULTS, TrainSettings, read_defaults, to_json
from models.training.train import training_digest
from models.tuning_space import distributions_of, nearest_parameters, parameters_of, space, with_parameters

START = "start"  # defaults that a study tries too, beside those of the dataset: what earlier studies began with
STARTS = "starts"  # the key of what a study tries first, and in a trial the place of its settings there
ALL_EPOCHS = "all_epochs"  # the key of what validated without the bound of epochs
STARTUP = 8  # trials drawn at random before TPE learns from them

Advance = Callable[[float, str], None]


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
        epochs: of every trial, at most; None for the settings' own. It bounds the search alone: what is found keeps the
            number of epochs that `train` would use otherwise.
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
        UserError: no features, no such model, or validation rows that nothing can be judged by.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    features, monitor = load_features(run, protocol), PROTOCOLS[protocol].monitor
    reason = undefined_in_validation(features).get(monitor)
    if reason:
        raise UserError(f"{name} cannot be tuned for {protocol}: validation {monitor} is undefined, as {reason}")
    folder = run.tuning(protocol, name)
    folder.mkdir(parents=True, exist_ok=True)
    base = registry.default_settings(protocol, name, run.root.name, training_rows(run, protocol)).settings
    study = open_study(folder, PROTOCOLS[protocol], _origin(features, name, base, search, device))
    starts = _starts(study, run, features, name)
    search_of = _Search(study=study, features=features, name=name, base=base, starts=starts, how=search)
    done = len(finished(study))
    advance(done, f"resumes after trial {done}" if done else "")
    while (done := len(finished(study))) < search.trials:
        search_of.run_trial(done, device)
        advance(1, note(study, monitor))
        if has_ended(study) and not search.epochs:
            write_json(folder / "best.json", search_of.found())
    if not has_ended(study):
        raise UserError(f"no trial of this study came to its end; ask for more than --trials {search.trials}")
    best = search_of.confirmed(device, advance) if name in NETWORKS else search_of.found()
    write_json(folder / "best.json", best)
    title = f"{name}, {protocol}, {features.dataset}: what {monitor} depends on"
    draw_importance(study, title, folder / "importance.png")
    return best


def _origin(features: Features, name: str, base: Any, search: StudySettings, device: torch.device) -> str:
    """The fingerprint of what the trials of a study have in common: it resumes only where nothing of that changed."""
    protocol = features.protocol
    if name in NETWORKS:
        code = training_digest(protocol, name)
    else:
        code = stage_code(evaluate.ROOMS, evaluate.LIBRARIES, BASELINES, {protocol: PROTOCOLS[protocol]})
    return fingerprint(
        features=features.fingerprint,
        base=asdict(base),
        space=repr(space(protocol, name)),
        seed=search.seed,
        epochs=search.epochs if name in NETWORKS else None,
        code=code,
        device=device.type,
    )


def _starts(study: optuna.Study, run: Run, features: Features, name: str) -> list[Any]:
    """The settings that a study tries first, each once: what `train` would use without it is the first.

    They are kept with the study, as its own best settings are what `train` uses from then on.
    """
    protocol, rows = features.protocol, training_rows(run, features.protocol)
    if STARTS not in study.user_attrs:
        chosen = [
            registry.chosen_settings(run, protocol, name, rows),
            registry.default_settings(protocol, name, run.root.name, rows),
            registry.default_settings(protocol, name, START, rows),
        ]
        saved = [_as_json(one.settings) for one in chosen]
        study.set_user_attr(STARTS, [one for place, one in enumerate(saved) if one not in saved[:place]])
    return [registry.settings_of(protocol, name, one, study.study_name) for one in study.user_attrs[STARTS]]


def _as_json(settings: Any) -> dict[str, Any]:
    return to_json(settings) if isinstance(settings, TrainSettings) else asdict(settings)


@dataclass(frozen=True, kw_only=True)
class _Search:
    """A study of a model.

    Attributes:
        base: the settings that lie outside of the search space.
        starts: the settings of the first trials.
    """

    study: optuna.Study
    features: Features
    name: str
    base: Any
    starts: list[Any]
    how: StudySettings

    def run_trial(self, done: int, device: torch.device) -> None:
        """Trains a model with settings that are to start with, or that the sampler chooses, and validates it."""
        choices = space(self.features.protocol, self.name)
        if done < len(self.starts) and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            start = self.starts[done]
            point = {**nearest_parameters(start, choices), **parameters_of(start, choices)}
            self.study.enqueue_trial(point, user_attrs={STARTS: done})
        # A sampler for each trial, so that a study that was stopped resumes as if it had not been.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=epoch_seed(self.how.seed, done), multivariate=True, n_startup_trials=STARTUP
        )
        trial = self.study.ask(distributions_of(choices))
        try:
            value = _validate(self.features, self.name, self.for_trial(trial), self.how.seed, device, trial)
        except (optuna.TrialPruned, UserError):  # a loss that broke down is no more than a bad trial
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, value)

    def settings(self, trial: Any) -> Any:
        """The settings of a trial as they are kept. Those to start with may lie outside of the search space."""
        start = trial.user_attrs.get(STARTS)
        choices = space(self.features.protocol, self.name)
        return with_parameters(self.base, choices, trial.params) if start is None else self.starts[start]

    def for_trial(self, trial: Any) -> Any:
        """The same with the study's seed and its bound of epochs."""
        settings = self.settings(trial)
        if not isinstance(settings, TrainSettings):
            return settings
        return replace(settings, seed=self.how.seed, epochs=min(settings.epochs, self.how.epochs or settings.epochs))

    def chosen(self) -> Any:
        """The trial that the study ends with."""
        if not self.how.tolerance:
            return self.study.best_trial
        ended = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return min((t for t in ended if abs(t.values[0] - self.study.best_value) <= self.how.tolerance), key=seconds)

    def confirmed(self, device: torch.device, advance: Advance) -> dict[str, Any]:
        """The same, where the trials were cut short: with all epochs, what was found must not be worse than the start.

        Both are trained with as many epochs as `train` gives them, and the better one is taken.
        """
        best, chosen, how = self.found(), self.settings(self.chosen()), self.how
        start = self.starts[0]
        if chosen == start or not how.epochs or max(chosen.epochs, start.epochs) <= how.epochs:
            return best
        key = f"{ALL_EPOCHS} of trial {best['study']['trial']}"
        if key not in self.study.user_attrs:
            values = []
            for what, settings in (("what train uses", start), ("the best trial", chosen)):
                advance(0, f"with all epochs: {what}")
                values.append(_trained(self.features, self.name, replace(settings, seed=how.seed), device))
            self.study.set_user_attr(key, values)
        of_start, of_chosen = self.study.user_attrs[key]
        sign = PROTOCOLS[self.features.protocol].metric(best["study"]["metric"]).sign
        if of_chosen is None or (of_start is not None and sign * of_chosen < sign * of_start - how.tolerance):
            best["settings"] = _as_json(start)
        return {**best, "study": {**best["study"], ALL_EPOCHS: {"start": of_start, "best": of_chosen}}}

    def found(self) -> dict[str, Any]:
        """`best.json` of the study as far as it is."""
        study, chosen = self.study, self.chosen()
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return {
            "settings": _as_json(self.settings(chosen)),
            "study": {
                "metric": PROTOCOLS[self.features.protocol].monitor,
                "value": chosen.value,
                "best_value": study.best_value,
                "start_value": next((trial.value for trial in ended if trial.user_attrs.get(STARTS) == 0), None),
                "trials": len(finished(study)),
                "pruned": len(study.get_trials(states=(TrialState.PRUNED,))),
                "trial": chosen.number,
                "command": _command(self.features, self.name, self.how),
                "versions": {**package_versions(), "optuna": optuna.__version__},
            },
        }


def _command(features: Features, name: str, search: StudySettings) -> str:
    """The command line that repeats a study."""
    command = f"python -m marquee tune --dataset {features.dataset} --protocol {features.protocol} --model {name}"
    command += f" --trials {search.trials} --seed {search.seed}"
    command += f" --epochs {search.epochs}" if search.epochs and name in NETWORKS else ""
    return command + (f" --tolerance {search.tolerance:g}" if search.tolerance else "")


def _trained(features: Features, name: str, settings: TrainSettings, device: torch.device) -> float | None:
    """A network's validation metric; None where training broke down."""
    try:
        model = build(name, features, settings.network, settings.seed).to(device)
        history, best = fit(model, features, settings, device)
    except UserError:
        return None
    return float(history[best - 1][PROTOCOLS[features.protocol].monitor])


def _validate(
    features: Features, name: str, settings: Any, seed: int, device: torch.device, trial: optuna.Trial
) -> float:
    """A model's validation metric with a trial's settings.

    Raises:
        TrialPruned: it is behind the other trials.
        UserError: training broke down.
    """
    protocol = PROTOCOLS[features.protocol]
    if name in NETWORKS:

        def watch(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if STARTS not in trial.user_attrs and trial.should_prune():
                raise optuna.TrialPruned

        model = build(name, features, settings.network, settings.seed).to(device)
        history, best = fit(model, features, settings, device, Callbacks(watch=watch))
        return float(history[best - 1][protocol.monitor])
    score = registry.fit_baseline(name, features, FIT, settings, seed)
    value = means_of(protocol.judge(scorer_of(score), protocol.questions(features, "valid")))[protocol.monitor]
    if value is None:
        raise optuna.TrialPruned
    return value


def ship(dataset: str, protocol: str, name: str, found: dict[str, Any]) -> Path:
    """Writes what a study found into the defaults of its dataset, in the place of what was there."""
    path = shipped_file(dataset)
    with only_writer(path):
        defaults = read_json(path) if path.is_file() else {}
        defaults.setdefault(protocol, {})[name] = found
        write_json(path, defaults)
    return path


def shipped_file(dataset: str) -> Path:
    """Where `ship` writes the defaults of a dataset.

    Raises:
        UserError: it cannot be written, or what is there is not a file of defaults.
    """
    path = DEFAULTS / f"{dataset}.json"
    with only_writer(path):
        if path.is_file():
            read_defaults(path)
    return path

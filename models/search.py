"""The search of one study: its trials one after the other, and what it found."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import optuna
import torch
from optuna.trial import TrialState

from core.artifacts import package_versions
from core.errors import UserError
from core.json_files import write_json
from models.data.batches import epoch_seed
from models.data.features import Features
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.studies import (
    CUT,
    ENDED,
    EPOCHS,
    FAILED,
    HARDWARE,
    SECONDS,
    THREADS,
    ended,
    finished,
    has_ended,
    note,
    seconds,
    state_of,
    used,
)
from models.study_files import TRIAL, KeptStudy, KeptTrial, State, write_study
from models.training.devices import hardware_name
from models.training.loop import Callbacks
from models.training.settings import TrainSettings, to_json
from models.trials import Cut, Watch, trained_value, validated_value
from models.tuning_space import distributions_of, nearest_parameters, parameters_of, space, values_of, with_parameters

STARTS = "starts"  # the key of what a study tries first, and in a trial the place of its settings there
ALL_EPOCHS = "all_epochs"  # the key of what validated without the bound of epochs
STARTUP = 4  # trials, the starts among them, before TPE learns from them: within a budget there may be few
TRIALS = "trials.json"  # in the folder of a study: its trials, as `models.study_files` writes them

Advance = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """How a study searches. It ends with its trials or its seconds, whichever comes first.

    Attributes:
        trials: in all, those of earlier calls included; None for no bound.
        seconds: that the trials may take together, those of earlier calls included; None for no bound.
        seed: of the draws, and of training.
        epochs: of every trial, at most; None for the settings' own. It bounds the search alone: what is found keeps the
            number of epochs that `train` would use otherwise.
        tolerance: of the trials that validated at most so much worse than the best, the one that took least time wins.
        resume: goes on with a study that is there, and never begins one.
    """

    trials: int | None
    seconds: float | None = None
    seed: int
    epochs: int | None = None
    tolerance: float = 0.0
    resume: bool = False


def as_json(settings: Any) -> dict[str, Any]:
    return to_json(settings) if isinstance(settings, TrainSettings) else asdict(settings)


@dataclass(frozen=True, kw_only=True)
class Search:
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

    def run(self, folder: Path, device: torch.device, advance: Advance) -> None:
        """Runs trials for as long as there are any left, and seconds.

        Args:
            folder: where what was found so far is written after each.

        Raises:
            UserError: no trial came to its end.
        """
        study, limit = self.study, self.how.seconds
        done, spent = len(finished(study)), used(study)
        advance(done if limit is None else min(spent, limit), f"resumes after trial {done}" if done else "")
        while self.goes_on():
            self.run_trial(len(finished(study)), device)
            before, spent = spent, used(study)
            advance(1 if limit is None else spent - before, note(study, PROTOCOLS[self.features.protocol].monitor))
            if has_ended(study) and not self.how.epochs:
                self.write(folder, self.found())
        if not has_ended(study):
            more = f"--trials {self.how.trials}" if limit is None else f"--seconds {limit:g}"
            raise UserError(f"no trial of this study came to its end; ask for more than {more}")

    def run_trial(self, done: int, device: torch.device) -> None:
        """Trains a model with settings that are to start with, or that the sampler chooses, and validates it."""
        began = time.perf_counter()
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
        left = math.inf if self.how.seconds is None else self.how.seconds - used(self.study)
        watch = Watch(trial=trial, never_pruned=STARTS in trial.user_attrs, deadline=began + left)
        state, value, said = TrialState.COMPLETE, None, ""
        try:
            value = validated_value(self.features, self.name, self.for_trial(trial), self.how.seed, device, watch)
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except Cut:
            state, said = TrialState.FAIL, CUT
        except UserError:  # a loss that broke down is no more than a bad trial
            state, said = TrialState.PRUNED, FAILED
        for key, one in ((SECONDS, time.perf_counter() - began), (EPOCHS, watch.epochs), (ENDED, said)):
            trial.set_user_attr(key, one)
        trial.set_user_attr(THREADS, torch.get_num_threads())
        trial.set_user_attr(HARDWARE, hardware_name(device))
        self.study.tell(trial, value, state=state)

    def goes_on(self) -> bool:
        """Whether there are trials and seconds left."""
        enough = self.how.trials is not None and len(finished(self.study)) >= self.how.trials
        return not enough and (self.how.seconds is None or used(self.study) < self.how.seconds)

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
                values.append(
                    trained_value(self.features, self.name, replace(settings, seed=how.seed), device, Callbacks())
                )
            self.study.set_user_attr(key, values)
        of_start, of_chosen = self.study.user_attrs[key]
        sign = PROTOCOLS[self.features.protocol].metric(best["study"]["metric"]).sign
        if of_chosen is None or (of_start is not None and sign * of_chosen < sign * of_start - how.tolerance):
            first = self._first()
            best = self.found(first) if first else {**best, "settings": as_json(start)}
        return {**best, "study": {**best["study"], ALL_EPOCHS: {"start": of_start, "best": of_chosen}}}

    def _with_all_epochs(self, settings: TrainSettings, device: torch.device) -> float | None:
        try:
            return trained_value(self.features, self.name, settings, device, Callbacks())
        except UserError:  # training broke down
            return None

    def found(self, chosen: Any = None) -> dict[str, Any]:
        """`best.json` of the study as far as it is, with the trial that was chosen, or is to be."""
        study, chosen = self.study, chosen or self.chosen()
        trials = ended(study)
        counts = Counter(state_of(trial) for trial in trials)
        first = self._first()
        return {
            "settings": as_json(self.settings(chosen)),
            "study": {
                "metric": PROTOCOLS[self.features.protocol].monitor,
                "value": chosen.value,
                "best_value": study.best_value,
                "start_value": first.value if first else None,
                "trials": len(finished(study)),
                **{state: counts[state] for state in ("complete", "pruned", FAILED, CUT)},
                TRIAL: chosen.number,
                "seconds": round(used(study), 2),
                "budget": self.how.seconds,
                "threads": _each(trials, THREADS),
                "hardware": _each(trials, HARDWARE),
                "command": _command(self.features, self.name, self.how),
                "versions": {**package_versions(), "optuna": optuna.__version__},
            },
        }

    def _first(self) -> Any:
        """The trial of what `train` would use; None where it did not come to its end."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return next((trial for trial in complete if trial.user_attrs.get(STARTS) == 0), None)

    def kept(self) -> KeptStudy:
        """The study and its trials as a small file keeps them."""
        choices = space(self.features.protocol, self.name)
        return KeptStudy(
            dataset=self.features.dataset,
            protocol=self.features.protocol,
            model=self.name,
            metric=PROTOCOLS[self.features.protocol].monitor,
            seed=self.how.seed,
            epochs=self.how.epochs,
            base=as_json(self.base),
            starts=[as_json(start) for start in self.starts],
            trials=[
                KeptTrial(
                    number=trial.number,
                    state=cast(State, state_of(trial)),
                    value=trial.value if state_of(trial) == "complete" else None,
                    seconds=round(seconds(trial), 2),
                    epochs=trial.user_attrs.get(EPOCHS),
                    start=trial.user_attrs.get(STARTS),
                    parameters=values_of(trial.params, choices),
                )
                for trial in ended(self.study)
            ],
        )

    def write(self, folder: Path, best: dict[str, Any]) -> None:
        """Writes the study as far as it is: its trials, then what was found."""
        write_study(folder / TRIALS, self.kept())
        write_json(folder / "best.json", best)


def _each(trials: list[Any], key: str) -> list[Any]:
    """What the trials say of themselves, each once."""
    return list(dict.fromkeys(trial.user_attrs[key] for trial in trials if key in trial.user_attrs))


def _command(features: Features, name: str, search: StudySettings) -> str:
    """The command line that repeats a study."""
    command = f"python -m marquee tune --dataset {features.dataset} --protocol {features.protocol} --model {name}"
    command += f" --trials {search.trials}" if search.trials is not None else ""
    command += f" --seconds {search.seconds:g}" if search.seconds is not None else ""
    command += f" --seed {search.seed}"
    command += f" --epochs {search.epochs}" if search.epochs and name in NETWORKS else ""
    return command + (f" --tolerance {search.tolerance:g}" if search.tolerance else "")

"""Tuning on validation, with Optuna: what `marquee tune` does for one model of one protocol.

A study lies in the run's folder, in SQLite, and goes on where it was stopped. Trials that are behind the others' median
are pruned (neural models tell their validation metric after every epoch). The first trial is the default settings, so
that a study never ends below them. The test set plays no part.
"""

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import optuna
import torch
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution as Choice
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState

from core.artifacts import fingerprint, package_versions
from core.errors import UserError
from core.json_files import read_json, write_json
from core.run_folder import TRAINED, Run
from models.baselines.base import baselines_of
from models.data.batches import epoch_seed
from models.data.features import Features, load_features
from models.evaluation.judgement import leave_one_out_metrics, rating_metrics
from models.networks.base import NetworkSettings, build
from models.networks.scoring import MONITOR, SIGN
from models.registry import fit_baseline, settings_of
from models.search_space import Integer, Log, OneOf, Range
from models.training.settings import DEFAULTS, SCHEDULES, TrainSettings, changed_fields
from models.training.train import fit, training_rows

WARM_UP = 3  # epochs, and trials before any is pruned
TOPS = {"small": (32, 16), "medium": (64, 32), "deep": (64, 32, 16), "wide": (128, 64, 32)}
START = "start"  # whose defaults a study starts from: what an earlier one has found plays no part
STARTUP = 8  # trials drawn at random before TPE learns from them

Advance = Callable[[float, str], None]

matplotlib.use("agg")


def space(protocol: str, name: str) -> dict[str, BaseDistribution]:
    """The search space of a model: a distribution for each parameter."""
    if name in TRAINED:
        return _neural_space(protocol, name)
    return {key: distribution(values) for key, values in baselines_of(protocol)[name].space.items()}


def distribution(values: Range) -> BaseDistribution:
    """A range of a search space as Optuna's distribution."""
    if isinstance(values, OneOf):
        return Choice(values.values)
    if isinstance(values, Integer):
        return Int(values.low, values.high, log=values.log)
    return Float(values.low, values.high, log=isinstance(values, Log))


def _neural_space(protocol: str, name: str) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {
        "dim": _one_of(16, 32, 64, 128) if name == "mf" else _one_of(16, 32, 64),
        "init_std": _log(0.005, 0.2),
        "learning_rate": _log(3e-4, 1e-2),
        "batch_size": _one_of(512, 1024, 2048, 4096),
        "schedule": _one_of(*SCHEDULES),
        "l2": _log(1e-5, 0.1),
        "averaging": _one_of(0.99, 0.995, 0.999),
    }
    if name != "mf":
        found |= {"top": _one_of(*TOPS), "dropout": Float(0.0, 0.6), "weight_decay": _log(1e-7, 1e-3)}
    if name == "dlrm":
        found |= {"history": _one_of(0, 3, 5, 10, 20), "user_statistics": _one_of(True, False)}
    if name == "ncf":
        found["pretraining"] = _one_of(0, 3)
    if protocol == "leave-one-out":
        found |= {"negatives": _one_of(2, 4, 8), "recency": _one_of(0.0, 3.0, 5.0, 10.0, 30.0, 100.0)}
    return found


def _log(low: float, high: float) -> BaseDistribution:
    return Float(low, high, log=True)


def _one_of(*choices: Any) -> BaseDistribution:
    return Choice(choices)


def with_parameters(base: Any, parameters: dict[str, Any]) -> Any:
    """Settings with the parameters of a trial; what is not among them is as in `base`."""
    if not isinstance(base, TrainSettings):
        return replace(base, **parameters)
    chosen: dict[str, Any] = {key: TOPS[value] if key == "top" else value for key, value in parameters.items()}
    network: dict[str, Any] = {
        key: value for key, value in chosen.items() if key in {field.name for field in fields(NetworkSettings)}
    }
    rest: dict[str, Any] = {key: value for key, value in chosen.items() if key not in network}
    return replace(base, network=replace(base.network, **network), **rest)


def parameters_of(settings: Any, distributions: dict[str, BaseDistribution]) -> dict[str, Any]:
    """Where settings lie in a search space, as far as they lie in it."""
    flat = asdict(settings)
    if isinstance(settings, TrainSettings):
        flat |= asdict(settings.network)
        flat["top"] = next((key for key, top in TOPS.items() if top == settings.network.top), None)
    return {name: flat[name] for name, distribution in distributions.items() if _contains(distribution, flat[name])}


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, Choice):
        return value in distribution.choices
    return bool(distribution.low <= value <= distribution.high)  # type: ignore[attr-defined]


def names_of(protocol: str, wanted: str) -> list[str]:
    """The models that `tune` is asked for: one, or with `all` every one of the protocol that has a search space.

    Raises:
        UserError: the protocol has no such model, or there is nothing to tune about it.
    """
    tunable = [*TRAINED, *(name for name, baseline in baselines_of(protocol).items() if baseline.space)]
    if wanted == "all":
        return tunable
    if wanted not in tunable:
        raise UserError(f"{wanted!r} cannot be tuned for {protocol}; choose one of {', '.join(tunable)}, or all")
    return [wanted]


def tune(
    run: Run,
    protocol: str,
    name: str,
    trials: int,
    seed: int,
    device: torch.device,
    advance: Advance,
    epochs: int | None = None,
    tolerance: float = 0.0,
) -> dict[str, Any]:
    """Runs a study up to so many trials and writes `tuning/<protocol>/<model>/`: `best.json` and `importance.png`.

    Args:
        trials: in all, those of earlier calls included.
        epochs: of every trial, at most; None for the default settings'.
        tolerance: of the trials that validated at most so much worse than the best, the one that took least time wins.
        advance: told 1 for each trial, with a note.

    Returns:
        What `best.json` holds: the settings, as they differ from the class's defaults, and the study.

    Raises:
        UserError: no features, or no such model.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    features = load_features(run, protocol)
    base = settings_of(protocol, name, START, training_rows(run, protocol))
    if epochs is not None and name in TRAINED:
        base = replace(base, epochs=epochs)
    folder = run.tuning(protocol, name)
    folder.mkdir(parents=True, exist_ok=True)
    monitor = MONITOR[protocol]
    made_from = fingerprint(features=features.fingerprint, base=asdict(base), seed=seed)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name=made_from[:16],
        direction="maximize" if SIGN[monitor] > 0 else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP, n_warmup_steps=WARM_UP),
        load_if_exists=True,
    )
    for stale in study.get_trials(states=(TrialState.RUNNING,)):  # of a study that was killed
        study.tell(stale.number, state=TrialState.FAIL)
    done = len(_finished(study))
    advance(done, f"goes on after trial {done}" if done else "")
    distributions = space(protocol, name)
    command = f"python -m marquee tune --dataset {features.dataset} --protocol {protocol} --model {name}"
    command += f" --trials {trials} --seed {seed}" + (f" --epochs {epochs}" if epochs else "")
    command += f" --tolerance {tolerance:g}" if tolerance else ""
    while (done := len(_finished(study))) < trials:
        if not done:
            study.enqueue_trial(parameters_of(base, distributions))
        # A sampler for each trial, so that a study that was stopped goes on as if it had not been.
        study.sampler = optuna.samplers.TPESampler(
            seed=epoch_seed(seed, done), multivariate=True, n_startup_trials=STARTUP
        )
        trial = study.ask(distributions)
        try:
            value = _validate(features, name, with_parameters(base, trial.params), seed, device, trial)
        except (optuna.TrialPruned, UserError):  # a loss that broke down is no more than a bad trial
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
        advance(1, _note(study, monitor))
        if _complete(study):
            write_json(folder / "best.json", _found(study, features, name, base, tolerance, command))
    if not _complete(study):
        raise UserError(f"no trial of this study came to its end; ask for more than --trials {trials}")
    found = _found(study, features, name, base, tolerance, command)
    write_json(folder / "best.json", found)
    title = f"{name}, {protocol}, {features.dataset}: what {monitor} depends on"
    draw_importance(study, title, folder / "importance.png")
    return found


def _found(
    study: optuna.Study, features: Features, name: str, base: Any, tolerance: float, command: str
) -> dict[str, Any]:
    """`best.json` of a study as far as it is."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    good = [trial for trial in ended if abs(trial.values[0] - study.best_value) <= tolerance]
    chosen = min(good, key=_seconds) if tolerance else study.best_trial
    settings = with_parameters(base, chosen.params)
    return {
        "settings": changed_fields(settings) if isinstance(settings, TrainSettings) else asdict(settings),
        "study": {
            "metric": MONITOR[features.protocol],
            "value": chosen.value,
            "best_value": study.best_value,
            "trials": len(_finished(study)),
            "pruned": len(study.get_trials(states=(TrialState.PRUNED,))),
            "trial": chosen.number,
            "command": command,
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


def _validate(
    features: Features, name: str, settings: Any, seed: int, device: torch.device, trial: optuna.Trial
) -> float:
    """A model's validation metric with a trial's settings.

    Raises:
        TrialPruned: it is behind the other trials.
        UserError: training broke down.
    """
    monitor = MONITOR[features.protocol]
    if name in TRAINED:

        def watch(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        model = build(name, features, settings.network, settings.seed).to(device)
        history, best = fit(model, features, settings, device, lambda *_: None, watch=watch)
        return float(history[best - 1][monitor])
    score = fit_baseline(name, features, ("train",), settings, seed)
    if features.protocol == "leave-one-out":
        return leave_one_out_metrics(score, features.candidates("valid")).means()[monitor]
    rows = features.interactions("valid")
    predicted = score(rows.user.long().numpy(), rows.movie.long().numpy())
    return rating_metrics(predicted, rows).means()[monitor]


def draw_importance(study: optuna.Study, title: str, path: Path) -> None:
    """A bar for each parameter: how much of the metric's variance over the trials it explains (fANOVA).

    Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014, as Optuna has it.
    """
    varied = {
        name for t in study.trials for name in t.params if len({str(o.params.get(name)) for o in study.trials}) > 1
    }
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 4 or not varied:
        return  # of fewer trials fANOVA tells nothing
    shares = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.35 * len(shares)), layout="constrained")
    names, values = list(shares)[::-1], list(shares.values())[::-1]
    bars = axes.barh(names, values, color="#76b900")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, max(values) * 1.15)
    axes.set_xlabel("share of the variance over the trials")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def ship(dataset: str, protocol: str, name: str, found: dict[str, Any]) -> Path:
    """Writes what a study found into the defaults of its dataset, in the place of what was there."""
    path = DEFAULTS / f"{dataset}.json"
    defaults = read_json(path) if path.is_file() else {}
    defaults.setdefault(protocol, {})[name] = found
    write_json(path, defaults)
    return path

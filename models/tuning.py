"""Tuning on validation, with Optuna: what `marquee tune` does for one model of one protocol.

A study lies in the run's folder, in SQLite, and goes on where it was stopped. Trials that are behind the others' median
are pruned (neural models tell their validation metric after every epoch). The first trial is the default settings, so
that a study never ends below them. The test set plays no part.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import optuna
import torch
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState

from marquee.errors import UserError
from marquee.manifest import fingerprint, read_json, write_json
from marquee.runs import RATING_PROTOCOL, TRAINED, Run, package_versions
from models.batches import epoch_seed
from models.contenders import RULES, NoSettings, fit_rule, settings_of
from models.data import Features, load_features
from models.evaluation import leave_one_out_metrics, rating_metrics
from models.networks import build
from models.scoring import MONITOR, SIGN
from models.settings import DEFAULTS, TrainSettings, changed_fields
from models.training import fit

WARM_UP = 3  # epochs, and trials before any is pruned
TOPS = {"small": (32, 16), "medium": (64, 32), "deep": (64, 32, 16), "wide": (128, 64, 32)}
STARTUP = 8  # trials drawn at random before TPE learns from them

Advance = Callable[[float, str], None]

matplotlib.use("agg")


def suggest(trial: optuna.Trial, protocol: str, name: str, base: Any) -> Any:
    """A trial's settings, drawn from the search space of a model; what is not searched is as in `base`."""
    if name in TRAINED:
        return _suggest_neural(trial, protocol, name, base)
    spaces: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {
        ("leave-one-out", "ease"): lambda: {"l2": trial.suggest_float("l2", 10, 10_000, log=True)},
        ("leave-one-out", "als"): lambda: {
            "factors": trial.suggest_categorical("factors", [16, 32, 64, 128]),
            "regularization": trial.suggest_float("regularization", 1e-3, 100, log=True),
            "alpha": trial.suggest_float("alpha", 0.1, 40, log=True),
            "iterations": trial.suggest_int("iterations", 5, 30),
        },
        ("leave-one-out", "itemknn"): lambda: {
            "neighbours": trial.suggest_int("neighbours", 10, 1000, log=True),
            "weighting": trial.suggest_categorical("weighting", ["cosine", "tfidf", "bm25"]),
            "k1": trial.suggest_float("k1", 0.01, 100, log=True),
            "b": trial.suggest_float("b", 0.0, 1.0),
        },
        (RATING_PROTOCOL, "knn"): lambda: {
            "neighbours": trial.suggest_int("neighbours", 10, 200, log=True),
            "shrinkage": trial.suggest_float("shrinkage", 1, 1000, log=True),
            "by": trial.suggest_categorical("by", ["movie", "user"]),
        },
        (RATING_PROTOCOL, "svd"): lambda: {
            "factors": trial.suggest_int("factors", 2, 100, log=True),
            "shrinkage": trial.suggest_float("shrinkage", 0.5, 50, log=True),
            "scale": trial.suggest_float("scale", 0.1, 1.5),
        },
        (RATING_PROTOCOL, "biases"): lambda: {"shrinkage": trial.suggest_float("shrinkage", 0.5, 50, log=True)},
    }
    return replace(base, **spaces[protocol, name]())


def names_of(protocol: str, wanted: str) -> list[str]:
    """The models that `tune` is asked for: one, or with `all` every one of the protocol that has settings.

    Raises:
        UserError: the protocol has no such model, or there is nothing to tune about it.
    """
    tunable = [*TRAINED, *(name for name, rule in RULES[protocol].items() if rule.settings is not NoSettings)]
    if wanted == "all":
        return tunable
    if wanted not in tunable:
        raise UserError(f"{wanted!r} cannot be tuned for {protocol}; choose one of {', '.join(tunable)}, or all")
    return [wanted]


def _suggest_neural(trial: optuna.Trial, protocol: str, name: str, base: TrainSettings) -> TrainSettings:
    network = replace(
        base.network,
        dim=trial.suggest_categorical("dim", [16, 32, 64, 128] if name == "mf" else [16, 32, 64]),
        init_std=trial.suggest_float("init_std", 0.005, 0.2, log=True),
    )
    if name != "mf":
        top = trial.suggest_categorical("top", list(TOPS))
        network = replace(network, top=TOPS[top], dropout=trial.suggest_float("dropout", 0.0, 0.6))
    if name == "dlrm":
        network = replace(network, history=trial.suggest_categorical("history", [0, 3, 5, 10, 20]))
    changes: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "schedule": trial.suggest_categorical("schedule", ["constant", "cosine"]),
        "l2": trial.suggest_float("l2", 1e-5, 0.1, log=True),
        "weight_decay": 0.0 if name == "mf" else trial.suggest_float("weight_decay", 1e-7, 1e-3, log=True),
        "averaging": trial.suggest_categorical("averaging", [0.99, 0.997, 0.999]),
    }
    if name == "ncf":
        changes["pretraining"] = trial.suggest_categorical("pretraining", [0, 3])
    if protocol == "leave-one-out":
        changes["negatives"] = trial.suggest_categorical("negatives", [2, 4, 8])
        changes["recency"] = trial.suggest_categorical("recency", [0.0, 3.0, 10.0, 30.0, 100.0])
    return replace(base, network=network, **changes)


def as_parameters(protocol: str, name: str, settings: Any) -> dict[str, Any]:
    """The parameters of the search space at which some settings lie, as far as they lie in it."""
    if name not in TRAINED:
        return asdict(settings)
    flat = {**asdict(settings), **asdict(settings.network)}
    flat["top"] = next((key for key, top in TOPS.items() if top == settings.network.top), "medium")
    return flat


def tune(
    run: Run,
    protocol: str,
    name: str,
    trials: int,
    seed: int,
    device: torch.device,
    advance: Advance,
    epochs: int | None = None,
) -> dict[str, Any]:
    """Runs a study up to so many trials and writes `tuning/<protocol>/<model>/`: `best.json` and `importance.png`.

    Args:
        trials: in all, those of earlier calls included.
        epochs: of every trial, at most; None for the default settings'.
        advance: told 1 for each trial, with a note.

    Returns:
        What `best.json` holds: the settings, as they differ from the class's defaults, and the study.

    Raises:
        UserError: no features, or no such model.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    features = load_features(run, protocol)
    rows = len(features.interactions("train"))
    base = settings_of(protocol, name, features.dataset, rows)
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
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # of a study that was killed
        study.tell(trial.number, state=TrialState.FAIL)
    done = len(_finished(study))
    advance(done, f"goes on after trial {done}" if done else "")
    objective = _objective(features, protocol, name, base, seed, device)
    while (done := len(_finished(study))) < trials:
        if not done:
            study.enqueue_trial(as_parameters(protocol, name, base))
        # A sampler for each trial, so that a study that was stopped goes on as if it had not been.
        study.sampler = optuna.samplers.TPESampler(
            seed=epoch_seed(seed, done), multivariate=True, n_startup_trials=STARTUP, warn_independent_sampling=False
        )
        study.optimize(objective, n_trials=1)
        advance(1, _note(study, monitor))
    best = suggest(optuna.trial.FixedTrial(study.best_params), protocol, name, base)  # type: ignore[arg-type]
    found = {
        "settings": changed_fields(best) if isinstance(best, TrainSettings) else asdict(best),
        "study": {
            "metric": monitor,
            "value": study.best_value,
            "trials": len(_finished(study)),
            "pruned": len(study.get_trials(states=(TrialState.PRUNED,))),
            "best_trial": study.best_trial.number,
            "seed": seed,
            "command": f"python -m marquee tune --dataset {features.dataset} --protocol {protocol} --model {name} "
            f"--trials {trials} --seed {seed}" + (f" --epochs {epochs}" if epochs else ""),
            "features": features.fingerprint,
            "versions": {**package_versions(), "optuna": optuna.__version__},
        },
    }
    write_json(folder / "best.json", found)
    draw_importance(
        study, f"{name}, {protocol}, {features.dataset}: what {monitor} depends on", folder / "importance.png"
    )
    return found


def _finished(study: optuna.Study) -> list[Any]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _note(study: optuna.Study, monitor: str) -> str:
    last = study.trials[-1]
    value = "pruned" if last.state == TrialState.PRUNED else f"{monitor} {last.value:.4f}"
    best = f", best {study.best_value:.4f} in trial {study.best_trial.number}" if _complete(study) else ""
    return f"trial {last.number}: {value}{best}"


def _complete(study: optuna.Study) -> bool:
    return bool(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _objective(
    features: Features, protocol: str, name: str, base: Any, seed: int, device: torch.device
) -> Callable[[optuna.Trial], float]:
    """A trial's validation metric."""
    monitor = MONITOR[protocol]

    def neural(trial: optuna.Trial) -> float:
        settings = suggest(trial, protocol, name, base)

        def watch(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        model = build(name, features, settings.network, settings.seed).to(device)
        try:
            history, best = fit(model, features, settings, device, lambda *_: None, watch=watch)
        except UserError as error:  # too high a learning rate is no more than a bad trial
            raise optuna.TrialPruned from error
        trial.set_user_attr("best_epoch", best)
        return float(history[best - 1][monitor])

    def at_once(trial: optuna.Trial) -> float:
        score = fit_rule(name, features, ("train",), suggest(trial, protocol, name, base), seed)
        if protocol == "leave-one-out":
            return leave_one_out_metrics(score, features.candidates("valid")).means()[monitor]
        rows = features.interactions("valid")
        predicted = score(rows.user.long().numpy(), rows.movie.long().numpy())
        return rating_metrics(predicted, rows).means()[monitor]

    return neural if name in TRAINED else at_once


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

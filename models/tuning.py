"""Tuning on validation, with Optuna: what `marquee tune` does for one model of one protocol.

A study lies in the run's folder, in SQLite, and resumes where it was stopped. Trials that are behind the others' median
are pruned (networks report their validation metric after every epoch). The first trial is what `train` would use
without the study, so that a study never ends below it by more than its tolerance. The test set plays no part.

A study may have a budget of seconds: the sum of what its trials took by the wall clock, whatever became of them. No
trial begins once they are used up, and a network's is cut after the first epoch past them, so a study takes at most an
epoch, or one fit of a baseline, more. A trial that was cut is not compared with the others. What was killed is run
again and not counted.
"""

from collections.abc import Callable
from typing import Any

import optuna
import torch

from core.artifacts import fingerprint
from core.errors import UserError
from core.run_folder import Run
from core.stage_code import stage_code
from models import registry
from models.baselines.base import BASELINES
from models.data.features import Features
from models.data.load import load_features, training_rows
from models.evaluation import evaluate
from models.importance import draw_importance
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.search import STARTS, Advance, Search, StudySettings, as_json
from models.studies import ORIGIN, changed_since, open_study, parts_of
from models.training.loop import undefined_in_validation
from models.training.train import training_digest
from models.tuning_space import outside_of, space

START = "start"  # defaults that a study tries too, beside those of the dataset: what earlier studies began with
# What a study is made from, in words.
ORIGIN_WORDS = {
    "features": "data or features",
    "base": "default settings outside of the search space",
    "space": "search space",
    "seed": "seed",
    "epochs": "bound of epochs",
    "code": "code or libraries",
    "device": "device",
    "version": "version of tune",
}


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


def tune(
    run: Run,
    protocol: str,
    name: str,
    search: StudySettings,
    device: torch.device,
    advance: Advance,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Runs a study and writes `tuning/<protocol>/<model>/`: `best.json`, `trials.json` and `importance.png`.

    Args:
        advance: reported the seconds of each trial where they are bounded, else 1, with a note.
        say: given a sentence where a new study begins beside an earlier one.

    Returns:
        What `best.json` holds: the settings, as they differ from the class's defaults, and the study.

    Raises:
        UserError: no features, no such model, validation rows that nothing can be judged by, or no study to go on with.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    features, monitor = load_features(run, protocol), PROTOCOLS[protocol].monitor
    reason = undefined_in_validation(features).get(monitor)
    if reason:
        raise UserError(f"{name} cannot be tuned for {protocol}: validation {monitor} is undefined, as {reason}")
    folder = run.tuning(protocol, name)
    base = registry.default_settings(protocol, name, run.root.name, training_rows(run, protocol)).settings
    origin = _origin(features, name, base, search, device)
    if search.resume:
        _require_study(run, protocol, name, origin)
    elif changed := changed_since(folder, origin):
        say(f"{name}, {protocol}: {_words(changed)} changed since the last study, so a new one begins")
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(folder, PROTOCOLS[protocol], fingerprint(**origin))
    study.set_user_attr(ORIGIN, parts_of(origin))
    starts = _starts(study, run, features, name)
    search_of = Search(study=study, features=features, name=name, base=base, starts=starts, how=search)
    search_of.run(folder, device, advance)
    best = search_of.confirmed(device, advance) if name in NETWORKS else search_of.found()
    search_of.write(folder, best)
    title = f"{name}, {protocol}, {features.dataset}: what {monitor} depends on"
    draw_importance(study, title, folder / "importance.png")
    return best


def require_study(run: Run, protocol: str, name: str, search: StudySettings, device: torch.device) -> None:
    """Fails where there is no study that could go on.

    Raises:
        UserError: there is none, or something changed since.
    """
    features = load_features(run, protocol)
    base = registry.default_settings(protocol, name, run.root.name, training_rows(run, protocol)).settings
    _require_study(run, protocol, name, _origin(features, name, base, search, device))


def _require_study(run: Run, protocol: str, name: str, origin: dict[str, Any]) -> None:
    folder = run.tuning(protocol, name)
    changed = changed_since(folder, origin)
    if changed is None:
        raise UserError(f"{folder} has no study to go on with; run {run.command('tune')} without --resume to begin one")
    if changed:
        raise UserError(
            f"the study in {folder} cannot go on: its {_words(changed)} changed; "
            f"run {run.command('tune')} without --resume to begin a new one"
        )


def _words(changed: list[str]) -> str:
    return ", ".join(ORIGIN_WORDS[name] for name in changed)


def _origin(features: Features, name: str, base: Any, search: StudySettings, device: torch.device) -> dict[str, Any]:
    """What the trials of a study have in common: it goes on only where nothing of that changed."""
    protocol = features.protocol
    if name in NETWORKS:
        code = training_digest(protocol, name)
    else:
        code = stage_code(evaluate.ROOMS, evaluate.LIBRARIES, BASELINES, {protocol: PROTOCOLS[protocol]})
    searched = space(protocol, name)
    return {
        "features": features.fingerprint,
        "base": outside_of(base, searched),  # a study whose best settings were shipped goes on
        "space": repr(searched),
        "seed": search.seed,
        "epochs": search.epochs if name in NETWORKS else None,
        "code": code,
        "device": device.type,
    }


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
        saved = [as_json(one.settings) for one in chosen]
        study.set_user_attr(STARTS, [one for place, one in enumerate(saved) if one not in saved[:place]])
    return [registry.settings_of(protocol, name, one, study.study_name) for one in study.user_attrs[STARTS]]

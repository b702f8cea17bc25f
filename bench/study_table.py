"""The table of studies: what each model's settings were chosen from, by protocol and dataset, in how many seconds."""

from typing import Any

from inputs import ROOT  # noqa: F401  which puts the checkout on Python's path

from models.baselines.base import baselines_of
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from models.registry import tunable
from models.study_files import STUDIES, study_of
from models.training.settings import DEFAULTS, Found, read_defaults

COLUMNS = (
    *("dataset", "question", "model", "trials completed", "pruned", "failed or cut", "seconds", "best on validation"),
    "it was",
)
NOT_KEPT = "not kept"
STARTS_BEFORE = 3  # a study that was not kept may have begun with so many trials of settings that were there


def studies_section(names: dict[str, str]) -> str:
    """The table.

    Args:
        names: datasets, each with what the page calls it.

    Raises:
        UserError: defaults are not of the trial that they name.
    """
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for dataset, title in names.items():
        path = DEFAULTS / f"{dataset}.json"
        for protocol, models in read_defaults(path).items():
            for model in dict.fromkeys((*models, *tunable(protocol))):
                study = study_of(models[model], protocol, model, str(path), STUDIES) if model in models else None
                cells = _cells(
                    models.get(model), None if study is None else study.trial(_trial(models[model]), "").start
                )
                lines.append(
                    f"| {title} | {PROTOCOLS[protocol].name} | {_title(protocol, model)} | {' | '.join(cells)} |"
                )
    return "\n".join(lines)


def _cells(found: Found | None, start: int | None) -> list[str]:
    """What is said of a model's settings.

    Args:
        start: the place of the chosen trial among the starts of a study that is kept.
    """
    study: dict[str, Any] = found.study if found else {}
    if not study.get("trials"):
        return ["none", "-", "-", "-", "-", "chosen by hand" if found else "the class's own, chosen by hand"]
    pruned = study["pruned"]
    others = study["failed"] + study["cut"] if "file" in study else None
    complete = study.get("complete", study["trials"] - pruned)
    seconds = f"{study['seconds']:,.0f}" if "seconds" in study else NOT_KEPT
    value = f"{study['metric'].upper()} {study['value']:.4f}"
    return [
        str(complete),
        str(pruned),
        NOT_KEPT if others is None else str(others),
        seconds,
        value,
        _it_was(study, start),
    ]


def _it_was(study: dict[str, Any], start: int | None) -> str:
    """Whether the trial that was chosen had settings that were there before the study."""
    number = study.get("trial", study.get("best_trial"))
    if "file" in study:
        return f"trial {number}" if start is None else "the start" if start == 0 else "one of the starts"
    if number == 0:
        return "the start"
    return f"trial {number}" + (", perhaps one of the starts" if number < STARTS_BEFORE else "")


def _trial(found: Found) -> int:
    return int(found.study["trial"])


def _title(protocol: str, model: str) -> str:
    return NETWORKS[model].title if model in NETWORKS else baselines_of(protocol)[model].title

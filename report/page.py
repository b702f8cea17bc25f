"""`report.html`: one file that opens without a network, with the figures of `evaluation.json` and the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from core.columns import TIMESTAMP
from models.evaluation.meanings import PROTOCOL_MEANINGS, meaning_of
from models.protocols.base import PROTOCOLS, protocol_groups
from models.registry import compared
from models.training.train import TrainedConfig, read_config
from report.compared import Beside, Judged, counts_of
from report.files import RunFiles
from report.folded import alone, folded, title_of_asked
from report.picture import COMPARISON, DATA, LEARNING
from report.style import capitalised, heading_of, listed, title_of
from report.tables import (
    FiguresTable,
    SettingsTable,
    evaluation_table,
    folded_table,
    paper_table,
    seeds_table,
    settings_table,
)
from report.verdicts import Verdict, verdict_of
from workflows.licences import licence_of

TEMPLATES = Path(__file__).parent / "templates"
# The sections of pictures, in the order of the page: what decides comes first.
SECTIONS = {COMPARISON: "The models compared", LEARNING: "How the networks learned", DATA: "The data"}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture as it stands on the page: its SVG, whether it takes the whole width, and whether it is very high."""

    name: str
    section: str
    title: str
    text: str
    svg: Markup
    is_wide: bool
    is_tall: bool = False
    protocol: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Pictures under one heading.

    Attributes:
        title: of the protocol that they are about; empty for none.
        blocks: the pictures, in parts that follow each other: each fills both columns of the page.
    """

    title: str
    blocks: list[list[Drawn]]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How one protocol asks and judges, in words and numbers."""

    title: str
    meaning: str
    monitor: str
    deciding: str
    counts: list[str]
    meanings: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Everything on the page about one protocol; `seeds` and `settings` are None where there are none."""

    name: str
    asked: Asked
    verdict: Verdict
    table: FiguresTable
    seeds: FiguresTable | None
    seeds_verdict: str
    settings: SettingsTable | None


def page(
    files: RunFiles, pictures: Sequence[Drawn], lacking: Sequence[tuple[str, str]], others: Beside, made_by: str
) -> str:
    """The whole page.

    Args:
        lacking: the titles of pictures that the run has none of, and why.
        others: results that are shown beside the run's own.
        made_by: the program and its version.

    Raises:
        UserError: a file of the run is missing, or is not what it must be.
    """
    run = files.run
    found, published = others.compared.protocols, others.published
    parts = [_part(files, name, found.get(name), published.get(name)) for name in alone(_judged(files))]
    groups = {group: folded(files, group) for group in protocol_groups()}
    configs = [config for one in PROTOCOLS for config in _configs(files, one).values()]
    return _template().render(
        dataset=run.root.name,
        networks=listed(title_of(files.results[0].protocol, name) for name in _compared(files)),
        written=datetime.now(timezone.utc).date().isoformat(),
        made_by=made_by,
        counts=counts_of(run),
        period=_period(files),
        seeds=sorted({one.seed for one in files.results}),
        devices=list(dict.fromkeys(config.device for config in configs)),
        versions={name: version for name, version in files.results[0].versions.items() if version},
        licence=licence_of(run.root.name),
        parts=parts,
        folded={group: folded_table(group, models) for group, models in groups.items() if models},
        compared=others.compared,
        paper=paper_table(others.paper) if others.paper else None,
        sections={name: (title, _groups(pictures, name)) for name, title in SECTIONS.items()},
        lacking=lacking,
        stages=files.results[0].stages or {},
    )


def _groups(pictures: Sequence[Drawn], section: str) -> list[Group]:
    """A section's pictures by protocol, as far as a protocol has several.

    Several very high ones make a block of their own, as they would leave a gap beside the others.
    """
    found: dict[str, list[Drawn]] = {}
    for one in pictures:
        if one.section == section:
            found.setdefault(one.protocol, []).append(one)
    if all(len(of_protocol) == 1 for of_protocol in found.values()):
        found = {"": [one for of_protocol in found.values() for one in of_protocol]} if found else {}
    groups = []
    for protocol, of_protocol in found.items():
        parts = [[one for one in of_protocol if one.is_tall == is_tall] for is_tall in (False, True)]
        blocks = parts if len(parts[1]) > 1 else [[*parts[0], *parts[1]]]
        groups.append(Group(title=title_of_asked(protocol), blocks=[block for block in blocks if block]))
    return groups


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _judged(files: RunFiles) -> list[str]:
    """The protocols that there are results of, in the order of the tables."""
    return [name for name in PROTOCOLS if files.models(name)]


def _compared(files: RunFiles) -> list[str]:
    """The compared networks that are judged by any protocol; all that there are where none is."""
    judged = {one.model for one in files.results}
    return [name for name in compared() if name in judged] or list(compared())


def _part(files: RunFiles, protocol: str, judged: Judged | None, published: Judged | None) -> Part:
    table = evaluation_table(protocol, [one for one in files.results if one.protocol == protocol])
    seeds = seeds_table(protocol, judged) if judged else None
    configs = _configs(files, protocol)
    return Part(
        name=protocol,
        asked=_asked(files, protocol),
        verdict=verdict_of(files, protocol, seeds or table, judged, published),
        table=table,
        seeds=seeds,
        seeds_verdict=judged.verdict if judged else "",
        settings=settings_table(protocol, configs) if configs else None,
    )


def _configs(files: RunFiles, protocol: str) -> dict[str, TrainedConfig]:
    """How the judged networks were trained."""
    run, command = files.run, files.run.command("train")
    trained = [one.model for one in files.results if one.protocol == protocol and one.epochs]
    return {name: read_config(run.model(protocol, name), command) for name in trained}


def _asked(files: RunFiles, protocol: str) -> Asked:
    asked = PROTOCOLS[protocol]
    first = files.result(protocol, files.models(protocol)[0])
    counts = {
        "users asked about": first.test_users,
        "of them among all movies": first.full_catalogue_users,
        "of those with ratings before the test": first.known_users,
        "ratings in the test set": first.test_rows,
    }
    return Asked(
        title=asked.title,
        meaning=PROTOCOL_MEANINGS.get(protocol, ""),
        monitor=heading_of(protocol, asked.monitor),
        deciding=heading_of(protocol, asked.deciding),
        counts=[f"{count:,} {what}" for what, count in counts.items() if count is not None],
        meanings=[
            (capitalised(heading.replace("\n", ", ")), meaning_of(asked.task, metric))
            for heading, metric in asked.columns
        ],
    )


def _period(files: RunFiles) -> tuple[str, str] | None:
    """The days of the first and of the last rating; None where they are in no calendar."""
    times = files.ratings[TIMESTAMP]
    try:
        first, last = (datetime.fromtimestamp(int(time), timezone.utc).date() for time in (times.min(), times.max()))
    except (ValueError, OverflowError, OSError):
        return None
    return first.isoformat(), last.isoformat()

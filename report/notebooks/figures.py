"""The figures of `evaluation.json` and what they allow to say, as tables and words."""

import pandas as pd

from models.evaluation.meanings import PROTOCOL_MEANINGS
from models.evaluation.paired import sureness
from models.protocols.base import PROTOCOLS
from report.compared import compared_in, counts_of, published_for
from report.files import RunFiles
from report.judged import part_of
from report.pictures.intervals import corrected_pairs
from report.pictures.slices import sliced_models
from report.style import capitalised, heading_of, listed, title_of
from report.tables import Cell, evaluation_table, seeds_table
from report.verdicts import verdict_of


def about(files: RunFiles) -> str:
    """The dataset, the seed and the versions that the figures are of, in a sentence."""
    counts = counts_of(files.run)
    sizes = listed(f"{count:,} {name}" for name, count in counts.items())
    seeds = listed(sorted({str(result.seed) for result in files.results}))
    versions = listed(f"{name} {version}" for name, version in files.results[0].versions.items() if version)
    return f"**{files.run.root.name}**: {sizes}; seed {seeds}; {versions}."


def question_of(protocol: str) -> str:
    """What a protocol asks and how it judges."""
    return PROTOCOL_MEANINGS.get(protocol, PROTOCOLS[protocol].title)


def figures_table(files: RunFiles, protocol: str) -> pd.DataFrame:
    """Every judged model's metrics with their 95 % intervals, over users, and seconds of training; the best are marked.

    Raises:
        UserError: `evaluation.json` is missing, or has nothing of the protocol.
    """
    table = evaluation_table(protocol, [one for one in files.results if one.protocol == protocol])
    rows = {
        row.title: [*map(_figure, row.cells), "none" if row.seconds is None else f"{row.seconds:,.0f} s"]
        for row in table.rows
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*table.headings, "Training"])


def verdict_text(files: RunFiles, protocol: str) -> str:
    """Which network is better by a protocol, computed from the figures, and what that rests on, in Markdown.

    From several training seeds where `compare` has them; else from one, with what the project publishes of the same
    data beside it. Where the protocol has judged no model, how it can.

    Raises:
        UserError: `evaluation.json` or what `evaluate` keeps is missing.
    """
    if not files.models(protocol):
        train = files.run.command(f"train --protocol {protocol}")
        return f"No model is judged by {protocol}; run: `{train}`, then `{files.run.command('evaluate')}`."
    judged = compared_in(files.run).protocols.get(protocol)
    published = published_for(files.run).get(protocol)
    results = [one for one in files.results if one.protocol == protocol]
    table = seeds_table(protocol, judged) if judged else evaluation_table(protocol, results)
    found = verdict_of(files, protocol, table, judged, published)
    several = f" `{found.command}` tests several." if found.command else ""
    said = f"> **{found.sentence}**\n>\n> {found.basis}{several}"
    beside = "Published with Marquee for the same data, from other networks:"
    return f"{said}\n>\n> {beside} {found.published}" if found.published else said


def pairs_table(files: RunFiles, protocol: str) -> pd.DataFrame:
    """Every two of the compared networks and of the best other model, by the metric that decides.

    The difference is the first model's metric minus the second's, with its 95 % interval over users; p is corrected for
    the number of pairs (Holm, 1979). It is of the run's one training seed and one split, so nothing in it is certain.

    Raises:
        UserError: `evaluation.json` or what `evaluate` keeps is missing.
    """
    asked = PROTOCOLS[protocol]
    models = sliced_models(files, protocol, part_of(protocol))
    sign = asked.metric(asked.deciding).sign
    rows = {}
    for (one, other), found in corrected_pairs(files, protocol, models).items():
        name = f"{title_of(protocol, one)} \u2212 {title_of(protocol, other)}"
        if found is None:
            rows[name] = ["undefined", "", ""]
            continue
        sure = sureness(found.p_value, splits=1)
        better = title_of(protocol, one if sign * found.value > 0 else other)
        is_told = sure is not None and (found.low > 0 or found.high < 0)
        p = "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.2g}"
        difference = f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        rows[name] = [difference, p, f"{better}, {sure}" if is_told else "cannot be told"]
    heading = capitalised(heading_of(protocol, asked.deciding))
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"{heading}: difference", "p, corrected", "Better"])


def _figure(cell: Cell) -> str:
    """`0.734 (0.706 to 0.761)`, with a star where no model has a better one."""
    if cell.value is None:
        return "-"
    between = "" if cell.low is None or cell.high is None else f" ({cell.low:.3f} to {cell.high:.3f})"
    return f"{cell.value:.3f}{between}{' ★' if cell.is_best else ''}"

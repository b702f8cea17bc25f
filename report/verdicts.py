"""Which model is better, in words that are computed from the figures, for each protocol."""

import re
from dataclasses import dataclass

from models.protocols.base import PROTOCOLS
from report.compared import Judged
from report.files import RunFiles
from report.judged import compared_among, part_of
from report.pictures.intervals import verdicts_of
from report.style import color_of, heading_of
from report.tables import Cell, FiguresTable

END_OF_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z])")


@dataclass(frozen=True, kw_only=True)
class NetworkFigure:
    """A network's deciding metric, and its colour in the pictures."""

    title: str
    color: str
    cell: Cell


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What can be said of the networks by one protocol.

    Attributes:
        title: the protocol's.
        metric: which decides.
        figures: of each network that is compared.
        sentence: which network is better, or that it cannot be told.
        basis: what that rests on.
        command: what would tell more; empty where it was run.
        published: what the project's own published results say, where they are of the same data and the run has no
            result of several seeds.
    """

    title: str
    metric: str
    figures: list[NetworkFigure]
    sentence: str
    basis: str
    command: str = ""
    published: str = ""

    @property
    def sentences(self) -> list[str]:
        """The sentence of each pair, where there are several."""
        return END_OF_SENTENCE.split(self.sentence)


def verdict_of(
    files: RunFiles, protocol: str, table: FiguresTable, judged: Judged | None, published: Judged | None
) -> Verdict:
    """The verdict from several training seeds where `compare` has them, else from the one that the run has.

    Args:
        table: the protocol's figures, of these seeds or of the one.
        judged: what `compare` found by this protocol.
        published: the same as the project publishes it.
    """
    asked = PROTOCOLS[protocol]
    place = [name for _, name in asked.columns].index(asked.deciding)
    sentence, basis = _of_several_seeds(judged) if judged else _of_one_seed(files, protocol)
    return Verdict(
        title=asked.title,
        metric=heading_of(protocol, asked.deciding),
        figures=[
            NetworkFigure(title=row.title, color=color_of(row.name), cell=row.cells[place])
            for row in table.rows
            if row.is_compared
        ],
        sentence=sentence,
        basis=basis,
        command="" if judged else files.run.command("compare"),
        published=published.verdict if published and not judged else "",
    )


def _of_several_seeds(judged: Judged) -> tuple[str, str]:
    count = len(judged.seeds)
    seeds = f"{count} training seeds, {judged.seeds[0]} to {judged.seeds[-1]}" if count > 1 else "one training seed"
    splits = f" on each of {len(judged.splits)} random splits" if judged.splits and len(judged.splits) > 1 else ""
    return (
        judged.verdict,
        f"From {seeds}{splits}: means over them, and a paired test over users{' and splits' * bool(splits)}.",
    )


def _of_one_seed(files: RunFiles, protocol: str) -> tuple[str, str]:
    """What can be said of the networks that the run has, and what it rests on."""
    networks = compared_among(files.models(protocol))
    if len(networks) < 2:
        return "One network is judged, so there is nothing to compare it with.", ""
    results = [files.result(protocol, name) for name in networks]
    seeds = ", ".join(str(seed) for seed in sorted({result.seed for result in results}))
    asked, kept = results[0].test_rows, len(files.kept(protocol, networks[0], part_of(protocol)))
    some = f" on {kept:,} of the {asked:,} test ratings" if asked not in (None, kept) else ""
    basis = (
        f"From one training seed each ({seeds}): a paired test over users{some}, which does not cover training. "
        "Another seed gives the networks other figures."
    )
    return " ".join(verdicts_of(files, protocol, networks)), basis

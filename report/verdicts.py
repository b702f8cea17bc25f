"""Which network is better, in words that are computed from the figures, for each protocol."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from core.columns import LABEL, USER_ID
from models.evaluation.metrics.base import Metric, Ranking, columns_of
from models.evaluation.paired import Difference, paired_difference, paired_row_difference, verdict
from models.protocols.base import PROTOCOLS
from models.registry import compared
from report.compared import Judged
from report.files import ROWS, SAMPLED, RunFiles
from report.style import color_of, title_of
from report.tables import Cell, FiguresTable


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

    protocol: str
    title: str
    metric: str
    figures: list[NetworkFigure]
    sentence: str
    basis: str
    command: str = ""
    published: str = ""


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
    place = [name for _, name in columns_of(asked.task)].index(asked.deciding)
    sentence, basis = _of_several_seeds(judged) if judged else _of_one_seed(files, protocol)
    return Verdict(
        protocol=protocol,
        title=asked.title,
        metric=asked.metrics[asked.deciding].title,
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
    return judged.verdict, f"From {seeds}: means over them, and a paired test over users."


def _of_one_seed(files: RunFiles, protocol: str) -> tuple[str, str]:
    """What can be said of the networks that the run has, and what it rests on."""
    networks = [name for name in compared() if name in files.models(protocol)]
    if len(networks) < 2:
        return "One network is judged, so there is nothing to compare it with.", ""
    seeds = sorted({files.result(protocol, name).seed for name in networks})
    sentences = [_pair(files, protocol, one, other, seeds[0]) for one, other in combinations(networks, 2)]
    basis = (
        f"From one training seed each ({', '.join(map(str, seeds))}): a paired test over users, which does not cover "
        "training. Another seed gives the networks other figures."
    )
    return " ".join(sentences), basis


def _pair(files: RunFiles, protocol: str, one: str, other: str, seed: int) -> str:
    asked = PROTOCOLS[protocol]
    metric = asked.metrics[asked.deciding]
    titles = title_of(protocol, one), title_of(protocol, other)
    for name in (one, other):
        result = files.result(protocol, name)
        if result.metrics[asked.deciding] is None or result.ci95[asked.deciding] is None:
            reasons = result.undefined or {}
            reason = reasons.get(asked.deciding) or reasons.get("ci95", "")
            return f"{titles[0]} and {titles[1]} cannot be compared by {metric.title}: {reason}."
    of_users = metric.per_user is not None
    difference = (_of_users if of_users else _of_rows)(files, protocol, metric, (one, other), seed)
    return verdict(*titles, metric.title, difference, metric.higher_is_better)


def _of_users(files: RunFiles, protocol: str, metric: Metric, pair: tuple[str, str], seed: int) -> Difference:
    values = []
    for name in pair:
        kept = files.kept(protocol, name, SAMPLED)
        nothing = np.zeros((len(kept), 0))
        rank = kept["rank"].to_numpy().astype(np.int64)
        assert metric.per_user is not None
        values.append(metric.per_user(Ranking(rank, np.zeros(len(kept)), nothing, nothing.astype(bool))))
    return paired_difference(values[0], values[1], seed)


def _of_rows(files: RunFiles, protocol: str, metric: Metric, pair: tuple[str, str], seed: int) -> Difference:
    statistics = []
    for name in pair:
        kept = files.kept(protocol, name, ROWS)
        assert metric.per_row is not None
        statistics.append([metric.per_row(kept[LABEL].to_numpy(), kept["score"].to_numpy())])
    owner = np.unique(kept[USER_ID].to_numpy(), return_inverse=True)[1]
    return paired_row_difference(statistics[0], statistics[1], owner, seed)

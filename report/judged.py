"""What a run's files say about judged models, as the pictures of the comparison ask: pictures are made per protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import numpy as np
from matplotlib.figure import Figure

from core.errors import UserError
from models import registry
from models.evaluation.judgement import Judgement, PerUser, judge_rows
from models.evaluation.kept import FULL_CATALOGUE, LISTS, ROWS, SAMPLED
from models.evaluation.metrics.base import FULL, KNOWN
from models.evaluation.results import Result
from models.protocols.base import PROTOCOLS
from report.calculations.groups import dense
from report.calculations.ranks import per_user
from report.files import RunFiles
from report.picture import COMPARISON, Picture, add

RANKING, CLASSIFICATION = "ranking", "classification"  # tasks of protocols
REMEMBERED = 64  # judgements: a few runs' models
Drawn = Callable[[RunFiles, str], Figure]
Said = Callable[[RunFiles, str], str]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of picture of which every protocol has one.

    Attributes:
        name, title: before the protocol's name.
        draw, text: of a run's files and a protocol.
        lacking: why a run has no such picture for a protocol; empty where it has one.
        task: of the protocols that have one; empty for all.
    """

    name: str
    title: str
    draw: Drawn
    text: Said
    lacking: Said
    task: str = ""


def add_for_each_protocol(kind: Kind, place: int) -> None:
    """Registers a kind's pictures. Protocols of a group have none of their own: see `report/pictures/groups.py`.

    Args:
        place: among the pictures of a protocol, below 100. Those of a protocol follow each other.
    """
    for number, (name, protocol) in enumerate(PROTOCOLS.items(), start=1):
        if kind.task in ("", protocol.task) and not protocol.group:
            picture = Picture(
                name=f"{kind.name}-{name}",
                section=COMPARISON,
                title=f"{kind.title}, {name}",
                protocol=name,
                draw=partial(_drawn, kind.draw, name),
                text=partial(_said, kind.text, name),
                lacking=partial(_said, kind.lacking, name),
            )
            add(picture, position=1_000 * number + place)


def _drawn(draw: Drawn, protocol: str, files: RunFiles) -> Figure:
    return draw(files, protocol)


def _said(text: Said, protocol: str, files: RunFiles) -> str:
    return text(files, protocol)


# -- which models ------------------------------------------------------------------------------------------------------


def results_of(files: RunFiles, protocol: str) -> list[Result]:
    """A protocol's results, in the order of the tables."""
    return [result for result in files.results if result.protocol == protocol]


def models_with(files: RunFiles, protocol: str, part: str) -> list[str]:
    """The judged models of which a part was kept, in the order of the tables."""
    folders = {model: files.run.kept(protocol, model) for model in files.models(protocol)}
    return [model for model, folder in folders.items() if (folder / f"{part}.parquet").is_file()]


def compared_among(models: Sequence[str]) -> list[str]:
    """The networks that the comparison is about, as far as they are among these."""
    return [name for name in registry.compared() if name in models]


def better_first(files: RunFiles, protocol: str, models: Sequence[str]) -> list[str]:
    """Models from the best to the worst by the protocol's deciding metric; those without a value last."""
    asked = PROTOCOLS[protocol]
    sign = asked.metric(asked.deciding).sign

    def key(model: str) -> float:
        value = files.result(protocol, model).metrics.get(asked.deciding)
        return np.inf if value is None else -sign * value

    return sorted(models, key=key)


def gives_probabilities(files: RunFiles, protocol: str, model: str) -> bool:
    """Whether a model's scores are probabilities: whether it was judged by a metric that needs them."""
    metrics = files.result(protocol, model).metrics
    return any(one.needs_probability and name in metrics for name, one in PROTOCOLS[protocol].metrics.items())


# -- why there is none -------------------------------------------------------------------------------------------------


def without_results(files: RunFiles, protocol: str) -> str:
    """Says so where no model is judged by a protocol; else empty."""
    if results_of(files, protocol):
        return ""
    return f"No model is judged by {protocol}; run: {files.run.command(f'train --protocol {protocol}')}, then evaluate."


def without_kept(files: RunFiles, protocol: str, part: str, networks: int = 0) -> str:
    """Says so where a part is kept of no model, or of fewer compared networks than needed; else empty.

    Raises:
        UserError: what is kept is stale, see `RunFiles.check_kept`; or networks are needed, and the models were asked
            about different users or movies.
    """
    if reason := without_results(files, protocol):
        return reason
    models = models_with(files, protocol, part)
    if not models:
        path = files.run.kept(protocol, files.models(protocol)[0]) / f"{part}.parquet"
        return f"{path} is missing; run: {files.run.command('evaluate')}."
    files.check_kept()
    if len(compared_among(models)) < networks:
        return f"This takes {networks} of {', '.join(registry.compared())} judged by {protocol}, which are not there."
    if networks:
        refuse_other_questions(files, protocol, part, tuple(models))
    return ""


# -- what they were judged by ------------------------------------------------------------------------------------------


def part_of(protocol: str) -> str:
    """The kept part that a protocol's deciding metric is of."""
    if PROTOCOLS[protocol].task != RANKING:
        return ROWS
    return FULL_CATALOGUE if PROTOCOLS[protocol].deciding.startswith(FULL) else SAMPLED


@lru_cache(maxsize=REMEMBERED)
def judgement(files: RunFiles, protocol: str, model: str, part: str) -> Judgement:
    """A model's metrics of each user or row, from what was kept: their means are those of `evaluation.json`.

    Of rows there may be fewer: at most a million are kept.

    Args:
        part: `sampled`, `full` or `rows`.
    """
    table = files.kept(protocol, model, part)
    asked = PROTOCOLS[protocol]
    if part == ROWS:
        label, score = (table[name].to_numpy(np.float64) for name in ("label", "score"))
        known = gives_probabilities(files, protocol, model)
        return judge_rows(asked.task, label, score, dense(table["user_id"].to_numpy()), known)
    ranks = ranks_of(files, protocol, model, part)
    if part == FULL_CATALOGUE:
        chosen = {FULL + name: one for name, one in asked.metrics.items() if one.full_catalogue}
    else:
        chosen = dict(asked.metrics)
    return PerUser({name: per_user(metric, *ranks) for name, metric in chosen.items()})


def known_judgement(files: RunFiles, protocol: str, model: str) -> PerUser | None:
    """A model's metrics over all movies of the people who had rated before the test; None where that was not asked."""
    known = files.kept(protocol, model, FULL_CATALOGUE).get("known")
    whole = judgement(files, protocol, model, FULL_CATALOGUE)
    if known is None or not isinstance(whole, PerUser):
        return None
    return PerUser({KNOWN + name: values[known.to_numpy(bool)] for name, values in whole.values.items()})


def ranks_of(files: RunFiles, protocol: str, model: str, part: str) -> list[np.ndarray]:
    """`rank`, `ties` and `others` of each user, int64 [users] each."""
    table = files.kept(protocol, model, part)
    return [table[name].to_numpy(np.int64) for name in ("rank", "ties", "others")]


@cache
def refuse_other_questions(files: RunFiles, protocol: str, part: str, models: tuple[str, ...]) -> None:
    """Models are compared on what both were asked.

    Raises:
        UserError: the kept files are of different users or movies.
    """
    asked = ("user_id",) if part == LISTS else ("user_id", "movie_id")  # the movies of lists are the models' own
    first = files.kept(protocol, models[0], part)
    for model in models[1:]:
        table = files.kept(protocol, model, part)
        if not all(np.array_equal(table[name], first[name]) for name in asked):
            one, other = (files.run.kept(protocol, name) / f"{part}.parquet" for name in (models[0], model))
            raise UserError(f"{one} and {other} are of different users or movies; run: {files.run.command('evaluate')}")

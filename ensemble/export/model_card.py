"""The model card that travels with a version: what it was made of, how good it is, and what it cannot do.

Every figure is from the run's own files: the tables, the networks' `config.json` and `evaluation.json`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone

import pyarrow.parquet as pq

from core.artifacts import MANIFEST, read_manifest
from core.columns import TIMESTAMP
from core.constants import CANDIDATE_NEGATIVES
from core.run_folder import Run
from ensemble.triton_models.limits import LARGEST_BATCH, LARGEST_HISTORY, LARGEST_K
from models.evaluation.metrics.base import FULL
from models.evaluation.metrics.ranking import how_many
from models.evaluation.results import Result, judged_models, model_digest, read_results
from models.protocols.base import PROTOCOLS
from models.training.train import TrainedConfig, read_config
from workflows.licences import licence_of
from workflows.sources.datasets import DATASETS
from workflows.sources.table_columns import remembered

TABLES = ("ratings", "users", "movies")
NOT_EVALUATED = "not evaluated"
WHAT_IT_ANSWERS = f"""\
- `score`: how likely a user is to choose each of given movies, a number from 0 to 1, at most {LARGEST_BATCH:,} pairs in
  one request. `known` is false where the user or the movie was not in the training data: an id that is in no table
  is scored as an average one, a movie without ratings by its features.
- `recommend`: the best `k` movies for a user, 1 to {LARGEST_K:,}, without those that the user has rated; or for
  somebody who names up to {LARGEST_HISTORY:,} movies that they like. `known` is false where nothing is known of the
  person: then the answer is the most rated movies, and each score is the share of users that rated the movie.
- `similar`: the movies most like one, 1 to {LARGEST_K:,}, with a cosine similarity. It is not a probability."""
LIMITS = """\
- Cold start: somebody without ratings gets the most rated movies, or what a short list of movies says of them. A movie
  without ratings is placed by its genres and year alone. New ratings change nothing until the networks are trained
  again.
- Popularity bias: the networks learn from what people chose to rate, and are judged by it. Movies that many have
  rated are recommended more often than they deserve, and what few have seen is judged on few ratings.
- Whose taste: these are the ratings of the people of this dataset in its time, not of everybody.
- The intervals cover the choice of users, not training: another seed gives other figures."""
SAMPLED = """\
- Sampled metrics: a held-out movie is ranked among {others} others that its user has not rated. Such figures are higher
  than those over all movies, and can put models in another order (Krichene and Rendle, 2020). Figures marked "all
  movies" are over the whole catalogue."""


def model_card(run: Run, protocol: str, sealed: Mapping[str, Mapping[str, str]], default: str) -> str:
    """The card of the networks of a protocol, in Markdown. It says the same as long as the files say the same.

    Args:
        sealed: the served networks, each with the SHA-256 of its files.
        default: the one that answers where a request names none.

    Raises:
        UserError: a file of the run is missing, or is not what it must be.
    """
    results = evaluated(run, protocol, sealed)
    configs = {name: read_config(run.model(protocol, name), run.command("train")) for name in sealed}
    parts = {
        f"Model card: {run.root.name}, {protocol}": (
            f"{_listed(sealed)}, trained with Marquee. Where a request names no network, {default} answers."
        ),
        "What it answers": WHAT_IT_ANSWERS,
        "Data and licence": _data(run),
        "How it is judged": _judged(protocol, list(sealed), results),
        "Training": "\n\n".join(_training(name, config) for name, config in configs.items()),
        "Limits": _limits(results),
    }
    sections = [f"{'#' if place == 0 else '##'} {title}\n\n{text}" for place, (title, text) in enumerate(parts.items())]
    return "\n\n".join(sections) + "\n"


def evaluated(run: Run, protocol: str, sealed: Mapping[str, Mapping[str, str]]) -> list[Result]:
    """What `evaluation.json` says of these very networks, and of what was judged beside them; nothing of others.

    Raises:
        UserError: the file is not a list of results.
    """
    judged = judged_models(run)
    if not any(judged.get(f"{protocol}/{name}") == model_digest(files) for name, files in sealed.items()):
        return []

    def is_current(name: str) -> bool:
        """Whether a result is of the network that is there now; a baseline is none."""
        digest = judged.get(f"{protocol}/{name}")
        folder = run.model(protocol, name)
        return digest is None or (
            (folder / MANIFEST).is_file() and digest == model_digest(read_manifest(folder)["files"])
        )

    return [result for result in read_results(run) if result.protocol == protocol and is_current(result.model)]


def _data(run: Run) -> str:
    rows = {name: pq.ParquetFile(run.tables / f"{name}.parquet").metadata for name in TABLES}
    counts = [f"{found.num_rows:,} {name}" for name, found in rows.items()]
    name = run.root.name
    sources = [source.address for source in DATASETS[name].sources[:1]] if name in DATASETS else []
    where = f" ({sources[0]})" if sources else ""
    table = remembered(run.tables)
    period = _period(rows["ratings"]) if table is None or table[1].time else ""
    return (
        f"{name}{where}: {', '.join(counts[:-1])} and {counts[-1]}{period}.\n\n{licence_of(name)}\n\n"
        "This repository holds data that is derived from the dataset: the movies' titles, and which movies each user "
        "has rated. It may be deployed to answer requests; do not publish it or pass it on unless those terms or "
        "their owner allow it."
    )


def _period(ratings: pq.FileMetaData) -> str:
    """From when to when people rated, as far as the file's statistics say it."""
    column = ratings.schema.to_arrow_schema().get_field_index(TIMESTAMP)
    found = [ratings.row_group(group).column(column).statistics for group in range(ratings.num_row_groups)]
    if not found or any(one is None or not one.has_min_max for one in found):
        return ""
    ends = min(one.min for one in found), max(one.max for one in found)
    try:
        first, last = (datetime.fromtimestamp(end, timezone.utc).date().isoformat() for end in ends)
    except (ValueError, OverflowError, OSError):  # beyond the calendar
        return ""
    return f", of {first} to {last}"


def _judged(protocol: str, networks: Sequence[str], results: Sequence[Result]) -> str:
    """The protocol, and a table of its metrics."""
    about = PROTOCOLS[protocol]
    others = next((result.others for result in results if result.others), None)
    columns = [(", ".join(title.split("\n")), name) for title, name in about.columns]
    found = {result.model: result for result in results}
    rows = [_row(name, found.get(name), [metric for _, metric in columns]) for name in (*networks, *found)]
    lines = [
        _cells(["model", *(title for title, _ in columns)]),
        _cells(["---"] * (len(columns) + 1)),
        *dict.fromkeys(rows),
    ]
    text = f"{about.heading(others)}\n\nTest set; in brackets the 95 % interval over users.\n\n" + "\n".join(lines)
    return "\n\n".join([text, *_notes(results)])


def _row(name: str, result: Result | None, metrics: Sequence[str]) -> str:
    if result is None:
        return _cells([name, NOT_EVALUATED, *[""] * (len(metrics) - 1)])
    return _cells([name, *(_figure(result, metric) for metric in metrics)])


def _figure(result: Result, metric: str) -> str:
    value, pair = result.metrics.get(metric), result.ci95.get(metric)
    if value is None:
        return "-"
    return f"{value:.4f} ({pair[0]:.4f} to {pair[1]:.4f})" if pair else f"{value:.4f}"


def _notes(results: Sequence[Result]) -> list[str]:
    """Why figures are missing, and who was left out."""
    counts = ("test_users", "full_catalogue_users", "test_rows")
    first = asdict(results[0]) if results else {}
    asked = [f"{first[name]:,} {name.replace('_', ' ')}" for name in counts if first.get(name) is not None]
    reasons = {f"{name}: {reason}" for result in results for name, reason in (result.undefined or {}).items()}
    left = {f"{name}: {count:,}" for result in results for name, count in (result.left_out or {}).items()}
    lines = [f"Asked about {', '.join(asked)}."] if asked else []
    lines += [f"Undefined: {'; '.join(sorted(reasons))}."] if reasons else []
    return lines + ([f"Left out, as they have too few unseen movies: {'; '.join(sorted(left))}."] if left else [])


def _training(name: str, config: TrainedConfig) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in config.versions.items())
    settings = json.dumps(config.settings, indent=2, sort_keys=True)
    return (
        f"**{name}**: seed {config.seed}, {config.weights:,} weights, best epoch {config.best_epoch} of "
        f"{config.epochs} by {config.monitor} on the validation rows, trained on {_listed(config.trained_on)} in "
        f"{config.train_seconds:,.0f} s (on {config.device}; threads: {config.threads}).\n\nPackages: {versions}.\n\n"
        f"```json\n{settings}\n```"
    )


def _limits(results: Sequence[Result]) -> str:
    if not any(name.startswith(FULL) for result in results for name in result.metrics):
        return LIMITS
    others = next((result.others for result in results if result.others), (CANDIDATE_NEGATIVES,) * 2)
    return f"{LIMITS}\n{SAMPLED.format(others=how_many(others))}"


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(names)


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

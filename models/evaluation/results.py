"""`evaluation.json`. Imports neither Merlin nor PyTorch, so that it answers at once."""

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path

from pydantic.dataclasses import dataclass

from core.artifacts import fingerprint, sha256
from core.errors import UserError
from core.json_files import STRICT, read_json, validated, write_json
from core.run_folder import Run


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Slice:
    """The metrics of some of the judged users or rows.

    Attributes:
        name: `new`, or the range of the number of training ratings, such as `12–57`.
        count: how many users or rows there are.
        metrics: each metric by its name; None where it is undefined for them.
    """

    name: str
    count: int
    metrics: dict[str, float | None]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Estimate:
    """A value with its 95 % interval; None for both ends where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Result:
    """One entry of `evaluation.json`: a model, judged by a protocol.

    Attributes:
        metrics: each metric by its name; None where it is undefined.
        ci95: the 95 % interval of each, low and high; None where there is none.
        undefined: why a metric is None, by its name, and under `ci95` why metrics that have a value have no interval.
        epochs, train_seconds, samples_per_second: of the training; 0 for a baseline.
        test_users, full_catalogue_users, test_rows: how many were asked about.
        known_users: how many of the full catalogue's users have a rating before the test; None where that is not asked.
        left_out: how many more users there were, under the name of the count that they are left out of: they have fewer
            than 10 unseen movies, among which any movie is one of the first 10.
        others: the fewest and the most unseen movies that a held-out movie is ranked among; None where that is not
            asked.
        slices: the metrics by `movie_popularity` and by `user_activity`, both in training ratings: of the users who are
            ranked over all movies, or of the test rows. New movies are a slice of the first, where there are any.
        coverage: `coverage@10`, the share of the catalogue in the ten best movies of the `full_catalogue_users`; None
            where no lists are made.
        stages: what each stage of the run took, in `seconds` and `peak_mb`.
    """

    model: str
    protocol: str
    metrics: dict[str, float | None]
    ci95: dict[str, tuple[float, float] | None]
    seed: int
    epochs: int
    train_seconds: float
    samples_per_second: int
    test_users: int | None = None
    full_catalogue_users: int | None = None
    known_users: int | None = None
    test_rows: int | None = None
    undefined: dict[str, str] | None = None
    left_out: dict[str, int] | None = None
    others: tuple[int, int] | None = None
    slices: dict[str, list[Slice]] | None = None
    coverage: dict[str, Estimate] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] | None = None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Stamp:
    """What `evaluation.json` was made from, and the SHA-256 of the file as it was written.

    Attributes:
        models: the `model_digest` of each trained network that was judged, by protocol/name.
    """

    fingerprint: str
    sha256: str
    models: dict[str, str] = field(default_factory=dict)


def read_results(run: Run) -> list[Result]:
    """The results in `evaluation.json`.

    Raises:
        UserError: it is missing, or is not a list of results; the message names the key that is wrong.
    """
    command = run.command("evaluate")
    results = validated(list[Result], read_json(run.evaluation, command), str(run.evaluation), command)
    for place, result in enumerate(results):
        for name in sorted(result.metrics.keys() ^ result.ci95.keys()):
            lacking = "ci95" if name in result.metrics else "metrics"
            raise UserError(
                f"{run.evaluation}: {place}.{lacking}.{name} is missing: every metric has an interval, and every "
                f"interval a metric; delete the file and run: {command}"
            )
        reasons = result.undefined or {}
        for name, value in result.metrics.items():
            lacking = "metrics" if value is None else "ci95" if result.ci95[name] is None else ""
            if lacking and not {name, lacking} & reasons.keys():
                raise UserError(
                    f"{run.evaluation}: {place}.{lacking}.{name} is null, and undefined gives no reason; "
                    f"delete the file and run: {command}"
                )
    return results


def write_results(run: Run, results: list[Result], made_from: str, models: Mapping[str, str] = {}) -> None:
    """Writes `evaluation.json`, and beside it what it was made from.

    Args:
        models: the `model_digest` of each trained network that was judged, by protocol/name.
    """
    entries = [{key: value for key, value in asdict(result).items() if value is not None} for result in results]
    write_json(run.evaluation, entries)
    stamp = Stamp(fingerprint=made_from, sha256=sha256(run.evaluation), models=dict(models))
    write_json(_stamp(run), asdict(stamp))


def model_digest(files: Mapping[str, str]) -> str:
    """Stands for a trained network.

    Args:
        files: the SHA-256 of each of its files, as its manifest has them.
    """
    return fingerprint(files=files)


def made_from(run: Run) -> str | None:
    """The fingerprint of what `evaluation.json` was made from; None where it is not there, or was changed since."""
    stamp = _read_stamp(run)
    return stamp.fingerprint if stamp else None


def judged_models(run: Run) -> dict[str, str]:
    """The `model_digest` of each trained network that `evaluation.json` is about, by protocol/name."""
    stamp = _read_stamp(run)
    return stamp.models if stamp else {}


def add_stages(run: Run, stages: dict[str, dict[str, float]]) -> None:
    """Puts each stage's `seconds` and `peak_mb` into every result."""
    stamp = _read_stamp(run)
    if stamp is not None:
        before = read_results(run)
        results = [replace(result, stages=stages) for result in before]
        if results != before:
            write_results(run, results, stamp.fingerprint, stamp.models)


def _read_stamp(run: Run) -> Stamp | None:
    """What `evaluation.json` was made from; None where it is not there, or was changed since."""
    if not run.evaluation.is_file() or not _stamp(run).is_file():
        return None
    try:
        stamp = validated(Stamp, read_json(_stamp(run)), str(_stamp(run)))
    except UserError:  # of another version, or cut off: the results are made again
        return None
    return stamp if stamp.sha256 == sha256(run.evaluation) else None


def _stamp(run: Run) -> Path:
    return run.root / ".evaluation-stamp.json"

"""A release that is switched under load: clients go on asking while a new version is exported, tested and served."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from core.errors import UserError
from ensemble.client import Client
from report.notebooks.latency import milliseconds_axis
from report.style import BLUE, GREY, ORANGE, VERMILION, figure, listed, styled

CLIENTS = 4
PAUSE = 0.02  # seconds of a client between two questions
BEFORE, AFTER = 3.0, 5.0  # seconds of load before the export, and after the first answer of the new version
LONGEST = 1200.0  # seconds
VERSION_COLORS, VERSION_MARKERS = (BLUE, ORANGE), ("o", "^")


@dataclass(frozen=True)
class Switched:
    """What clients saw.

    Attributes:
        requests: `seconds` since the beginning, `ms`, and the `version` that answered, 0 where the request failed.
        exported: seconds at which the export began and ended.
        errors: what failed requests were told.
    """

    requests: pd.DataFrame
    exported: tuple[float, float]
    errors: list[str]

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return int((self.requests["version"] == 0).sum())


def switch_under_load(url: str, users: Sequence[int], export: Callable[[], None]) -> Switched:
    """Clients ask for recommendations without a pause for a release: until some seconds after a new version answers.

    Args:
        url: `host:port` of the server's gRPC.
        users: raw ids that are asked about, in turn.
        export: adds a version to the repository that is served.

    Raises:
        UserError: the export failed, or no new version has answered after `LONGEST` seconds.
    """
    rows: list[tuple[float, float, int]] = []
    errors: list[str] = []
    stopped = threading.Event()
    began = time.perf_counter()

    def now() -> float:
        return time.perf_counter() - began

    def ask(first: int) -> None:
        with Client(url, wait=30.0) as client:
            for number in range(first, 1 << 30, CLIENTS):
                if stopped.wait(PAUSE):
                    return
                start = now()
                version = 0
                try:
                    version = client.recommend(users[number % len(users)]).version
                except UserError as error:
                    errors.append(str(error))
                rows.append((start, (now() - start) * 1000, version))

    clients = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(CLIENTS)]
    for one in clients:
        one.start()
    try:
        time.sleep(BEFORE)
        exporting = now()
        export()
        exported = now()
        _wait_for_another_version(rows, now)
        time.sleep(AFTER)
    finally:
        stopped.set()
        for one in clients:
            one.join()
    requests = pd.DataFrame(sorted(rows), columns=["seconds", "ms", "version"])
    return Switched(requests, (exporting, exported), errors)


def _wait_for_another_version(rows: Sequence[tuple[float, float, int]], now: Callable[[], float]) -> None:
    """
    Raises:
        UserError: there is none in time.
    """
    while now() < LONGEST:
        if len({version for _, _, version in list(rows)} - {0}) > 1:
            return
        time.sleep(0.1)
    raise UserError(f"no new version has answered after {LONGEST:g} s")


def switch_table(switched: Switched) -> pd.DataFrame:
    """Answers and percentiles in milliseconds of each version."""
    groups = switched.requests.groupby("version")["ms"]
    table = pd.DataFrame({"answers": groups.size()})
    for percentile in (50, 99):
        table[f"p{percentile}, ms"] = groups.quantile(percentile / 100).round(1)
    table.index = pd.Index([f"version {version}" if version else "failed" for version in table.index])
    return table


def draw_switch(switched: Switched) -> Figure:
    """Every request at the time that it was sent, by the version that answered."""
    made, (axes,) = figure(height=3.3)
    requests = switched.requests
    with styled():
        axes.axvspan(*switched.exported, color=GREY, alpha=0.14, linewidth=0)
        middle, place = sum(switched.exported) / 2, axes.get_xaxis_transform()
        axes.text(middle, 0.97, "export", transform=place, ha="center", va="top")
        answered = requests[requests["version"] > 0].groupby("version")
        for (version, rows), color, marker in zip(answered, VERSION_COLORS, VERSION_MARKERS):
            label = f"version {version}: {len(rows):,} answers"
            axes.plot(rows["seconds"], rows["ms"], marker, color=color, markersize=2.5, alpha=0.5, label=label)
        failed = requests[requests["version"] == 0]
        if len(failed):
            axes.plot(failed["seconds"], failed["ms"], "x", color=VERMILION, label=f"failed: {len(failed):,}")
        axes.set(yscale="log", xlabel="seconds", ylabel="milliseconds to the answer")
        milliseconds_axis(axes.yaxis)
        axes.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1.0), markerscale=2.5)
    return made


def switch_text(switched: Switched) -> str:
    """The picture in words."""
    requests = switched.requests
    counts = requests[requests["version"] > 0].groupby("version").size()
    answers = [f"version {version} answered {count:,}" for version, count in counts.items()]
    failures = {0: "None failed", 1: "1 failed"}.get(switched.failed, f"{switched.failed:,} failed")
    slowest = requests["ms"].max()
    return (
        f"{len(requests):,} requests to `recommend` by {CLIENTS} clients while a second version was exported, tested "
        f"and taken into service: {listed(answers)}. {failures}; the slowest took {slowest:,.0f} ms."
    )

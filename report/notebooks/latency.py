"""How long a server takes to answer: measured with one client, and drawn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from core.run_folder import Run
from ensemble.client import Client
from models.networks.base import NETWORKS
from models.training.devices import device_name
from report.served import RECOMMEND, SCORE, Took, keep_served
from report.style import color_of, figure, line_of, marker_of, styled

WARMING = 20  # requests of each kind before the measured ones
PERCENTILES = (50, 99)
TICKS = (0, 25, 50, 75, 99)


@dataclass(frozen=True)
class Question:
    """What is asked: its title, and how a client asks it of a user and a movie with a model's name."""

    title: str
    ask: Callable[[Client, int, int, str], Any]


QUESTIONS = {
    RECOMMEND: Question("recommend: the best ten", lambda client, user, _, model: client.recommend(user, model=model)),
    SCORE: Question(
        "score: one user, one movie", lambda client, user, movie, model: client.score([user], [movie], model)
    ),
}


def measure_latency(
    url: str, models: Sequence[str], users: Sequence[int], movie: int, requests: int = 300
) -> pd.DataFrame:
    """Asks every model every question so many times, one after the other over one connection, the models in turn.

    Args:
        url: `host:port` of the server's gRPC.
        models: names of networks, such as `dlrm`.
        users: raw ids that are asked about in turn.
        movie: a raw id, which is scored.

    Returns:
        `question`, `model` and `ms` of each request.
    """
    rows = []
    with Client(url, wait=30.0) as client:
        for number in range(-WARMING, requests):
            user = users[number % len(users)]
            for model in models:
                for name, question in QUESTIONS.items():
                    began = time.perf_counter()
                    question.ask(client, user, movie, model)
                    took = (time.perf_counter() - began) * 1000
                    if number >= 0:
                        rows.append((name, model, took))
    return pd.DataFrame(rows, columns=["question", "model", "ms"])


def keep_latency(run: Run, protocol: str, measured: pd.DataFrame) -> None:
    """Writes the medians and 99th percentiles into the run's `latency.json`, for the pictures of cost.

    Args:
        protocol: whose networks were served.
        measured: from this machine, as `measure_latency` returns it.

    Raises:
        UserError: the file cannot be written.
    """
    took: dict[str, dict[str, Took]] = {}
    for (question, model), ms in measured.groupby(["question", "model"], sort=False)["ms"]:
        median, slow = (float(one) for one in np.percentile(ms, PERCENTILES))
        took.setdefault(question, {})[model] = Took(requests=len(ms), median_ms=median, p99_ms=slow)
    keep_served(run, protocol, device_name(torch.device("cpu")), took)


def latency_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Requests, and the percentiles in milliseconds, of each question and model."""
    groups = measured.groupby(["question", "model"], sort=False)["ms"]
    table = pd.DataFrame({"requests": groups.size()})
    for percentile in PERCENTILES:
        table[f"p{percentile}, ms"] = groups.quantile(percentile / 100).round(2)
    return table.sort_index(level="question", sort_remaining=False).rename(index=_titles())


def draw_latency(measured: pd.DataFrame) -> Figure:
    """The share of requests that were answered within a time, a panel for each question."""
    made, panels = figure(1, len(QUESTIONS), height=3.5)
    with styled():
        for axes, (name, question) in zip(panels, QUESTIONS.items()):
            for model, took in measured[measured["question"] == name].groupby("model", sort=False)["ms"]:
                values = np.sort(took.to_numpy())
                share = np.arange(1, len(values) + 1) / len(values) * 100
                axes.plot(values, share, drawstyle="steps-post", linestyle=line_of(model), color=color_of(model))
                marks = np.percentile(values, PERCENTILES)
                axes.plot(marks, PERCENTILES, marker_of(model), color=color_of(model), label=NETWORKS[model].title)
            axes.set(xscale="log", xlabel="milliseconds", title=question.title, ylim=(0, 103), yticks=TICKS)
            axes.set_xlim(measured["ms"].min() / 1.1, measured["ms"].max() * 1.1)
            milliseconds_axis(axes.xaxis)
            axes.legend(loc="lower right")
        panels[0].set_ylabel("answered, % of requests")
    return made


def milliseconds_axis(axis: Axis) -> None:
    """Marks 1, 2, 5, 10, 20 and so on, on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def latency_text(measured: pd.DataFrame) -> str:
    """The picture in words."""
    sentences = []
    for question, rows in measured.groupby("question", sort=False):
        parts = []
        for model, took in rows.groupby("model", sort=False)["ms"]:
            median, slow = np.percentile(took, PERCENTILES)
            parts.append(
                f"{NETWORKS[model].title} {median:.1f} ms at the median and {slow:.1f} ms at the 99th percentile"
            )
        sentences.append(f"`{question}`: {', '.join(parts)}.")
    requests = int(measured.groupby(["question", "model"]).size().min())
    return (
        f"{' '.join(sentences)} {requests:,} requests of each kind, one after the other over one gRPC connection, "
        "client, front door and Triton on one machine. The marks are the median and the 99th percentile."
    )


def _titles() -> dict[str, str]:
    return {name: network.title for name, network in NETWORKS.items()}

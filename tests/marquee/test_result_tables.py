"""Tables and bars in terminals: the figures, and that nothing is cut where the terminal is narrow."""

import fcntl
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from rich.console import Console

from core import progress as bars
from core.run_folder import Run
from marquee.result_tables import comparison_tables, interval, paper_table, seeds_tables, without_leading_zero
from marquee.tables import recommendations_table, scores_table, similar_table
from tests.names import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
LONGEST_NAME = "a_name_of_20_letters"
NAMES = ("dlrm", "popularity", LONGEST_NAME)
METRICS = {
    "leave-one-out": ("full_hr@10", "full_ndcg@10", "full_mrr@10", "hr@10", "ndcg@10", "auc"),
    "random-split": ("auc", "log_loss"),
    "rating": ("rmse", "mae"),
}
LONG_TITLE = "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb, and other [REC]ords"
TITLES = {10 * n: f"{LONG_TITLE} {n}" if n % 2 else f"Movie {n}" for n in range(1, 21)}
PUBLISHED = {"NeuMF, 64 factors, pretrained (He et al., 2017, as run by Rendle et al., 2020)": (0.730, 0.447)}
PAPER = [{"model": n, "seed": s, "hr@10": 0.7 + s / 100, "ndcg@10": 0.44 + s / 90} for n in NAMES for s in (1, 2, 3)]


def value_of(metric: str, number: int) -> float:
    """Another value for each metric and model."""
    return 0.1 + sum(map(ord, metric)) % 700 / 1000 + number / 97


def results(names: tuple[str, ...] = NAMES) -> list[dict[str, Any]]:
    """`evaluation.json`, with every protocol."""
    made = []
    for protocol, metrics in METRICS.items():
        for number, name in enumerate(names):
            values = {metric: value_of(metric, number) for metric in metrics}
            if protocol == "random-split" and name == "popularity":
                del values["log_loss"]
            intervals = {metric: [v - 0.027, v + 0.0272] for metric, v in values.items()}
            made.append(
                {
                    **{"model": name, "protocol": protocol, "metrics": values, "ci95": intervals, "seed": 42},
                    **{"epochs": 0 if name == "popularity" else 3, "train_seconds": 12_345.6, "samples_per_second": 9},
                }
            )
    return made


def compared() -> dict[str, Any]:
    """What `compare` finds."""
    protocols: dict[str, Any] = {}
    for result in results():
        judged = protocols.setdefault(result["protocol"], {"models": {}, "verdict": "DLRM is better than NCF. " * 5})
        per_seed = {metric: [v - 0.012, v, v + 0.011] for metric, v in result["metrics"].items()}
        judged["models"][result["model"]] = {**result, "per_seed": per_seed}
    return {"protocols": protocols}


@pytest.fixture
def run(tmp_path) -> Run:
    """A run folder with results, and tables with long titles."""
    run = Run(tmp_path / "ml-latest-small")
    run.tables.mkdir(parents=True)
    run.evaluation.write_text(json.dumps(results()))
    pq.write_table(
        pa.table({"movieId": list(TITLES), "title": list(TITLES.values()), "year": [1964] * len(TITLES)}),
        run.tables / "movies.parquet",
    )
    rated = list(TITLES)[10:]
    columns = {"userId": [1] * 10, "movieId": rated, "rating": [4.5] * 10, "timestamp": list(range(10))}
    pq.write_table(pa.table(columns), run.tables / "ratings.parquet")
    pq.write_table(pa.table({"userId": [1]}), run.tables / "users.parquet")
    return run


def printed(width: int, *parts: Any) -> str:
    console = Console(file=io.StringIO(), width=width)
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def assert_fits(text: str, width: int = 80) -> None:
    too_long = [line for line in text.splitlines() if cell_len(line) > width]
    assert not too_long
    assert "…" not in text


def squeezed(text: str) -> str:
    """Without white space, as what wraps is broken by it."""
    return re.sub(r"\s+", "", text)


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("half", "text"), [(0.0274, "±.027"), (0.0, "±.000"), (0.9996, "±1.000"), (12.5, "±12.500")])
def test_an_interval_has_no_zero_before_the_point(half, text):
    assert interval(half) == text


def test_digits_are_as_many_as_asked_for():
    assert interval(0.02345, 4) == "±.0234"
    assert without_leading_zero(0.5, 1) == ".5"


@pytest.mark.parametrize("width", [40, 60, 79, 80, 87, 100, 110, 200])
def test_every_figure_is_there_at_any_width(run, width):
    text = squeezed(printed(width, *comparison_tables(run)))
    if width < 60:  # a figure may be broken there, but nothing is lost
        assert "…" not in text
        return
    for result in results():
        for value in result["metrics"].values():
            assert f"{value:.3f}" in text
    figures = sum(len(result["metrics"]) for result in results())
    assert text.count("±.027") == figures
    assert "12346s" in text
    assert "none" in text


def test_a_wide_terminal_has_a_model_on_a_line(run):
    lines = [" ".join(line.split()) for line in printed(110, *comparison_tables(run)).splitlines()]
    for result in results():
        figures = [
            f"{result['metrics'][metric]:.3f} ±.027" if metric in result["metrics"] else "-"
            for metric in METRICS[result["protocol"]]
        ]
        assert " ".join([result["model"], *figures, "12346 s" if result["epochs"] else "none"]) in lines


def test_the_names_of_our_own_models_leave_a_model_on_a_line_at_95_columns(run):
    run.evaluation.write_text(json.dumps(results(("dlrm", "ncf", "popularity"))))
    values = [f"{value_of(metric, 0):.3f}" for metric in METRICS["leave-one-out"]]
    for width in (80, 95):
        lines = iter(printed(width, *comparison_tables(run)).splitlines())
        row = next(line for line in lines if line.startswith((" dlrm", "dlrm")))
        if width == 80:  # the intervals stand below the values
            assert row.split() == ["dlrm", *values, "12346", "s"]
            assert next(lines).split() == ["±.027"] * len(values)
        else:
            assert row.split() == ["dlrm", *[word for value in values for word in (value, "±.027")], "12346", "s"]


# -- 80 columns --------------------------------------------------------------------------------------------------------


def test_the_comparison_fits(run):
    text = printed(80, *comparison_tables(run))
    assert_fits(text)
    assert LONGEST_NAME in text
    assert "What will they watch next? (leave-one-out; all movies, and a sample of 99)" in text
    ranked = ("HR@10", "NDCG@10", "MRR@10", "all", "movies", "sampled")
    for heading in (*ranked, "AUC", "log loss", "RMSE", "MAE", "training"):
        assert heading in text


def test_the_tables_of_compare_fit():
    found = compared()
    text = printed(80, *seeds_tables(found))
    assert_fits(text)
    assert LONGEST_NAME in text
    for judged in found["protocols"].values():
        for model in judged["models"].values():
            for metric, values in model["per_seed"].items():
                assert f"{model['metrics'][metric]:.3f}" in text
                assert f"({without_leading_zero(stdev(values), 3)})" in text


def test_the_table_of_paper_fits():
    text = printed(80, paper_table("ml-1m", 6040, PAPER, PUBLISHED))
    assert_fits(text)
    assert "ml-1m: a user's last movie among 99 others, 6,040 users" in text
    assert "0.7200 ±.0248" in text
    (source,) = PUBLISHED
    assert all(word in text for word in source.split())


def test_movie_titles_wrap(run):
    movies, scores = [10, 20, 30], [0.5, 0.25, 0.125]
    answers = np.array(movies), np.array(scores)
    tables = {
        "recommend": recommendations_table(run, 1, [], *answers, True),
        "recommend to a new user": recommendations_table(run, -1, movies, *answers, True),
        "recommend to an unknown user": recommendations_table(run, -1, [], *answers, False),
        "similar": similar_table(run, 30, *answers),
        "score": scores_table(run, 1, movies, answers[1], np.array([True, False, True])),
    }
    for name, table in tables.items():
        text = printed(80, table)
        assert_fits(text)
        for word in f"{LONG_TITLE} 1 (1964)".split():
            assert word in text, name
        assert "0.125" in text, name
    assert "stars" in printed(80, tables["recommend"])
    assert "[REC]ords" in printed(200, tables["similar"])


@pytest.mark.parametrize("name", ["dlrm, leave-one-out", f"{LONGEST_NAME}, leave-one-out"])
def test_a_bar_fits_with_its_note(monkeypatch, name):
    console = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(bars, "console", console)
    note = "best epoch 12 of 15, validation ndcg@10 0.421, 412,345 samples/s"
    with bars.progress(name, 100, "samples") as bar:
        bar(10, "epoch 1")
        bar.finish(note)
    assert_fits(console.file.getvalue())
    assert name in console.file.getvalue()
    assert note in console.file.getvalue()


def test_a_note_stands_beside_its_bar_where_there_is_room(monkeypatch):
    console = Console(file=io.StringIO(), width=110)
    monkeypatch.setattr(bars, "console", console)
    with bars.progress("test sets", 3, "results") as bar:
        bar(3, "")
        bar.finish("unchanged, reused")
    (line,) = console.file.getvalue().splitlines()
    assert re.search(r"test sets .*100%.*unchanged, reused", line)


# -- in a terminal -----------------------------------------------------------------------------------------------------

COMMANDS = """
import sys
import numpy as np
from pathlib import Path
from core.progress import console, progress
from core.run_folder import Run
from ensemble import client
from marquee.app import main
from marquee import pipeline
from marquee.result_tables import paper_table, seeds_tables
sys.path.insert(0, "tests/marquee")
from test_result_tables import LONGEST_NAME, PAPER, PUBLISHED, compared

answer = np.array([10, 20, 30]), np.array([0.5, 0.25, 0.125])
client.recommend = lambda *_, **__: (*answer, True)
client.similar = lambda *_, **__: answer
client.score = lambda *_, **__: (answer[1], np.array([True, False, True]))
folder, what = Path(sys.argv[1]), sys.argv[2]
where = ["--dataset", folder.name, "--runs", str(folder.parent)]
if what == "evaluate":
    pipeline.evaluate = lambda *_: None
    main(["evaluate", *where])
elif what == "compare":
    for part in seeds_tables(compared()):
        console.print(part)
elif what == "paper":
    console.print(paper_table("ml-1m", 6040, PAPER, PUBLISHED))
elif what == "bars":
    with progress(f"{LONGEST_NAME}, leave-one-out", 1e6, "samples") as bar:
        for epoch in range(10):
            bar(1e5, f"epoch {epoch + 1}, loss 0.1234, validation ndcg@10 0.4321, best 0.4321 in epoch 1")
        bar.finish("best epoch 12 of 15, validation ndcg@10 0.421, 412,345 samples/s")
else:
    options = {"recommend": ["--user", "1"], "similar": ["--movie", "10"]}
    main([what, *where, *options.get(what, ["--user", "1", "--movie", "10", "--movie", "20", "--movie", "30"])])
"""


def in_terminal(command: list[str], columns: int = 80) -> str:
    """What a command prints to a terminal of so many columns, without control sequences."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=subprocess.STDOUT, close_fds=True
    )
    os.close(theirs)
    received = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            received += chunk
    except OSError:  # how Linux reports that the other end of the terminal is closed
        pass
    finally:
        os.close(ours)
        code = process.wait(HANG_SECONDS)
    text = re.sub(r"\x1b\[[0-9;]*m", "", received.decode())  # colours
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "\n", text)  # movements of the cursor
    assert code == 0, text
    return text


@pytest.mark.parametrize("what", ["evaluate", "compare", "paper", "recommend", "similar", "score", "bars"])
def test_a_terminal_of_80_columns_shows_everything(run, what):
    text = in_terminal([sys.executable, "-c", COMMANDS, str(run.root), what])
    assert_fits(text)
    expected = {"evaluate": LONGEST_NAME, "compare": "(.012)", "paper": "Rendle", "bars": "412,345"}
    assert expected.get(what, "Strangelove") in text


@pytest.mark.slow
def test_real_commands_fit_a_terminal_of_80_columns(trained, tmp_path):
    root = tmp_path / trained.root.name
    shutil.copytree(trained.root, root)
    where = ["--dataset", root.name, "--runs", str(tmp_path)]
    python = [sys.executable, "-m", "marquee"]
    model = ["--model", "ncf", "--protocol", "leave-one-out", "--epochs", "1", "--set", "network.dim=8"]
    text = in_terminal([*python, "train", *where, *model])
    assert "settings from models/training/defaults/ml-100k.json, with" in text
    bars_alone = "\n".join(line for line in text.splitlines() if "settings from" not in line)  # a line to be copied
    assert_fits(bars_alone)
    assert re.search(r"best epoch 1 of 1, validation .* samples/s", bars_alone)
    text = in_terminal([*python, "evaluate", *where])
    assert_fits(text)
    assert "What will they watch next?" in text
    assert re.search(r"^dlrm +0\.\d{3} .* s\s+±\.\d{3} ", text, re.MULTILINE)

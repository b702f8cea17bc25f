"""The notebooks: what is committed was executed, and over another run of ML-100K they show that run's figures."""

import ast
import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest

from core.run_folder import Run
from models.evaluation.metrics.base import columns_of, spoken
from models.evaluation.results import read_results
from models.networks.base import NETWORKS
from models.protocols.base import PROTOCOLS
from report.files import RunFiles
from report.style import capitalised
from tests.names import COMPARED, DEFAULT_PROTOCOLS, HANG_SECONDS
from tools import notebooks as tool

NAMES = ("01-explore", "02-workflow", "03-dlrm-vs-ncf", "04-triton")
PICTURES = {"01-explore": 10, "02-workflow": 2, "03-dlrm-vs-ncf": 15, "04-triton": 2}  # the fewest
MADE_UP = "02-workflow"  # its rows are synthetic
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+")
FIGURE = re.compile(r"(?<![\w.])(\d\.\d{3}) \((\d\.\d{3}) to (\d\.\d{3})\)")
OF_RATINGS = {"userId", "user_id", "rating", "stars", "timestamp"}  # columns of MovieLens' rows
LOGIC = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Try, ast.Lambda, ast.With)
LOGIC += (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.IfExp)


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(tool.NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_of(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook) -> list:
    return [output for cell in code_of(notebook) for output in cell.outputs]


def pictures(notebook) -> list:
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def words(notebook) -> str:
    """Everything that is shown as text and not as a table."""
    return "\n".join(
        output.get("text", "") + output.get("data", {}).get("text/markdown", "") for output in outputs(notebook)
    )


def tables(notebook) -> list[pd.DataFrame]:
    html = [output.data["text/html"] for output in outputs(notebook) if "text/html" in output.get("data", {})]
    return [pd.read_html(StringIO(one), index_col=0)[0] for one in html]


def test_there_are_four_and_no_other():
    assert sorted(path.stem for path in tool.NOTEBOOKS.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_was_executed_in_order_without_an_error_or_a_warning(name):
    notebook = read(name)
    assert [cell.execution_count for cell in code_of(notebook)] == list(range(1, len(code_of(notebook)) + 1))
    assert not tool.blemishes(notebook)
    assert len(pictures(notebook)) >= PICTURES[name]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_is_as_the_tool_writes_it(name):
    path = tool.NOTEBOOKS / f"{name}.ipynb"
    assert nbformat.writes(tool.normalised(read(name))) + "\n" == path.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_a_machine_is_committed(name):
    said = "\n".join(map(tool.text_of, outputs(read(name))))
    assert not re.search(r"(?<![\w.:/])/(tmp|home|root|work|usr|opt|var)/", said)


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_has_a_text_for_a_screen_reader(name):
    for picture in pictures(read(name)):
        assert len(picture.metadata["image/png"]["alt"]) > 20


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_hold_no_logic(name):
    source = "\n".join(cell.source for cell in code_of(read(name)))
    found = {type(node).__name__ for node in ast.walk(ast.parse(source)) if isinstance(node, LOGIC)}
    assert not found


@pytest.mark.parametrize("name", [name for name in NAMES if name != MADE_UP])
def test_no_row_of_movielens_ratings_is_committed(name):
    for table in tables(read(name)):
        columns = {
            str(part) for column in table.columns for part in (column if isinstance(column, tuple) else [column])
        }
        assert not columns & OF_RATINGS


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_that_is_asked_for_exists(name):
    from report.picture import PICTURES as REGISTERED

    asked = re.findall(r'show\("([^"]+)", files\)', "\n".join(cell.source for cell in code_of(read(name))))
    assert set(asked) <= set(REGISTERED)


# -- the tool ----------------------------------------------------------------------------------------------------------


def notebook_of(*sources: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def executed(folder: Path, *sources: str) -> nbformat.NotebookNode:
    pytest.importorskip("nbclient")  # which the Merlin image has, and its lock has not
    pytest.importorskip("ipykernel")
    path = folder / "one.ipynb"
    nbformat.write(notebook_of(*sources), path)
    return tool.executed(path)


@pytest.mark.slow
def test_two_executions_write_the_same_bytes(tmp_path):
    sources = ("print(1)", "import pandas\npandas.DataFrame({'a': [1]})")
    once, again = (nbformat.writes(executed(tmp_path, *sources)) for _ in range(2))
    assert once == again
    assert '"version"' not in once
    assert "iopub" not in once


@pytest.mark.slow
def test_a_warning_and_a_path_of_this_machine_are_found(tmp_path):
    notebook = executed(tmp_path, "import sys\nprint('beware', file=sys.stderr)", f"print('{tool.ROOT}/runs')", "1")
    first, second = tool.blemishes(notebook)
    assert "beware" in first
    assert "a folder of this machine" in second


# -- over a run of ML-100K ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ml_100k(tmp_path_factory) -> Run:
    """ML-100K with both default protocols; the networks are trained for two epochs."""
    runs = tmp_path_factory.mktemp("notebooks")
    for command in (("fetch",), ("prepare",), ("train", "--epochs", "2"), ("evaluate",)):
        done = subprocess.run(
            [sys.executable, "-m", "marquee", *command, "--runs", str(runs)],
            cwd=tool.ROOT, capture_output=True, text=True, timeout=HANG_SECONDS,
        )  # fmt: skip
        if done.returncode and command == ("fetch",):
            pytest.skip(f"ML-100K cannot be had here: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0, done.stderr
    return Run(runs / "ml-100k")


@pytest.fixture(scope="session")
def again(ml_100k):
    """Each notebook, executed over that run."""
    pytest.importorskip("nbclient")
    found: dict[str, nbformat.NotebookNode] = {}

    def of(name: str) -> nbformat.NotebookNode:
        if name not in found:
            with pytest.MonkeyPatch.context() as patched:
                patched.setenv(tool.RUN, str(ml_100k.root))
                found[name] = tool.executed(tool.NOTEBOOKS / f"{name}.ipynb")
        return found[name]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_runs_over_another_run_and_shows_its_pictures(again, name):
    notebook = again(name)
    assert len(pictures(notebook)) >= PICTURES[name]
    assert not any(output.get("name") == "stderr" for output in outputs(notebook))


@pytest.mark.slow
def test_the_data_are_counted(again):
    assert "100,000 ratings, 943 users and 1,682 movies" in words(again("01-explore"))


@pytest.mark.slow
def test_every_figure_of_the_comparison_equals_the_evaluation(again, ml_100k):
    results = {(one.protocol, one.model): one for one in read_results(ml_100k)}
    shown = [table for table in tables(again("03-dlrm-vs-ncf")) if "Training" in table.columns]
    assert len(shown) == len(DEFAULT_PROTOCOLS)
    for protocol, table in zip(DEFAULT_PROTOCOLS, shown):
        judged = [result for (of, _), result in results.items() if of == protocol]
        assert len(table) == len(judged)
        for (_, row), result in zip(table.iterrows(), judged):
            for heading, metric in columns_of(PROTOCOLS[protocol].task):
                cell = row[capitalised(heading.replace("\n", ", "))]
                value, pair = result.metrics.get(metric), result.ci95.get(metric)
                expected = [] if value is None else [value, *(pair or ())]
                assert NUMBER.findall(cell) == [f"{one:.3f}" for one in expected]


@pytest.mark.slow
def test_every_figure_of_a_metric_in_words_equals_the_evaluation(again, ml_100k):
    """`NDCG@10, all movies: DLRM 0.096 (0.083 to 0.110), ...`, the text of a picture."""
    known: dict[str, set[tuple[str, ...]]] = {}
    for result in read_results(ml_100k):
        for heading, metric in columns_of(PROTOCOLS[result.protocol].task):
            value, pair = result.metrics.get(metric), result.ci95.get(metric)
            if value is not None and pair is not None:
                figures = tuple(f"{one:.3f}" for one in (value, *pair))
                known.setdefault(capitalised(heading.replace("\n", ", ")), set()).add(figures)
    lines = [line.partition(": ") for line in words(again("03-dlrm-vs-ncf")).split("\n")]
    found = {(heading, figures) for heading, _, text in lines for figures in FIGURE.findall(text) if heading in known}
    assert {heading for heading, _ in found} >= {"NDCG@10, all movies", "AUC"}
    assert not [(heading, figures) for heading, figures in found if figures not in known[heading]]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_the_verdict_is_that_of_the_figures(again, ml_100k, protocol):
    asked = PROTOCOLS[protocol]
    metric = asked.metric(asked.deciding)
    one, other = (
        next(r.metrics[asked.deciding] for r in read_results(ml_100k) if (r.protocol, r.model) == (protocol, name))
        for name in COMPARED
    )
    quoted = [text for text in words(again("03-dlrm-vs-ncf")).split("\n") if text.startswith("> **")]
    sentence = quoted[DEFAULT_PROTOCOLS.index(protocol)]
    said = re.escape(spoken(asked.task, asked.deciding))
    amount = float(re.search(rf"{said} (?:higher by|lower by|differs by) (-?[\d.]+)", sentence)[1])
    assert amount == pytest.approx(abs(one - other) if "better" in sentence else one - other, abs=0.0006)
    if "better" in sentence:
        first = NETWORKS[COMPARED[0] if metric.sign * (one - other) > 0 else COMPARED[1]].title
        assert sentence.startswith(f"> **{first} is better")


@pytest.mark.slow
def test_the_verdict_is_that_of_several_seeds_where_they_are_compared(ml_100k, tmp_path, monkeypatch):
    """A file of the data, settings and code that are there is believed; its sentence is the verdict."""
    import torch

    from models.evaluation.compare_seeds import origin

    pytest.importorskip("nbclient")
    run = Run(tmp_path / ml_100k.root.name)
    run.root.mkdir()
    for path in ml_100k.root.iterdir():
        (run.root / path.name).symlink_to(path)
    sentences = {protocol: f"DLRM is better than NCF: {protocol}." for protocol in DEFAULT_PROTOCOLS}
    results = read_results(ml_100k)
    found = {
        protocol: {
            **origin(run, protocol, torch.device("cpu")),
            "seeds": [42, 43],
            "models": {
                one.model: {
                    "metrics": one.metrics,
                    "ci95": one.ci95,
                    "per_seed": {name: [value] * 2 for name, value in one.metrics.items()},
                    "train_seconds": one.train_seconds,
                }
                for one in results
                if one.protocol == protocol
            },
            "verdict": sentences[protocol],
        }
        for protocol in DEFAULT_PROTOCOLS
    }
    file = {"dataset": run.root.name, "seeds": [42, 43], "device": "CPU, 2 cores", "protocols": found}
    (run.root / "comparison.json").write_text(json.dumps(file))
    monkeypatch.setenv(tool.RUN, str(run.root))
    said = words(tool.executed(tool.NOTEBOOKS / "03-dlrm-vs-ncf.ipynb"))
    for sentence in sentences.values():
        assert f"> **{sentence}**" in said
    assert "2 training seeds, 42 to 43" in said


@pytest.mark.slow
def test_the_served_lists_are_the_networks_own(again, ml_100k):
    """Of user 42, whose lists `evaluate` keeps; serving leaves out what the user rated in the test split, too."""
    served = next(table for table in tables(again("04-triton")) if ("DLRM", "movie") in table.columns)
    titles = pd.read_parquet(ml_100k.tables / "movies.parquet").set_index("movieId")
    named = titles["title"] + titles["year"].map(lambda year: f" ({year})" if year else "")
    rated = pd.read_parquet(ml_100k.tables / "ratings.parquet").query("userId == 42")["movieId"]
    for name in COMPARED:
        kept = pd.read_parquet(ml_100k.kept("leave-one-out", name) / "lists.parquet").query("user_id == 42")
        expected = kept[~kept["movie_id"].isin(rated)].sort_values("place")
        shown = served[NETWORKS[name].title]
        assert len(shown) == 10
        assert shown["movie"].tolist()[: len(expected)] == named[expected["movie_id"]].tolist()
        assert np.allclose(shown["score"][: len(expected)], expected["score"], atol=6e-4)


@pytest.mark.slow
def test_what_requests_took_is_kept_for_the_report(again, ml_100k):
    table = next(table for table in tables(again("04-triton")) if "p50, ms" in table.columns)
    took = RunFiles(ml_100k).served("leave-one-out").took
    found = [round(one.median_ms, 2) for by_model in took.values() for one in by_model.values()]
    assert sorted(found) == sorted(table["p50, ms"].iloc[:, 0])  # the heading has two rows


@pytest.mark.slow
def test_no_request_fails_while_a_release_is_switched_and_nothing_stays_behind(again):
    notebook = again("04-triton")
    said = words(notebook)
    assert "None failed" in said
    assert "version 2 is served, after a rehearsal" in said
    answers = next(table for table in tables(notebook) if "answers" in table.columns)
    assert answers.index.tolist() == ["version 1", "version 2"]
    assert (answers["answers"] > 0).all()
    assert not [
        one for one in psutil.process_iter(["cmdline"]) if "marquee-served-" in " ".join(one.info["cmdline"] or ())
    ]

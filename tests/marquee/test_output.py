"""What a command prints, wherever its output goes and whatever names its data has; errors of the system in one line."""

import io
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.artifacts import seal, verify
from core.errors import UserError, file_of, naming, system_reason
from core.run_folder import Run
from marquee.pipeline import run_folder
from marquee.tables import known_user, recommendations_table, scores_table, similar_table
from tests.conftest import write_movielens
from tests.names import HANG_SECONDS
from tests.processes import take_interrupts

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--dataset", "ml-latest-small")


def start(*arguments: object, variables: dict[str, str] | None = None, **options) -> subprocess.Popen:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "PYTHON", "LC_"))}
    command = [sys.executable, "-m", "marquee", *map(os.fspath, map(str, arguments))]
    return subprocess.Popen(command, cwd=ROOT, env={**kept, **(variables or {})}, **options)


def finish(process: subprocess.Popen) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert b"Traceback" not in (out or b"") + (err or b"")
    return process.returncode, out or b"", err or b""


def marquee(*arguments: object, **options) -> tuple[int, bytes, bytes]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return finish(start(*arguments, **{**streams, **options}))


@pytest.fixture
def data(tmp_path) -> Path:
    return write_movielens(tmp_path / "données")


def fetch(data: Path, runs: Path, **options) -> tuple[int, bytes, bytes]:
    return marquee("fetch", *SMALL, "--data", data, "--runs", runs, **options)


# -- names -------------------------------------------------------------------------------------------------------------

NAMES = {
    "data [old]": "data [old]",
    "file:x": "file:x",
    "[bold]b[": "[bold]b[",
    "a\x1b[31m\nb": "a\\x1b[31m\\nb",
    "\u202eevil": "\\u202eevil",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_folders_are_printed_as_they_are(tmp_path, name):
    data = write_movielens(tmp_path / name)
    code, out, err = fetch(data, tmp_path / f"runs {name}")
    assert (code, err) == (0, b"")
    assert f"from {NAMES[name]}: " in out.decode()
    code, out, err = marquee("prepare", *SMALL, "--runs", tmp_path / "none" / name)
    assert (code, out) == (2, b"")
    assert NAMES[name].replace("\\n", " ") in err.decode().replace("\\n", " ")
    assert len(err.splitlines()) == 1


def test_names_in_a_variable_are_printed_as_they_are(tmp_path):
    write_movielens(tmp_path / "a[" / "b]" / "ml-latest-small")
    where = {"MARQUEE_DATA": f"{tmp_path}/a[/b]", "MARQUEE_RUNS": str(tmp_path / "[/runs]")}
    code, out, err = marquee("fetch", *SMALL, variables=where)
    assert (code, err) == (0, b"")
    assert "a[/b]/ml-latest-small" in out.decode().replace("\n", "")


def test_a_name_that_is_not_utf8_is_taken_or_refused_in_one_line(tmp_path):
    data = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    write_movielens(Path(data))
    code, out, err = fetch(Path(data), tmp_path / "runs")
    assert code in (0, 2)
    assert len(err.splitlines()) == (code == 2)
    assert b"\\udcff" in out + err


# -- standard output ---------------------------------------------------------------------------------------------------


def test_work_that_is_done_ends_with_0_on_a_full_disk_with_a_line_about_it(data, tmp_path):
    with open("/dev/full", "wb") as full:
        for arguments in (("fetch", *SMALL, "--data", data, "--runs", tmp_path / "runs"), ("--help",)):
            code, _, err = marquee(*arguments, stdout=full)
            assert (code, err) == (0, b"note: standard output could not be written: no space left on device\n")
    verify(tmp_path / "runs" / "ml-latest-small" / "tables")


def test_work_that_is_done_ends_with_0_where_the_pipe_is_closed(data, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (("fetch", *SMALL, "--data", data, "--runs", tmp_path / "runs"), ("train", "--help")):
        assert marquee(*arguments, stdout=writing) == (0, b"", b"")
    os.close(writing)
    verify(tmp_path / "runs" / "ml-latest-small" / "tables")


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_standard_files_are_nothing_to_fail_for(data, tmp_path, closed):
    def close() -> None:
        for number in closed:
            os.close(number)

    with open(os.devnull, "r+b") as nowhere:
        streams = {"stdin": nowhere, "stdout": nowhere, "stderr": nowhere}
        process = start("fetch", *SMALL, "--data", data, "--runs", tmp_path, preexec_fn=close, **streams)
        assert process.wait(120) == 0
        missing = start("fetch", *SMALL, "--data", "none", "--runs", tmp_path, preexec_fn=close, **streams)
        assert missing.wait(120) == 2
    verify(tmp_path / "ml-latest-small" / "tables")


def test_an_error_ends_with_2_where_it_cannot_be_printed(tmp_path):
    with open("/dev/full", "wb") as full:
        code, _, _ = marquee("prepare", *SMALL, "--runs", tmp_path, stdout=full, stderr=full)
    assert code == 2


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C"},
        {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "20"},
        {"COLUMNS": "0"},
        {"COLUMNS": "1", "FORCE_COLOR": "1"},
    ],
)
def test_every_encoding_and_terminal_shows_what_was_done(data, tmp_path, variables):
    code, out, err = fetch(data, tmp_path / "runs", variables=variables)
    assert (code, err) == (0, b"")
    assert re.search(rb"from donn.*es", out)
    assert marquee("--help", variables=variables)[::2] == (0, b"")
    code, _, err = fetch(tmp_path / "é", tmp_path / "runs", variables=variables)
    assert code == 2
    assert len(err.splitlines()) == 1


# -- errors of the system ----------------------------------------------------------------------------------------------


def refused(result: tuple[int, bytes, bytes]) -> str:
    code, _, err = result
    (line,) = err.decode().splitlines()
    assert code == 2
    assert line.startswith("error: ")
    return line


def small_files() -> None:
    """In a child: no file can be larger than so many bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


def test_a_file_that_cannot_be_written_whole_names_the_folder(data, tmp_path):
    limited = {"preexec_fn": small_files, "variables": {"PYTHONDONTWRITEBYTECODE": "1"}}  # or Python cuts its own
    line = refused(fetch(data, tmp_path / "runs", **limited))
    assert f"{tmp_path / 'runs' / 'ml-latest-small'}" in line
    assert line.endswith("file too large")
    assert not (tmp_path / "runs").exists()
    made = ("synth", "--like", "ml-latest-small", "--scale", 0.05, "--out", tmp_path / "synthetic")
    line = refused(marquee(*made, **limited))
    assert f"{tmp_path / 'synthetic'}" in line
    assert line.endswith("file too large")
    assert sorted(path.name for path in tmp_path.iterdir()) == [data.name]


def test_a_file_in_the_way_of_a_folder_is_named(data, tmp_path):
    run = tmp_path / "runs" / "ml-latest-small"
    run.mkdir(parents=True)
    (run / "features").write_text("")
    assert fetch(data, tmp_path / "runs")[0] == 0
    line = refused(marquee("prepare", *SMALL, "--runs", tmp_path / "runs"))
    assert str(run / "features") in line


def test_a_name_that_is_too_long_is_refused_in_one_line(data, tmp_path):
    for arguments in (
        ("fetch", *SMALL, "--data", data, "--runs", tmp_path / ("r" * 300)),
        ("fetch", *SMALL, "--data", tmp_path / ("d" * 300), "--runs", tmp_path / "runs"),
        ("prepare", *SMALL, "--runs", f"{tmp_path}/" + "deep/" * 1000),
        ("synth", "--like", "ml-latest-small", "--scale", 0.05, "--out", tmp_path / ("s" * 300)),
    ):
        assert "file name too long" in refused(marquee(*arguments))


def library_errors() -> dict[str, Exception]:
    """Errors of a full disk as libraries raise them."""
    return {
        "no space left on device": OSError(
            28, "Error writing bytes to file. Detail: [errno 28] No space left on device"
        ),
        "no space left on device ": RuntimeError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        "PytorchStreamWriter": RuntimeError(
            "[enforce fail at inline_container.cc:1] PytorchStreamWriter failed writing"
        ),
        "4096 requested and 0 written": OSError("4096 requested and 0 written"),
        "database or disk is full": RuntimeError("(sqlite3.OperationalError) database or disk is full [SQL: A]"),
    }


@pytest.mark.parametrize("words", library_errors())
def test_errors_of_libraries_name_the_folder(tmp_path, words):
    run = Run(tmp_path / "ml-latest-small")
    with pytest.raises(UserError) as refused, run.lock():
        raise library_errors()[words]
    assert str(refused.value).startswith(f"{run.root}: ")
    assert words.strip() in str(refused.value)
    assert "SQL:" not in str(refused.value)


def test_an_error_of_the_system_says_what_and_which_files(tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        shutil.copy(tmp_path / "a", tmp_path / "b")
    assert (system_reason(missing.value), file_of(missing.value)) == ("no such file or directory", f"{tmp_path}/a")
    copied = OSError(27, "File too large", "a", None, "b")
    assert (system_reason(copied), file_of(copied)) == ("file too large", "a to b")
    nowhere = FileNotFoundError(2, "No usable temporary directory found in ['/none']")
    assert (system_reason(nowhere), file_of(nowhere)) == ("no usable temporary directory found in ['/none']", "")


FAILS_IN_A_DESTRUCTOR = """
import sys, time
from marquee import app, pipeline

class Closes:
    def __del__(self):
        raise {error}

def fetch(*_):
    Closes()
    deadline = time.monotonic() + 30
    while {waits} and time.monotonic() < deadline:
        time.sleep(0.01)

pipeline.fetch = fetch
app.main(["fetch", "--runs", sys.argv[1]])
"""


@pytest.mark.parametrize(
    ("error", "waits", "code", "words"),
    [
        ("OSError(28, 'No space left on device')", False, 0, b""),
        ("KeyboardInterrupt", True, 130, b"stopped\n"),
    ],
)
def test_an_error_in_a_destructor_is_neither_shown_nor_is_an_interrupt_lost(tmp_path, error, waits, code, words):
    program = FAILS_IN_A_DESTRUCTOR.format(error=error, waits=waits)
    command = [sys.executable, "-c", program, str(tmp_path / "runs")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=HANG_SECONDS, preexec_fn=take_interrupts)
    assert (result.returncode, result.stderr) == (code, words)


def test_an_error_of_ours_is_not_taken_for_one_of_the_system(tmp_path):
    for error in (ValueError("a bug"), KeyError("b"), KeyboardInterrupt(), UserError("as it is")):
        with pytest.raises(type(error), match=str(error) or None), naming(tmp_path):
            raise error


# -- recommendations read little ---------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path) -> Run:
    """Tables whose ratings and movies have several row groups: users 1 to 4, movies 10 to 80."""
    run = run_folder("ml-latest-small", tmp_path)
    run.tables.mkdir(parents=True)
    users = [user for user in (1, 2, 3, 4) for _ in range(2)]
    ratings = {
        "userId": pa.array(users, pa.int32()),
        "movieId": pa.array([10, 20, 30, 40, 50, 60, 70, 80], pa.int32()),
        "rating": pa.array([1, 2, 3, 4, 5, 4.5, 2, 1], pa.float32()),
        "timestamp": pa.array(range(8), pa.int64()),
    }
    pq.write_table(pa.table(ratings), run.tables / "ratings.parquet", row_group_size=2, compression="none")
    titles = ["[REC] :x:", "Amélie", "a\x1b[31m", "b\nc", "E", "F", "G", "H"]
    movies = {
        "movieId": pa.array(range(10, 90, 10), pa.int32()),
        "title": titles,
        "year": pa.array([2007, 2001, 0, 0, 0, 0, 0, 0], pa.int16()),
    }
    pq.write_table(pa.table(movies), run.tables / "movies.parquet", row_group_size=2)
    pq.write_table(pa.table({"userId": pa.array([1, 2, 3, 4], pa.int32())}), run.tables / "users.parquet")
    seal(run.tables, "made by hand")
    return run


def shown(table) -> str:
    from core.terminal import Terminal

    on = Terminal(file=io.StringIO(), width=200)
    on.print(table)
    return on.file.getvalue()


def recommended(run: Run, user: int, movies: list[int], history: tuple[int, ...] = ()) -> str:
    import numpy as np

    return shown(recommendations_table(run, user, list(history), np.array(movies), np.ones(len(movies)), True))


def test_recommendations_read_the_rows_of_their_user_alone(tables):
    """What other users rated is overwritten with nonsense, and never looked at."""
    path = tables.tables / "ratings.parquet"
    metadata = pq.ParquetFile(path).metadata
    raw = bytearray(path.read_bytes())
    for group in (0, 1, 3):
        for column in range(4):
            chunk = metadata.row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            raw[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(raw)
    rows = [line.split() for line in recommended(tables, 3, [10, 20]).splitlines()]
    assert [row[-2:] for row in rows if row[-1:] in (["5"], ["4.5"])] == [["E", "5"], ["F", "4.5"]]
    for user in (5, -1, 2**40, -(2**63)):  # of whom nothing is there
        assert "liked" not in recommended(tables, user, [10, 20])


def test_rows_in_any_order_are_found(tables):
    path = tables.tables / "ratings.parquet"
    order = [7, 4, 0, 2, 5, 1, 3, 6]
    pq.write_table(pq.read_table(path).take(order), path, row_group_size=3)
    rows = [line.split() for line in recommended(tables, 3, [10, 20]).splitlines()]
    assert [row[-2:] for row in rows if row[-1:] in (["5"], ["4.5"])] == [["E", "5"], ["F", "4.5"]]


def test_titles_are_shown_as_they_are(tables):
    text = recommended(tables, 1, [10, 20, 30, 40, 999])
    for title in ("[REC] :x: (2007)", "Amélie (2001)", "a\\x1b[31m", "b\\nc", "Movie 999"):
        assert title in text
    assert "\x1b" not in text
    assert "a\\x1b[31m" in shown(similar_table(tables, 30, *similar_answer()))
    scores = shown(scores_table(tables, 1, [30, 2**62], *similar_answer()))
    assert "a\\x1b[31m" in scores
    assert "not in the dataset" in scores
    assert "what you liked" in recommended(tables, -1, [20], (10, 999))


def similar_answer():
    import numpy as np

    return np.array([10, 20]), np.array([0.5, 0.25])


def test_a_table_that_is_cut_short_says_what_to_do(tables):
    path = tables.tables / "ratings.parquet"
    for content in (path.read_bytes()[:-20], b"", b"not parquet at all"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"ratings\.parquet cannot be read") as refused:
            recommended(tables, 1, [10])
        assert "python -m marquee fetch" in str(refused.value)
    shutil.rmtree(tables.tables)
    with pytest.raises(UserError, match="is missing; run: python -m marquee fetch"):
        recommended(tables, 1, [10])


def test_a_known_user_is_looked_for(tables):
    assert known_user(tables) == 1
    assert known_user(tables, 3) == 3
    for user in (5, 2**40):
        with pytest.raises(UserError, match="its users go from 1 to 4"):
            known_user(tables, user)

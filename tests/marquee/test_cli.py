"""The command line as a user meets it: `python -m marquee` in a process of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from core.artifacts import verify
from core.errors import UserError
from core.json_files import read_json
from core.resources import STAGES, read_stages
from core.run_folder import Run
from ensemble.server.ports import free_port
from marquee import __version__
from marquee.app import main
from models.baselines.truth import is_synthetic
from tests.names import COMPARED, DEFAULT_PROTOCOLS, EVERY_NETWORK, HANG_SECONDS, NETWORKS, PROTOCOLS
from tests.processes import take_interrupts
from workflows.sources.datasets import DATASETS

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    *("fetch", "synth", "prepare", "train", "evaluate", "export", "rollback", "serve", "health", "recommend"),
    *("similar", "score", "dashboard", "run", "tune", "compare", "paper", "report"),
)
LISTED = ", ".join(sorted(EVERY_NETWORK))  # as messages name them
SMALL = ("--dataset", "ml-latest-small")


def environment() -> dict[str, str]:
    """Without the variables that a user may have set for Marquee, and wide enough that tables do not wrap."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return {**kept, "COLUMNS": "160", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def marquee(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "marquee", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=HANG_SECONDS)


@contextmanager
def started(*arguments: object, log: Path) -> Iterator[subprocess.Popen]:
    """A command that keeps running, its output in `log`; killed at the end with everything that it started."""
    command = [sys.executable, "-m", "marquee", *map(str, arguments)]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=output, stderr=subprocess.STDOUT, preexec_fn=take_interrupts
        )
    try:
        yield process
    finally:
        for one in family_of(process.pid):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(HANG_SECONDS)


def family_of(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def wait_until_served(process: subprocess.Popen, log: Path) -> None:
    """An error says that no Triton answers, in the middle of its line."""
    says = re.compile("^Triton answers", re.MULTILINE)
    wait_for(lambda: says.search(log.read_text()) or process.poll() is not None, "the server")
    assert process.poll() is None, log.read_text()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)


def refusal(*arguments: object) -> str:
    """The one line on stderr of a command that cannot do what it is asked to."""
    result = marquee(*arguments)
    assert "Traceback" not in result.stdout + result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert result.returncode == 2
    return lines[0]


def main_here(*arguments: object) -> int:
    """The exit code of a command in this process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, before)
    return left.value.code


# -- help --------------------------------------------------------------------------------------------------------------


def test_help_lists_every_command():
    result = marquee("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", result.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = marquee(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"python -m marquee {command}" in result.stdout
    own = {"paper": "--data ", "health": "--url"}
    assert own.get(command, "--dataset") in result.stdout


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_help_has_a_short_name_and_displays_no_type_for_flags(capsys, command):
    assert main_here(*command, "--help") == 0
    long = capsys.readouterr().out
    assert main_here(*command, "-h") == 0
    assert capsys.readouterr().out == long
    assert "<bool>" not in long
    assert "<" not in long.replace("<=", "")


def test_help_names_what_the_registries_hold(capsys):
    """The texts wrap in a table, so each name is looked for alone."""
    for command, known in (("fetch", DATASETS), ("train", (*NETWORKS, *PROTOCOLS)), ("export", COMPARED)):
        assert main_here(command, "--help") == 0
        output = capsys.readouterr().out
        for name in known:
            assert name in output
    assert main_here("train", "--help") == 0
    words = " ".join(re.sub("[│|]", " ", capsys.readouterr().out).split())
    assert f"{LISTED} or all" in words
    assert "leave-one-out, random-split, rating, temporal, rating-u1 to rating-u5, both" in words
    assert "rating-u2" not in words  # the folds are named once


def test_the_version_is_printed(capsys):
    assert main_here("--version") == 0
    assert capsys.readouterr().out == f"marquee {__version__}\n"
    assert __version__ == "0.1.0"


# -- synthetic data ----------------------------------------------------------------------------------------------------


def test_synth_makes_data_that_fetch_takes_and_leaves_it_the_second_time(tmp_path):
    folder = tmp_path / "deep" / "synthetic"
    made = ("synth", "--like", "ml-latest-small", "--scale", 0.05, "--out", folder)
    first = marquee(*made)
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert lines[-1].strip() == f"python -m marquee run --dataset ml-latest-small --data {folder}"
    text = " ".join(first.stdout.split())
    assert f"{folder}: 50 users, 1,010 movies, 5,042 ratings, 184 tags" in text
    assert re.search(r"HR@10 0\.\d{3} \(popularity 0\.\d{3}\), AUC .* 0\.\d{3}", text)
    verify(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = marquee(*made)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines()[1:] == lines[1:]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    other = refusal(*made, "--seed", 1)
    assert str(folder) in other
    assert "--out" in other
    fetched = marquee("fetch", *lines[-1].split()[4:], "--runs", tmp_path / "runs")
    assert (fetched.returncode, fetched.stderr) == (0, "")
    run = Run(tmp_path / "runs" / "ml-latest-small")
    assert is_synthetic(run.tables)
    assert read_stages(run).keys() == {"fetch"}


def test_synth_without_a_folder_makes_a_dataset_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MARQUEE_DATA", str(tmp_path / "home"))
    assert main_here("synth", "--like", "ml-latest-small", "--scale", 0.05) == 0
    name = "synth-ml-latest-small-0.05"
    assert capsys.readouterr().out.splitlines()[-1].strip() == f"python -m marquee run --dataset {name}"
    assert [path.name for path in (tmp_path / "home").iterdir()] == [name]


# -- bad input ---------------------------------------------------------------------------------------------------------

BAD_INPUT = {
    "an unknown dataset": (("fetch", "--dataset", "ml-7b"), "ml-latest-small"),
    "an unknown dataset of run": (("run", "--dataset", "../etc"), "unknown dataset"),
    "data that is not there": (("fetch", *SMALL, "--data", "{tmp}/none"), "{tmp}/none"),
    "data without ratings": (("fetch", *SMALL, "--data", "{tmp}"), "{tmp}"),
    "data of run that is not there": (("run", *SMALL, "--data", "{tmp}/none"), "{tmp}/none"),
    "no epochs": (("train", *SMALL, "--epochs", "0"), "--epochs"),
    "epochs that are not a number": (("train", *SMALL, "--epochs", "ten"), "--epochs"),
    "a seed that is not a whole number": (("train", *SMALL, "--seed", "1.5"), "--seed"),
    "a negative seed": (("prepare", *SMALL, "--seed", "-1"), "--seed"),
    "no threshold": (("prepare", *SMALL, "--freq-threshold", "0"), "--freq-threshold"),
    "an unknown model": (("train", *SMALL, "--model", "svd"), f"{LISTED}, all"),
    "an unknown protocol": (
        ("train", *SMALL, "--protocol", "k-fold"), "leave-one-out, random-split, rating, temporal, rating-u1, "
    ),
    "an unknown protocol to export": (("export", *SMALL, "--protocol", "all"), "leave-one-out, random-split"),
    "an unknown default model": (("export", *SMALL, "--default-model", "svd"), LISTED),
    "a learning rate that is not a number": (("train", *SMALL, "--learning-rate", "fast"), "--learning-rate"),
    "serving before exporting": (("serve", *SMALL, "--port", "{port}"), "repository"),
    "recommending without a server": (
        ("recommend", "--user", "1", "--url", "127.0.0.1:{port}"), "python -m marquee serve --runs {tmp}/runs",
    ),
    "scoring without a server": (
        ("score", "--user", "1", "--movie", "1", "--url", "127.0.0.1:{port}"),
        "python -m marquee serve --runs {tmp}/runs",
    ),
    "asking for similar movies without a server": (
        ("similar", *SMALL, "--movie", "1", "--url", "127.0.0.1:{port}"),
        "python -m marquee serve --dataset ml-latest-small --runs {tmp}/runs",
    ),
    "something that is not a url": (("recommend", "--user", "1", "--url", "nonsense"), "nonsense"),
    "no movies to recommend": (("recommend", "--user", "1", "-k", "0", "--url", "127.0.0.1:{port}"), "-k"),
    "a user that is not a number": (("recommend", "--user", "anna"), "--user"),
    "an unknown option": (("fetch", "--dateset", "ml-100k"), "--dateset"),
    "an unknown command": (("predict",), "predict"),
    "no user": (("recommend",), "give --user, or --history for a new user"),
    "no secret in the file": (("recommend", "--user", "1", "--secret-file", "nothing"), "does not hold a secret"),
    "a client certificate without TLS": (("recommend", "--user", "1", "--certificate", "nothing"), "certificate"),
    "an unknown runtime": (("export", "--runtime", "pytriton"), "choose one of marquee, merlin"),
    "a default model for Merlin's runtime": (("export", "--runtime", "merlin", "--default-model", "ncf"), "--runtime"),
    "TLS for Merlin's runtime": (("serve", "--runtime", "merlin", "--tls-key", "nothing"), "no other server option"),
    "rolling back before exporting": (("rollback", *SMALL), "export"),
    "no movie": (("score", "--user", "1"), "--movie"),
    "an option without its value": (("fetch", "--dataset"), "--dataset"),
    "synthetic data that is not there": (("fetch", "--dataset", "synth-none"), "marquee synth"),
    "an unknown release to imitate": (("synth", "--like", "ml-1m", "--out", "{tmp}/out"), "ml-20m, ml-25m"),
    "synthetic data of no size": (("synth", "--scale", "0", "--out", "{tmp}/out"), "--scale"),
    "an unknown protocol to tune": (("tune", *SMALL, "--protocol", "k-fold"), "both, standard, folds, all"),
    "no trials": (("tune", *SMALL, "--trials", "0"), "--trials"),
    "no seconds": (("tune", *SMALL, "--seconds", "0"), "--seconds"),
    "an unknown protocol to compare": (("compare", *SMALL, "--protocol", "k-fold"), "both, standard, folds, all"),
    "no seeds": (("compare", *SMALL, "--seeds", "0"), "--seeds"),
    "results where nothing can be written": (("compare", *SMALL, "--out", "{tmp}/none/out.json"), "{tmp}/none"),
    "the paper's files that are not there": (("paper", "--data", "{tmp}/none"), "{tmp}/none"),
    "the paper without its files": (("paper",), "--data"),
    "no threads": (("train", *SMALL, "--threads", "0"), "--threads"),
    "a setting without a value": (("train", *SMALL, "--set", "epochs"), "--set network.dim=64"),
    "a setting given twice": (("train", *SMALL, "--set", "l2=1", "--set", "l2=2"), "--set l2 is given twice"),
    "an option and the same setting": (("train", *SMALL, "--epochs", "2", "--set", "epochs=3"), "the same setting"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_reported_in_one_line(tmp_path, what):
    arguments, words = BAD_INPUT[what]
    names = {"tmp": tmp_path, "port": free_port()}
    given = [argument.format(**names) for argument in arguments]
    if given[0] in COMMANDS and given[0] not in ("synth", "paper", "health") and what != "an option without its value":
        given += ["--runs", tmp_path / "runs"]
    assert words.format(**names) in refusal(*given)
    assert list(tmp_path.iterdir()) == []  # no empty folder is left


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("train", "--epochs", "0"), "python -m marquee train --help"),
        (("fetch", "--dateset", "ml-100k"), "python -m marquee fetch --help"),
        (("score", "--user", "1"), "python -m marquee score --help"),
        (("fetch", "--dataset"), "python -m marquee fetch --help"),
        (("predict",), "python -m marquee --help"),
        (("--dataset", "ml-100k"), "python -m marquee --help"),
    ],
)
def test_an_error_about_an_option_names_the_help_of_its_command(capsys, arguments, command):
    assert refusal_here(capsys, *arguments).endswith(f"; see: {command}")


@pytest.mark.parametrize(("group", "member"), [((), "evaluate"), (("ratings",), "export")])
def test_without_a_command_the_help_is_shown_and_the_error_is_a_sentence(capsys, group, member):
    with pytest.raises(SystemExit) as end:
        main(list(group))
    shown = capsys.readouterr()
    assert end.value.code == 2
    assert member in shown.out
    program = " ".join(("python -m marquee", *group))
    assert " ".join(shown.err.split()) == f"error: Missing command; see: {program} --help"


HEAVY = {"merlin", "nvtabular", "torch", "tensorflow", "optuna"}
LIST_MODULES = """
import sys
from marquee import __version__
from marquee.app import main
try:
    main(sys.argv[1:])
finally:
    print(*{name.split(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize(
    ("command", "missing", "words"),
    [
        ("prepare", "fetch", "tables is missing or incomplete"),
        ("train", "prepare", "leave-one-out is missing or incomplete"),
        ("tune", "prepare", "leave-one-out is missing or incomplete"),
        ("compare", "prepare", "leave-one-out is missing or incomplete"),
        ("evaluate", "train", "no model is trained in"),
        ("report", "evaluate", "evaluation.json is missing"),
        ("export", "train", "no model is trained in"),
        ("serve", "export", "repository is missing or incomplete"),
        ("rollback", "export", "repository is missing or incomplete"),
    ],
)
def test_a_stage_without_its_input_says_so_before_it_imports_merlin(tmp_path, command, missing, words):
    arguments = [command, *SMALL, "--runs", str(tmp_path / "my runs")]
    result = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, *arguments], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert words in line
    remedy = f"run: python -m marquee {missing} --dataset ml-latest-small --runs '{tmp_path / 'my runs'}'"
    assert line.endswith(remedy)
    assert not HEAVY & set(result.stdout.split())
    assert list(tmp_path.iterdir()) == []


def refusal_here(capsys, *arguments: object) -> str:
    """As `refusal`, in this process, which has waited for Merlin already."""
    assert main_here(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.slow
def test_tune_goes_on_with_a_study_that_is_there_and_refuses_to_where_there_is_none(prepared, tmp_path, capsys):
    shutil.copytree(prepared.root, tmp_path / prepared.root.name, ignore=shutil.ignore_patterns("models"))
    ease = ("tune", *SMALL, "--runs", tmp_path, "--protocol", "leave-one-out", "--model", "ease")
    assert "has no study to go on with; run python -m marquee tune" in refusal_here(capsys, *ease, "--resume")
    assert main_here(*ease, "--trials", "1") == 0
    assert main_here(*ease, "--seconds", "1", "--resume") == 0
    capsys.readouterr()
    assert main_here(*ease, "--trials", "1", "--seed", "7") == 0
    assert "ease, leave-one-out: seed changed since the last study, so a new one begins" in capsys.readouterr().out
    assert "its seed changed; run python -m marquee tune" in refusal_here(capsys, *ease, "--resume", "--seed", "8")
    # Of several studies, none goes on where one cannot.
    both = ("tune", *SMALL, "--runs", tmp_path, "--protocol", "leave-one-out", "--trials", "2", "--resume")
    assert "dlrm has no study to go on with" in refusal_here(capsys, *both)


@pytest.mark.slow
def test_an_unknown_model_to_tune_is_reported_in_one_line(prepared, tmp_path, capsys):
    shutil.copytree(prepared.root, tmp_path / prepared.root.name, ignore=shutil.ignore_patterns("models"))
    line = refusal_here(capsys, "tune", *SMALL, "--runs", tmp_path, "--protocol", "rating", "--model", "ease")
    assert "'ease'" in line
    assert "rating" in line
    assert (
        "dlrm, ncf, mf, svdpp, dlrm-rated-sets, ncf-history, dlrm-without-history, bayesian-fm, knn, svd, biases"
        in line
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--precision", "float64"), ['precision is "float64"', "'auto', 'float32' or 'bfloat16'"]),
        (("--set", "schedule=linear"), ['schedule is "linear"', "'constant' or 'cosine'"]),
        (("--set", "epochs=0"), ["epochs is 0", "greater than 0"]),
        (("--learning-rate", "5"), ["learning_rate is 5", "above 0 and below 1"]),
        (("--learning-rate", "0"), ["learning_rate is 0", "greater than 0"]),
        (("--learning-rate", "nan"), ["learning_rate is nan", "not a finite number"]),
        (("--set", "learning_rate=5"), ["learning_rate is 5", "above 0 and below 1"]),
        (("--set", 'network.dim="64"'), ['network: dim is "64"', "integer"]),
        (("--set", "network.dimm=3"), ["network: dimm is unknown", "allowed is: dim, init_std"]),
    ],
)
def test_a_setting_that_is_not_allowed_is_reported_in_one_line(prepared, tmp_path, capsys, arguments, words):
    shutil.copytree(prepared.root, tmp_path / prepared.root.name, ignore=shutil.ignore_patterns("models"))
    line = refusal_here(capsys, "train", *SMALL, "--runs", tmp_path, *arguments)
    for word in ["dlrm, leave-one-out", *words]:
        assert word in line
    assert not list((tmp_path / prepared.root.name).glob("models/*/*"))


def test_an_unknown_model_of_the_paper_is_reported_in_one_line(tmp_path, capsys):
    (tmp_path / "ml-1m.train.rating").write_text("0\t0\t5\t100\n0\t1\t3\t102\n1\t1\t1\t200\n1\t3\t2\t199\n")
    (tmp_path / "ml-1m.test.rating").write_text("0\t4\t4\t110\n1\t5\t3\t210\n")
    (tmp_path / "ml-1m.test.negative").write_text("(0,4)\t7\t8\t9\n(1,5)\t8\t7\t0\n")
    before = sorted(tmp_path.iterdir())
    line = refusal_here(capsys, "paper", "--data", tmp_path, "--model", "svd")
    assert "unknown model 'svd'" in line
    assert "popularity, itemknn" in line
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_train_changes_any_setting_and_says_where_the_others_come_from(prepared, tmp_path, capsys):
    run = Run(tmp_path / prepared.root.name)
    shutil.copytree(prepared.root, run.root, ignore=shutil.ignore_patterns("models"))
    arguments = ("train", *SMALL, "--runs", tmp_path, "--model", "ncf", "--protocol", "random-split", "--epochs", 1)
    line = refusal_here(capsys, *arguments, "--set", "network.dimension=8")
    assert "ncf, random-split, network: dimension is unknown" in line
    assert "dim" in line.partition("allowed")[2]
    assert "epochs" in refusal_here(capsys, *arguments[:-2], "--set", "epochs=many")
    assert not (run.root / "models").exists()
    assert main_here(*arguments, "--set", "network.dim=8", "--set", "batch_size=512") == 0
    changes = "with network.dim=8, batch_size=512, epochs=1"
    assert f"ncf, random-split: settings from models/training/defaults/ml-100k.json, {changes}\n" in (
        capsys.readouterr().out
    )
    settings = read_json(run.model("random-split", "ncf") / "config.json")["settings"]
    assert (settings["network"]["dim"], settings["batch_size"], settings["epochs"]) == (8, 512, 1)
    best = run.tuning("random-split", "ncf") / "best.json"
    best.parent.mkdir(parents=True)
    best.write_text('{"settings": {"network": {"dim": 4}, "epochs": 1}}')
    assert main_here(*arguments[:-2]) == 0
    assert f"ncf, random-split: settings from {best}\n" in capsys.readouterr().out
    assert read_json(run.model("random-split", "ncf") / "config.json")["settings"]["network"]["dim"] == 4


@pytest.mark.slow
def test_a_failed_stage_leaves_no_empty_folder(prepared, tmp_path, capsys):
    run = Run(tmp_path / prepared.root.name)
    shutil.copytree(prepared.tables, run.tables)
    before = sorted(path for path in run.root.rglob("*") if path.is_dir())
    (run.tables / "ratings.parquet").write_bytes(b"")
    for command in ("prepare", "train", "tune", "compare", "evaluate", "export"):
        refusal_here(capsys, command, *SMALL, "--runs", tmp_path)
    assert sorted(path for path in run.root.rglob("*") if path.is_dir()) == before


@pytest.mark.slow
def test_a_scheduler_that_is_not_an_address_is_reported_in_one_line(prepared, tmp_path):
    shutil.copytree(prepared.tables, tmp_path / prepared.root.name / "tables")
    line = refusal("prepare", *SMALL, "--runs", tmp_path, "--scheduler", "nonsense")
    assert "nonsense" in line
    assert "tcp://host:port" in line
    assert not (tmp_path / prepared.root.name / "features").exists()


@pytest.mark.parametrize("command", ["fetch", "prepare", "train", "export"])
def test_a_folder_that_cannot_be_written_is_reported_in_one_line(tmp_path, command):
    (tmp_path / "file").write_text("")
    data = ("--data", ROOT / "tests") if command == "fetch" else ()
    message = refusal(command, *SMALL, *data, "--runs", tmp_path / "file" / "runs")
    assert str(tmp_path / "file") in message
    assert "--runs" in message


def test_two_processes_do_not_write_at_once(tmp_path):
    run = Run(tmp_path / "ml-latest-small")
    with run.lock():
        message = refusal("prepare", *SMALL, "--runs", tmp_path)
    assert "another marquee process" in message
    assert str(run.root) in message


# -- everything in order -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(movielens, tmp_path_factory) -> tuple[Run, subprocess.CompletedProcess]:
    """`run` from nothing."""
    runs = tmp_path_factory.mktemp("cli")
    result = marquee("run", *SMALL, "--data", movielens, "--runs", runs, "--epochs", 1)
    return Run(runs / "ml-latest-small"), result


def titles_in(output: str) -> list[str]:
    """The recommended titles, first to last."""
    rows = re.findall(r"^\W*(\d+)\W+(Movie, The \d+|The Movie \d+|Movie \d+)", output, re.MULTILINE)
    return [title for _, title in sorted(rows, key=lambda row: int(row[0]))]


def written(run: Run) -> dict[str, tuple[int, int]]:
    """Every model file, its inode and its time."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(run.root.glob("models/**/*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_run_does_it_all(finished):
    run, result = finished
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "leave-one-out" in result.stdout
    assert "random-split" in result.stdout
    for name in (*NETWORKS, "ease", "als", "itemknn", "popularity", "biases"):
        assert re.search(rf"^\W*{name}\W.*\d\.\d{{3}}", result.stdout, re.MULTILINE)
    titles = titles_in(result.stdout)
    assert len(titles) == len(set(titles)) == 10
    results = read_json(run.evaluation)
    assert {(entry["protocol"], entry["model"]) for entry in results} >= {
        (p, m) for p in DEFAULT_PROTOCOLS for m in NETWORKS
    }
    assert {entry["epochs"] for entry in results if entry["model"] in NETWORKS} == {1}
    stages = read_stages(run)
    assert tuple(stages) == STAGES
    assert all(entry["stages"] == stages for entry in results)
    assert re.search(r"^Stages: fetch \d+ s, prepare \d+ s, .*; peak memory \d\.\d GB$", result.stdout, re.MULTILINE)
    for folder in (run.tables, run.repository, *(run.features / protocol for protocol in DEFAULT_PROTOCOLS)):
        verify(folder)
    for protocol in DEFAULT_PROTOCOLS:
        for name in NETWORKS:
            verify(run.model(protocol, name))


@pytest.mark.slow
def test_the_same_again_reuses_everything(finished, movielens):
    run, first = finished
    before, evaluated, stages = written(run), run.evaluation.stat().st_mtime_ns, read_stages(run)
    repository = read_json(run.repository / "manifest.json")
    result = marquee("run", *SMALL, "--data", movielens, "--runs", run.root.parent, "--epochs", 1)
    assert result.returncode == 0, result.stderr
    assert written(run) == before
    assert read_stages(run) == stages
    assert run.evaluation.stat().st_mtime_ns == evaluated
    assert read_json(run.repository / "manifest.json") == repository
    assert result.stdout.count("reused") >= 1 + len(DEFAULT_PROTOCOLS) + len(DEFAULT_PROTOCOLS) * len(NETWORKS)
    assert titles_in(result.stdout) == titles_in(first.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_serving_ends_with_its_command_and_leaves_no_process(finished, tmp_path, number, code):
    run, _ = finished
    log, port = tmp_path / "serve.log", free_port()
    with started("serve", *SMALL, "--runs", run.root.parent, "--port", port, log=log) as process:
        wait_until_served(process, log)
        family = family_of(process.pid)
        assert len(family) >= 3  # the command, Triton, its stubs
        if number == signal.SIGTERM:
            asked = marquee("recommend", *SMALL, "--runs", run.root.parent, "--user", 1, "--url", f"127.0.0.1:{port}")
            assert asked.returncode == 0, asked.stderr
            assert len(titles_in(asked.stdout)) == 10
            scored = marquee(
                "score", *SMALL, "--runs", run.root.parent, "--user", 1, "--movie", 10, "--movie", 5,
                "--url", f"127.0.0.1:{port}",
            )  # fmt: skip
            assert scored.returncode == 0, scored.stderr
            assert "not in the dataset" in scored.stdout
            where = (*SMALL, "--runs", run.root.parent, "--url", f"127.0.0.1:{port}")
            stranger = marquee("recommend", *where, "--user", 2).stdout
            assert "Triton does not know this person" in stranger
            newcomer = marquee("recommend", *where, "--history", 10, "--history", 500).stdout
            assert "what you liked" in newcomer
            assert titles_in(newcomer) != titles_in(stranger)
            assert len(titles_in(marquee("similar", *where, "--movie", 10).stdout)) == 10
            assert "movie 11 is not in the data" in refusal("similar", *where, "--movie", 11)
            known = titles_in(marquee("recommend", *where, "--user", 1, "--strategy", "two-stage").stdout)
            assert known == titles_in(asked.stdout)
            for name in COMPARED:
                by_name = marquee("recommend", *where, "--user", 1, "--model", name)
                assert len(titles_in(by_name.stdout)) == 10, by_name.stderr
            assert "unknown model 'svd'" in refusal("recommend", *where, "--user", 1, "--model", "svd")
            taken = refusal("serve", *SMALL, "--runs", run.root.parent, "--port", port)
            assert f"port {port}" in taken
        process.send_signal(number)
        assert process.wait(HANG_SECONDS) == code
        _, alive = psutil.wait_procs(family, timeout=HANG_SECONDS)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    verify(run.repository)
    assert "Traceback" not in log.read_text()
    if code > 0:
        assert log.read_text().splitlines()[-1] == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED)
def test_one_model_alone_is_evaluated_exported_and_served(prepared, tmp_path, capsys, name):
    run = Run(tmp_path / prepared.root.name)
    shutil.copytree(prepared.root, run.root, ignore=shutil.ignore_patterns("models"))
    where = (*SMALL, "--runs", tmp_path)
    assert main_here("train", *where, "--model", name, "--protocol", "leave-one-out", "--epochs", 1) == 0
    capsys.readouterr()
    assert main_here("evaluate", *where) == 0, capsys.readouterr().err
    (other,) = set(COMPARED) - {name}
    rows = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {name, "ease", "popularity"} <= rows
    assert other not in rows
    results = read_json(run.evaluation)
    assert {result["protocol"] for result in results} == {"leave-one-out"}
    assert [result["model"] for result in results if result["epochs"]] == [name]
    assert main_here("export", *where) == 0, capsys.readouterr().err
    assert f"{name} by default" in " ".join(capsys.readouterr().out.split())  # the line wraps
    assert verify(run.repository)["default_model"] == name
    line = refusal_here(capsys, "export", *where, "--default-model", other)
    assert f"{other} is not trained for leave-one-out" in line
    log, port = tmp_path / "serve.log", free_port()
    with started("serve", *where, "--port", port, log=log) as process:
        wait_until_served(process, log)
        asked = (*where, "--url", f"127.0.0.1:{port}")
        assert main_here("recommend", *asked, "--user", 1) == 0, capsys.readouterr().err
        assert len(titles_in(capsys.readouterr().out)) == 10
        for model in ((), ("--model", name)):
            assert main_here("score", *asked, "--user", 1, "--movie", 10, *model) == 0, capsys.readouterr().err
        capsys.readouterr()
        line = refusal_here(capsys, "score", *asked, "--user", 1, "--movie", 10, "--model", other)
        assert f"'{other}'" in line
        assert name in line


@pytest.mark.slow
def test_a_killed_training_leaves_nothing_that_is_taken_for_whole(finished, tmp_path):
    run = Run(tmp_path / "ml-latest-small")
    shutil.copytree(finished[0].root, run.root, ignore=shutil.ignore_patterns("models", "repository", ".lock"))
    log = tmp_path / "train.log"
    arguments = ("train", *SMALL, "--runs", tmp_path, "--model", "ncf", "--protocol", "random-split")
    forever = ("--epochs", 1_000_000, "--patience", 1_000_000)
    with started(*arguments, *forever, log=log) as process:
        checkpoint = run.model("random-split", "ncf").with_name(".ncf.checkpoint") / "manifest.json"
        wait_for(lambda: checkpoint.is_file() or process.poll() is not None, "the training's first checkpoint")
        assert process.poll() is None, log.read_text()
        process.kill()
        process.wait(HANG_SECONDS)
    with pytest.raises(UserError):
        verify(run.model("random-split", "ncf"))
    result = marquee(*arguments, "--epochs", 1)
    assert result.returncode == 0, result.stderr
    verify(run.model("random-split", "ncf"))
    assert [path.name for path in run.model("random-split", "ncf").parent.iterdir()] == ["ncf"]

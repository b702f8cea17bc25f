"""The questions to a server, asked with a copied repository alone: titles come from there."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.artifacts import seal, verify
from core.errors import UserError
from core.run_folder import Run
from core.terminal import Terminal
from ensemble.repository.versions import rollback
from ensemble.server.ports import Ports, free_port
from ensemble.server.process import running
from marquee.exported import Exported
from marquee.tables import recommendations_table, scores_table, similar_table
from tests.names import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
MOVIES = np.array([10, 20, 999])
SCORES = np.array([0.5, 0.25, 0.125])


@pytest.fixture
def copied(exported, tmp_path) -> Exported:
    """A copy of the repository in a folder of its own; nothing else of the run is there."""
    return Exported(Path(shutil.copytree(exported.repository, tmp_path / "deployed")))


def shown(table) -> str:
    on = Terminal(file=io.StringIO(), width=200)
    on.print(table)
    return on.file.getvalue()


def titles(run: Run) -> dict[int, str]:
    table = pd.read_parquet(run.tables / "movies.parquet")
    return dict(zip(table["movieId"], table["title"]))


def test_titles_come_from_the_repository(exported, copied):
    expected = titles(exported)
    for text in (
        shown(recommendations_table(copied, 1, [], MOVIES, SCORES, True)),
        shown(similar_table(copied, 30, MOVIES, SCORES)),
        shown(scores_table(copied, 1, MOVIES.tolist(), SCORES, np.array([True, True, False]))),
    ):
        assert expected[10] in text
        assert expected[20] in text
        assert "Movie 999" in text or "not in the dataset" in text


def test_they_are_the_same_as_from_the_run(exported, copied):
    for table in (similar_table, lambda source, *rest: recommendations_table(source, -1, [10, 20], *rest[1:], True)):
        assert shown(table(exported, 30, MOVIES, SCORES)) == shown(table(copied, 30, MOVIES, SCORES))


def test_what_a_user_liked_does_not_travel(exported, copied):
    assert "stars" in shown(recommendations_table(exported, 1, [], MOVIES, SCORES, True))
    text = shown(recommendations_table(copied, 1, [], MOVIES, SCORES, True))
    assert "stars" not in text
    assert "liked" not in text
    assert "what you liked" in shown(recommendations_table(copied, -1, [10], MOVIES, SCORES, True))


def test_a_repository_without_titles_shows_ids(copied):
    manifest = verify(copied.folder)
    (copied.folder / "score" / "1" / "titles.parquet").unlink()
    details = {name: value for name, value in manifest.items() if name not in ("format", "files", "fingerprint")}
    seal(copied.folder, manifest["fingerprint"], **details)
    assert copied.titles() is None
    assert "Movie 10" in shown(similar_table(copied, 30, MOVIES, SCORES))
    assert "like Movie 30" in shown(similar_table(copied, 30, MOVIES, SCORES))
    assert "Movie 10" in shown(scores_table(copied, 1, [10], SCORES, np.array([True])))


def test_titles_are_of_the_version_that_serves(run_of_two):
    for version in (2, 1):
        assert run_of_two.titles() == run_of_two.folder / "score" / str(version) / "titles.parquet"
        rollback(run_of_two.folder)


@pytest.fixture
def run_of_two(exported, copied) -> Exported:
    from ensemble.repository.versions import new_version

    with new_version(copied.folder, "b", None, {}) as (out, version):
        for model in ("recommend", "score", "scorer", "similar"):
            shutil.copytree(copied.folder / model / "1", out / model / str(version))
            shutil.copy(copied.folder / model / "1" / "config.pbtxt", out / model / "config.pbtxt")
    return copied


def refusal(source: Exported) -> str:
    with pytest.raises(UserError) as caught:
        similar_table(source, 30, MOVIES, SCORES)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_repository_is_one_line(copied, tmp_path):
    assert str(tmp_path / "none") in refusal(Exported(tmp_path / "none"))
    path = copied.folder / "score" / "1" / "titles.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    assert f"{path} is missing or has changed" in refusal(copied)
    path.unlink()
    assert f"{path} is missing or has changed" in refusal(copied)


def test_titles_that_are_no_table_are_one_line(copied):
    path = copied.folder / "score" / "1" / "titles.parquet"
    path.write_bytes(b"no table")
    manifest = json.loads((copied.folder / "manifest.json").read_bytes())
    details = {name: value for name, value in manifest.items() if name not in ("format", "files", "fingerprint")}
    seal(copied.folder, manifest["fingerprint"], **details)
    assert f"{path} cannot be read" in refusal(copied)


def marquee(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "PYTHON"))}
    command = [sys.executable, "-m", "marquee", *map(str, arguments)]
    variables = {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=HANG_SECONDS)


def test_the_command_that_starts_a_server_names_the_repository(copied, tmp_path):
    url = f"127.0.0.1:{free_port()}"
    found = marquee("similar", "--movie", 10, "--repository", copied.folder, "--url", url, cwd=tmp_path)
    assert found.returncode == 2
    assert f"python -m marquee serve --repository {copied.folder}" in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_server_can_be_asked_with_the_repository_alone(exported, copied, tmp_path):
    expected = titles(exported)
    (tmp_path / "empty").mkdir()
    with running(copied.folder, tmp_path / "triton.log", Ports(free_port())) as server:
        where = ("--repository", copied.folder, "--url", server.url)
        for question in (
            ("recommend", "--user", 1, "-k", 3),
            ("recommend", "--history", 10, "--history", 20, "-k", 3),
            ("similar", "--movie", 10, "-k", 3),
            ("score", "--user", 1, "--movie", 10),
        ):
            found = marquee(*question, *where, cwd=tmp_path / "empty")
            assert (found.returncode, found.stderr) == (0, "")
            assert any(title in found.stdout for title in expected.values())
    assert list((tmp_path / "empty").iterdir()) == []
    verify(copied.folder)

"""Paths without characters that have a meaning to a library."""

import os
from pathlib import Path

import pytest

from core.errors import UserError
from core.plain_path import PLAIN, plain_path

ODD = [
    "runs [ab]",
    "a::b",
    "file:x",
    "x=1",
    "*",
    "?",
    "{a,b}",
    "100%",
    "a#b",
    "a\nb",
    "a'b",
    'a"b',
    "~",
    "a\\b",
    "$HOME",
]


@pytest.mark.parametrize("name", ["runs", "my runs", "Läufe", "実行", "a.b-c_d+e@f,g"])
def test_a_plain_path_is_the_folders_own(tmp_path, name):
    (tmp_path / name).mkdir()
    with plain_path(tmp_path / name) as path:
        assert path == tmp_path / name


@pytest.mark.parametrize("name", [*ODD, os.fsdecode(b"\xff\xfe")])
def test_an_odd_path_is_reached_by_a_plain_one(tmp_path, name):
    folder = tmp_path / name / "inner"
    folder.mkdir(parents=True)
    (folder / "file").write_text("content")
    with plain_path(folder) as path:
        assert PLAIN.fullmatch(str(path))
        assert (path / "file").read_text() == "content"
        (path / "new").write_text("new")
    assert not path.exists()
    assert (folder / "new").read_text() == "new"


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    (tmp_path / "cwd [x]").mkdir()
    monkeypatch.chdir(tmp_path / "cwd [x]")
    Path("runs").mkdir()
    with plain_path(Path("runs")) as path:
        assert path.is_absolute()
        assert "[" not in str(path)


def test_an_odd_temporary_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "t [x]").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t [x]"))
    with pytest.raises(UserError, match=r"'\['.* set TMPDIR"), plain_path(tmp_path / "t [x]"):
        pass

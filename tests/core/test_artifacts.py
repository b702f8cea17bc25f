"""Folders that are whole or not there, and what is said when one has been changed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.artifacts import fingerprint, is_current, new_folder, read_manifest, seal, sha256, verify
from core.errors import UserError
from core.json_files import read_json, write_json


@pytest.fixture
def sealed(tmp_path) -> Path:
    folder = tmp_path / "stage"
    (folder / "part").mkdir(parents=True)
    (folder / "a.txt").write_text("first")
    (folder / "part" / "b.txt").write_text("second")
    seal(folder, "made-from-1", seed=7)
    return folder


def refusal(folder: Path, check: Callable[..., object] = verify, **arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        check(folder, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def snapshot(folder: Path) -> dict[str, str]:
    """All that is under a folder, hidden files too."""
    return {p.relative_to(folder).as_posix(): p.read_text() if p.is_file() else "/" for p in folder.rglob("*")}


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_sealed_folder_verifies_and_gives_its_details(sealed):
    manifest = verify(sealed)
    assert manifest["fingerprint"] == "made-from-1"
    assert manifest["seed"] == 7
    assert manifest["files"] == {
        "a.txt": sha256(sealed / "a.txt"),
        "part/b.txt": sha256(sealed / "part" / "b.txt"),
    }


def test_sealing_again_gives_the_same_manifest(sealed):
    before = (sealed / "manifest.json").read_bytes()
    seal(sealed, "made-from-1", seed=7)
    assert (sealed / "manifest.json").read_bytes() == before


def test_a_changed_file_is_named(sealed):
    (sealed / "part" / "b.txt").write_text("Second")
    message = refusal(sealed)
    assert str(sealed / "part" / "b.txt") in message
    assert "changed" in message


def test_a_missing_file_is_named(sealed):
    (sealed / "a.txt").unlink()
    message = refusal(sealed)
    assert str(sealed / "a.txt") in message
    assert "missing" in message


def test_an_extra_file_is_named(sealed):
    (sealed / "part" / "extra.txt").write_text("new")
    message = refusal(sealed)
    assert str(sealed / "part" / "extra.txt") in message
    assert "not listed" in message


def test_a_manifest_deeper_down_is_a_file_like_any_other(sealed):
    (sealed / "part" / "manifest.json").write_text("{}")
    assert str(sealed / "part" / "manifest.json") in refusal(sealed)


def test_a_folder_without_manifest_is_incomplete(sealed):
    (sealed / "manifest.json").unlink()
    assert "incomplete" in refusal(sealed)


def test_a_folder_that_is_not_there_is_incomplete(tmp_path):
    assert "missing" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("check", [verify, read_manifest])
@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b'{"files": ', b"\xff\xfe\x00", b"[]", b"null", b"{}", b'{"format": 1, "files": ["a.txt"]}'),
        *(b'{"files": {}}', b'{"format": 2, "files": {}}'),
    ],
)
def test_a_file_that_is_not_a_manifest_is_refused(sealed, content, check):
    (sealed / "manifest.json").write_bytes(content)
    assert str(sealed / "manifest.json") in refusal(sealed, check)


def test_a_manifest_is_read_without_its_files(sealed):
    manifest = read_manifest(sealed)
    assert manifest == verify(sealed)
    (sealed / "a.txt").write_text("other")
    (sealed / "part" / "b.txt").unlink()
    assert read_manifest(sealed) == manifest


@pytest.mark.parametrize("check", [verify, read_manifest])
def test_the_command_that_makes_a_missing_folder_is_named(sealed, tmp_path, check):
    assert "python -m marquee prepare" in refusal(tmp_path / "nowhere", check, command="python -m marquee prepare")
    (sealed / "manifest.json").unlink()
    assert "python -m marquee export" in refusal(sealed, check, command="python -m marquee export")


def test_is_current_asks_for_the_same_inputs_and_a_whole_folder(sealed, tmp_path):
    assert is_current(sealed, "made-from-1")
    assert not is_current(sealed, "made-from-2")
    assert not is_current(tmp_path / "nowhere", "made-from-1")
    (sealed / "a.txt").write_text("other")
    assert not is_current(sealed, "made-from-1")


# -- new_folder --------------------------------------------------------------------------------------------------------


def test_a_new_folder_appears_whole(tmp_path):
    target = tmp_path / "deep" / "stage"
    with new_folder(target, "made-from-1", seed=7) as out:
        (out / "a.txt").write_text("first")
        assert not target.exists()
    assert verify(target)["seed"] == 7
    assert is_current(target, "made-from-1")
    assert set(snapshot(target.parent)) == {"stage", "stage/a.txt", "stage/manifest.json"}


def fail_half_way(folder: Path) -> None:
    with new_folder(folder, "made-from-2") as out:
        (out / "a.txt").write_text("other")
        raise RuntimeError("half way")


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(tmp_path / "stage")
    assert snapshot(tmp_path) == {}


def test_a_failure_leaves_no_empty_parents_and_those_that_were_there(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(tmp_path / "runs" / "features" / "leave-one-out")
    assert snapshot(tmp_path) == {"runs": "/"}


def test_an_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "stage", "made-from-1"):
        raise KeyboardInterrupt
    assert snapshot(tmp_path) == {}


def test_a_failure_leaves_the_earlier_folder_as_it_was(sealed, tmp_path):
    before = snapshot(tmp_path)
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(sealed)
    assert snapshot(tmp_path) == before


def test_a_folder_that_cannot_be_sealed_leaves_the_earlier_one_as_it_was(sealed, tmp_path):
    before = snapshot(tmp_path)
    with pytest.raises(TypeError), new_folder(sealed, "made-from-2", detail=object()):
        pass
    assert snapshot(tmp_path) == before
    verify(sealed)


def test_the_earlier_folder_is_moved_aside_whole_before_it_is_removed(sealed, tmp_path, monkeypatch):
    before = snapshot(sealed)
    removed = []

    def remove(folder: Path, **_: object) -> None:
        if folder.exists():
            removed.append((folder, snapshot(folder), read_manifest(sealed)["fingerprint"]))
            really_remove(folder)

    really_remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", remove)
    with new_folder(sealed, "made-from-2"):
        pass
    ((folder, content, made_from),) = removed
    assert folder.parent == tmp_path
    assert folder.name.startswith(".stage.partial-")  # which the next one removes, if this is killed now
    assert content == before
    assert made_from == "made-from-2"
    assert set(snapshot(tmp_path)) == {"stage", "stage/manifest.json"}


def test_success_replaces_the_earlier_folder_whole(sealed, tmp_path):
    with new_folder(sealed, "made-from-2") as out:
        (out / "c.txt").write_text("third")
        assert (sealed / "a.txt").read_text() == "first"
    assert set(snapshot(tmp_path)) == {"stage", "stage/c.txt", "stage/manifest.json"}
    assert is_current(sealed, "made-from-2")


def test_what_a_killed_process_left_is_removed_and_other_folders_are_not(tmp_path):
    left_over = (".stage.partial-123", ".stage.partial-old-123", f".stage.partial-{os.getpid()}")
    for left in (*left_over, f".stage.partial-old-{os.getpid()}", ".other.partial-123"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "half.txt").write_text("half")
    with new_folder(tmp_path / "stage", "made-from-1") as out:
        assert list(out.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"stage", ".other.partial-123"}


# -- JSON and fingerprints ---------------------------------------------------------------------------------------------


def test_json_is_written_and_read_back(tmp_path):
    value = {"b": [1, 2.5, None], "a": {"title": "Amélie"}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert (tmp_path / "x.json").read_text().endswith("}\n")
    assert list(snapshot(tmp_path)) == ["x.json"]


def test_a_value_that_is_not_json_leaves_the_file_as_it_was(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert snapshot(tmp_path) == {"x.json": json.dumps({"a": 1}, indent=2) + "\n"}


def test_json_that_cannot_be_put_in_place_leaves_no_partial_file(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OSError):
        write_json(tmp_path / "x.json", {"a": 1})
    assert snapshot(tmp_path) == {"x.json": "/"}


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"], ids=["missing", "cut off", "undecodable"])
def test_bad_json_is_refused_in_one_line_that_names_the_file(tmp_path, content):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fingerprint_does_not_depend_on_order():
    assert fingerprint(a=1, b={"x": 1, "y": 2}) == fingerprint(b={"y": 2, "x": 1}, a=1)


def test_fingerprint_depends_on_every_input():
    values = [{}, {"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": [1, 2]}, {"a": [2, 1]}, {"a": {"b": 1}}, {"a": None}]
    assert len({fingerprint(**value) for value in values}) == len(values)

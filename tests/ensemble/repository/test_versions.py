"""Versions of a repository: what is kept, what goes, and that every step leaves a repository that verifies."""

import os
import shutil
from pathlib import Path

import pytest

from core.artifacts import SIGNATURE, is_current, read_manifest, seal, verify
from ensemble.repository import versions
from ensemble.repository.versions import models_of, new_version, rollback
from tests.ensemble.repository.conftest import MODELS, add, evil, refusal, write_keys


def check(repository: Path, serving: int, made_from: str, previous: tuple[int, str] | None) -> dict:
    """All that must hold of a repository that serves this version, and keeps that one."""
    manifest = verify(repository)
    assert manifest["version"] == serving
    assert manifest["previous"] == (previous[0] if previous else None)
    assert manifest["fingerprint"] == made_from
    assert manifest["default_model"] == f"of {made_from}"
    assert is_current(repository, made_from)
    kept = {serving: made_from, **dict([previous] if previous else [])}
    assert manifest["releases"] == {
        str(number): {"fingerprint": name, "default_model": f"of {name}"} for number, name in kept.items()
    }
    for model in models_of(repository):
        assert (repository / model / "config.pbtxt").read_text() == f"{model} serves {serving}"
        folders = {path.name for path in (repository / model).iterdir() if path.is_dir()}
        assert folders == {str(number) for number in kept}
        for number, name in kept.items():
            assert (repository / model / str(number) / "weights").read_text() == f"weights of {name}"
            assert (repository / model / str(number) / "config.pbtxt").read_text() == f"{model} serves {number}"
    assert [path.name for path in repository.parent.iterdir() if path.name.startswith(".")] == []
    return manifest


# -- new versions ------------------------------------------------------------------------------------------------------


def test_the_first_version_is_1_and_keeps_nothing(repository):
    assert add(repository, "a") == 1
    check(repository, 1, "a", None)
    assert models_of(repository) == ["recommend", "score"]


def test_a_new_version_keeps_the_one_before_and_older_ones_go(repository):
    add(repository, "a")
    assert add(repository, "b") == 2
    check(repository, 2, "b", (1, "a"))
    assert add(repository, "c") == 3
    check(repository, 3, "c", (2, "b"))


def test_the_version_that_serves_is_the_one_that_is_kept(repository):
    """After a rollback it is not the newest."""
    for name in "ab":
        add(repository, name)
    rollback(repository)
    assert add(repository, "c") == 3
    check(repository, 3, "c", (1, "a"))


def test_numbers_are_never_used_again(repository):
    given = []
    for i, step in enumerate(["new", "new", "back", "new", "back", "back", "new", "back", "new", "new"]):
        if step == "new":
            given.append(add(repository, f"release {i}"))
        else:
            rollback(repository)
        verify(repository)
    assert given == [1, 2, 3, 4, 5, 6]


def fail_half_way(repository: Path) -> None:
    with new_version(repository, "c", None, {}) as (out, version):
        (out / "half").write_text(f"of {version}")
        raise RuntimeError("half way")


def test_a_failure_leaves_the_repository_as_it_was(repository):
    add(repository, "a")
    add(repository, "b")
    files = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(repository)
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == files
    check(repository, 2, "b", (1, "a"))


def test_a_model_that_is_new_is_there_from_its_version_on(repository):
    add(repository, "a", models=("score",))
    add(repository, "b", models=("score", "similar"))
    assert models_of(repository) == ["score", "similar"]
    assert [path.name for path in sorted((repository / "similar").iterdir())] == ["2", "config.pbtxt"]
    verify(repository)
    assert "no similar: another version of Marquee exported it" in refusal(rollback, repository)
    assert verify(repository)["version"] == 2


def test_a_model_that_is_gone_cannot_be_rolled_back_to(repository):
    """Otherwise a repository would be sealed that serves less than its version 1 lists."""
    add(repository, "a", models=("score", "similar"))
    add(repository, "b", models=("score",))
    verify(repository)
    assert models_of(repository) == ["score"]
    assert "similar" in refusal(rollback, repository)
    assert verify(repository)["version"] == 2


# -- what is not whole -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tamper",
    [
        lambda repository: (repository / "score" / "1" / "weights").write_text("others"),
        lambda repository: (repository / "score" / "1" / "model.py").write_text("import evil"),
        lambda repository: (repository / "score" / "config.pbtxt").unlink(),
        lambda repository: (repository / "manifest.json").unlink(),
        lambda repository: (repository / "manifest.json").write_text("{"),
    ],
    ids=["changed", "added", "missing", "no manifest", "half a manifest"],
)
def test_a_repository_that_was_changed_is_not_kept(repository, tamper):
    """And its number is not used again: a server that runs may have it."""
    add(repository, "a")
    tamper(repository)
    assert add(repository, "b") == 2
    check(repository, 2, "b", None)
    assert "no version before" in refusal(rollback, repository)


def test_a_repository_of_before_there_were_versions_is_not_kept(repository):
    for model in MODELS:
        (repository / model / "1").mkdir(parents=True)
        (repository / model / "config.pbtxt").write_text("")
        (repository / model / "1" / "model.py").write_text("")
    seal(repository, "old")
    assert add(repository, "b") == 2
    check(repository, 2, "b", None)


# -- rollback ----------------------------------------------------------------------------------------------------------


def test_a_rollback_serves_the_version_before_and_a_second_one_takes_it_back(repository):
    add(repository, "a")
    add(repository, "b")
    manifest = rollback(repository)
    assert manifest == check(repository, 1, "a", (2, "b"))
    files = sorted(path.relative_to(repository) for path in repository.rglob("*"))
    rollback(repository)
    check(repository, 2, "b", (1, "a"))
    assert sorted(path.relative_to(repository) for path in repository.rglob("*")) == files
    rollback(repository)
    check(repository, 1, "a", (2, "b"))


def test_two_rollbacks_leave_the_manifest_as_it_was_but_for_its_serial_number(repository):
    add(repository, "a")
    add(repository, "b")
    before = read_manifest(repository)
    rollback(repository)
    rollback(repository)
    assert read_manifest(repository) == {**before, "serial": read_manifest(repository)["serial"]}


def test_there_must_be_a_version_before(repository):
    assert "missing" in refusal(rollback, repository)
    add(repository, "a")
    assert f"{repository} has no version before 1" in refusal(rollback, repository)
    check(repository, 1, "a", None)


def test_a_repository_that_was_changed_is_not_rolled_back(repository):
    add(repository, "a")
    add(repository, "b")
    (repository / "score" / "1" / "weights").write_text("others")
    assert str(repository / "score" / "1" / "weights") in refusal(rollback, repository)
    assert (repository / "score" / "config.pbtxt").read_text() == "score serves 2"


# -- links -------------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_linked_and_keeps_its_content(repository, tmp_path):
    add(repository, "a")
    weights = repository / "score" / "1" / "weights"
    number = weights.stat().st_ino
    linked = tmp_path / "elsewhere"
    os.link(weights, linked)
    add(repository, "b")
    assert weights.stat().st_ino == number
    rollback(repository)
    assert weights.stat().st_ino == number
    rollback(repository)
    add(repository, "c")
    assert not weights.exists()
    assert linked.read_text() == "weights of a"
    check(repository, 3, "c", (2, "b"))


def test_no_step_writes_into_a_file_that_others_link_to(repository, tmp_path):
    """Hard links to all files of a repository stay unchanged, whatever happens to the repository."""
    add(repository, "a")
    add(repository, "b")
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy, copy_function=os.link)
    rollback(repository)
    add(repository, "c")
    add(repository, "d")
    check(copy, 2, "b", (1, "a"))


def test_without_hard_links_files_are_copied(repository, monkeypatch):
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(versions.os, "link", no_links)
    add(repository, "a")
    add(repository, "b")
    check(repository, 2, "b", (1, "a"))
    rollback(repository)
    check(repository, 1, "a", (2, "b"))


# -- signed ------------------------------------------------------------------------------------------------------------


def test_every_step_can_be_signed(repository, keys):
    private, public = keys
    add(repository, "a", private)
    verify(repository, public_key=public)
    add(repository, "b", private)
    verify(repository, public_key=public)
    rollback(repository, private, public)
    verify(repository, public_key=public)
    check(repository, 1, "a", (2, "b"))


def test_a_step_without_a_key_leaves_no_signature(repository, keys):
    add(repository, "a", keys[0])
    add(repository, "b")
    assert not (repository / SIGNATURE).exists()
    add(repository, "c", keys[0])
    add(repository, "d", keys[0])
    assert "give its key with --sign-key" in refusal(rollback, repository)
    assert verify(repository, public_key=keys[1])["version"] == 4


def test_a_rollback_can_ask_for_the_signature(repository, keys, tmp_path):
    add(repository, "a")
    add(repository, "b")
    assert "is not signed" in refusal(rollback, repository, keys[0], keys[1])
    _, other = write_keys(tmp_path, "other")
    add(repository, "c", keys[0])
    assert "do not serve it" in refusal(rollback, repository, None, other)
    assert verify(repository, public_key=keys[1])["version"] == 3


def test_a_key_does_not_sign_what_is_kept_of_others(repository, keys, tmp_path):
    private, public = keys
    add(repository, "a", private)
    evil(repository)
    assert add(repository, "b", private) == 2
    verify(repository, public_key=public)
    check(repository, 2, "b", None)
    other, _ = write_keys(tmp_path, "other")
    assert add(repository, "c", other) == 3
    check(repository, 3, "c", None)


def test_a_rollback_does_not_sign_what_others_wrote(repository, keys, tmp_path):
    private, public = keys
    add(repository, "a", private)
    add(repository, "b", private)
    new, new_public = write_keys(tmp_path, "new")
    assert f"is not signed with {new}" in refusal(rollback, repository, new)
    rollback(repository, new, public)  # another key takes over
    verify(repository, public_key=new_public)
    evil(repository)
    assert f"is not signed with {new}" in refusal(rollback, repository, new)
    assert "is not signed" in refusal(rollback, repository, new, new_public)
    assert read_manifest(repository)["version"] == 1


def test_a_key_that_is_none_leaves_the_repository_as_it_was(repository, keys):
    add(repository, "a")
    add(repository, "b")
    assert "not an Ed25519 private key" in refusal(add, repository, "c", keys[1])
    assert "not an Ed25519 private key" in refusal(rollback, repository, keys[1])
    check(repository, 2, "b", (1, "a"))

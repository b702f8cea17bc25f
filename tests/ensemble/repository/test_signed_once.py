"""What is signed is what was verified: the bytes are read once, and files that are kept are compared again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.artifacts import SIGNATURE, read_manifest, seal, verify
from core.errors import UserError
from ensemble.repository.versions import new_version, rollback
from tests.ensemble.repository.conftest import add, evil, refusal


class Meanwhile:
    """A key file; when it is read, someone else does something in the repository."""

    def __init__(self, path: Path, action: Callable[[], object]):
        self.path, self.action = path, action

    def __fspath__(self) -> str:
        return str(self.path)

    def read_bytes(self) -> bytes:
        self.action()
        return self.path.read_bytes()


@pytest.fixture
def signed(repository, keys) -> Path:
    add(repository, "a", keys[0])
    return repository


@pytest.fixture
def put_back(signed, tmp_path) -> Callable[[], None]:
    """Makes the signed repository evil, and gives what puts the signed manifest back in its place."""
    good = tmp_path / "good"
    shutil.copytree(signed, good)
    evil(signed)

    def action() -> None:
        for name in ("manifest.json", SIGNATURE):
            shutil.copy(good / name, signed / name)

    return action


def test_the_manifest_that_is_returned_is_the_one_whose_signature_was_checked(signed, keys, put_back):
    """Two reads would verify the signed manifest and use the other one."""
    with pytest.raises(UserError):
        verify(signed, public_key=Meanwhile(keys[1], put_back))


def test_a_key_does_not_sign_what_was_there_before_the_signed_manifest_came_back(signed, keys, put_back):
    add(signed, "b", Meanwhile(keys[0], put_back))
    assert [path for path in signed.rglob("weights") if path.read_text() == "evil"] == []
    verify(signed, public_key=keys[1])


def test_a_rollback_does_not_sign_it_either(signed, keys, tmp_path):
    add(signed, "b", keys[0])
    good = shutil.copytree(signed, tmp_path / "good")
    evil(signed)

    def put_back() -> None:
        for name in ("manifest.json", SIGNATURE):
            shutil.copy(Path(good) / name, signed / name)

    with pytest.raises(UserError):
        rollback(signed, Meanwhile(keys[0], put_back))


def half_way(repository: Path, key: Path, action: Callable[[], object]) -> None:
    """An export during which someone does something."""
    with new_version(repository, "b", key, {}) as (out, version):
        (out / "score" / str(version)).mkdir(parents=True)
        (out / "score" / str(version) / "config.pbtxt").write_text("")
        (out / "score" / "config.pbtxt").write_text("")
        action()


def test_a_kept_file_that_changes_during_an_export_is_not_signed(signed, keys):
    before = (signed / "manifest.json").read_bytes()
    weights = signed / "score" / "1" / "weights"
    assert "changed after it was verified" in refusal(half_way, signed, keys[0], lambda: weights.write_text("evil"))
    assert (signed / "manifest.json").read_bytes() == before
    weights.write_text("weights of a")
    verify(signed, public_key=keys[1])


def test_a_file_that_is_put_into_a_kept_version_is_not_taken_over(signed, keys):
    add(signed, "b", keys[0])
    other = signed / "score" / "2" / "evil.py"
    half_way(signed, keys[0], lambda: other.write_text("evil"))
    assert not list(signed.rglob("evil.py"))
    verify(signed, public_key=keys[1])


# -- odd manifests -----------------------------------------------------------------------------------------------------

ODD = {
    "version": [None, "2", 2.0, True, 0, -1, 10**30, [2], "../2"],
    "previous": ["1", 1.5, 0, -1, 10**30, {}, "../1"],
    "serial": [None, "1", -1, 1.5, 2**64],
    "releases": [None, [], {}, "1", {"1": 7, "2": {}}, {"1": {"fingerprint": "a"}}],
}


def write_manifest(repository: Path, **changes: object) -> None:
    manifest = json.loads((repository / "manifest.json").read_bytes())
    (repository / "manifest.json").write_text(json.dumps({**manifest, **changes}))


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ODD.items() for value in values])
def test_odd_versions_are_one_line(repository, key, value):
    add(repository, "a")
    add(repository, "b")
    write_manifest(repository, **{key: value})
    assert refusal(rollback, repository)
    add(repository, "c")  # an export does not need them
    assert verify(repository)["previous"] is None


def test_a_version_before_that_is_not_there_is_not_rolled_back_to(repository):
    add(repository, "a")
    add(repository, "b")
    write_manifest(repository, previous=7)
    assert "releases.7 is not the details of a version" in refusal(rollback, repository)
    assert add(repository, "c") == 3
    assert verify(repository)["previous"] == 2


@pytest.mark.parametrize("name", ["key", "folder", "version", "files", "format", "stage_fingerprint", "kept"])
def test_details_of_a_version_cannot_stand_for_those_of_the_manifest(repository, name):
    add(repository, "a")
    add(repository, "b")
    releases = read_manifest(repository)["releases"]
    write_manifest(repository, releases={**releases, "1": {**releases["1"], name: "evil"}})
    assert "releases.1 is not the details of a version" in refusal(rollback, repository)


def test_a_folder_whose_name_is_a_huge_number_is_no_version(repository):
    add(repository, "a")
    (repository / "score" / ("9" * 200)).mkdir()
    assert add(repository, "b") == 2


def test_a_key_that_is_none_is_refused_before_anything_is_written(repository, keys):
    add(repository, "a")
    reached = []
    assert "not an Ed25519 private key" in refusal(half_way, repository, keys[1], lambda: reached.append(1))
    assert reached == []


def test_sealing_says_the_same_as_it_signs(signed, keys):
    seal(signed, "again", keys[0], previous=None)
    assert verify(signed, public_key=keys[1])["fingerprint"] == "again"

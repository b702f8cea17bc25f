"""Signed manifests that were replaced since: recognised by their serial numbers, across restarts."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from core.artifacts import read_manifest, seal, sha256
from core.errors import UserError
from ensemble.repository import releases
from ensemble.repository.serials import Serials, default_state_file
from ensemble.repository.versions import rollback
from tests.ensemble.repository.conftest import add, refusal, write_keys


@pytest.fixture
def state(tmp_path) -> Path:
    return tmp_path / "state" / "serials.json"


def take(repository: Path, key: Path, state: Path, least: int | None = None) -> int:
    """Takes what is served into a new folder, as a server that was just started. Returns the version."""
    target = Path(tempfile.mkdtemp(dir=repository.parent)) / "taken"
    return releases.take(repository, target, key, serials=Serials(repository, key, state, least)).version


def put_back(repository: Path, kept: Path) -> None:
    shutil.rmtree(repository)
    shutil.copytree(kept, repository)


def test_every_export_and_every_rollback_has_a_higher_serial_number(repository):
    seen = []
    for step in "aabbabab":
        if step == "a":
            add(repository, f"release {len(seen)}")
        else:
            rollback(repository)
        seen.append(read_manifest(repository)["serial"])
    assert seen == sorted(set(seen))


def test_a_repository_that_is_made_again_goes_on(repository):
    """A build machine exports into an empty folder each time."""
    add(repository, "a")
    first = read_manifest(repository)["serial"]
    shutil.rmtree(repository)
    add(repository, "b")
    assert read_manifest(repository)["serial"] >= first > 1_600_000_000


def test_a_manifest_that_was_replaced_is_refused_also_after_a_restart(repository, keys, state, tmp_path):
    private, public = keys
    add(repository, "a", private)
    assert take(repository, public, state) == 1
    old = Path(shutil.copytree(repository, tmp_path / "old"))
    add(repository, "b", private)
    assert take(repository, public, state) == 2
    put_back(repository, old)
    message = refusal(take, repository, public, state)
    assert str(repository) in message
    assert str(state) in message
    assert "was served before" in message
    state.unlink()  # as the message says
    assert take(repository, public, state) == 1


def test_a_rollback_is_served_and_what_was_before_it_is_not(repository, keys, state, tmp_path):
    private, public = keys
    for name in "ab":
        add(repository, name, private)
    assert take(repository, public, state) == 2
    newer = Path(shutil.copytree(repository, tmp_path / "newer"))
    rollback(repository, private)
    assert take(repository, public, state) == 1
    put_back(repository, newer)
    assert "was served before" in refusal(take, repository, public, state)


def test_a_running_server_refuses_it_without_any_file(repository, keys, tmp_path):
    """On a read-only system the least number is given, and what was seen since is in memory."""
    private, public = keys
    add(repository, "a", private)
    old = Path(shutil.copytree(repository, tmp_path / "old"))
    serials = Serials(repository, public, Path("/proc/none/serials.json"), least=0)
    releases.take(repository, tmp_path / "one", public, serials=serials)
    add(repository, "b", private)
    releases.take(repository, tmp_path / "two", public, serials=serials)
    put_back(repository, old)
    with pytest.raises(UserError, match="was served before"):
        releases.take(repository, tmp_path / "three", public, serials=serials)


def test_the_least_serial_number_is_demanded(repository, keys, state):
    private, public = keys
    add(repository, "a", private)
    serial = read_manifest(repository)["serial"]
    assert take(repository, public, state, serial) == 1
    assert f"below --least-serial {serial + 1}" in refusal(take, repository, public, state, serial + 1)


def test_where_nothing_can_be_kept_the_message_says_what_to_give(repository, keys):
    private, public = keys
    add(repository, "a", private)
    serial = read_manifest(repository)["serial"]
    message = refusal(take, repository, public, Path("/proc/none/serials.json"))
    assert message.endswith(f"--least-serial {serial}")
    assert take(repository, public, Path("/proc/none/serials.json"), serial) == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"a": "b"}', '{"a": -1}', '{"a": 1e400}', "\x00"])
def test_a_state_file_that_is_not_one_is_refused(repository, keys, state, content):
    add(repository, "a", keys[0])
    state.parent.mkdir()
    state.write_text(content)
    assert str(state) in refusal(take, repository, keys[1], state)


def test_each_repository_and_each_key_has_its_own_number(repository, keys, state, tmp_path):
    """Two datasets can be served with one key, whichever was exported last."""
    private, public = keys
    older = tmp_path / "older"
    add(older, "a", private)
    for name in "ab":
        add(repository, name, private)
    assert take(repository, public, state) == 2
    assert read_manifest(older)["serial"] < read_manifest(repository)["serial"]
    assert take(older, public, state) == 1
    second = write_keys(tmp_path, "second")
    add(repository, "c", second[0])
    take(repository, second[1], state)
    assert len(json.loads(state.read_bytes())) == 3


def test_the_manifest_of_another_repository_is_not_taken_for_a_newer_one(repository, keys, state, tmp_path):
    private, public = keys
    other = tmp_path / "other"
    add(other, "a", private)
    for name in "ab":
        add(repository, name, private)
    assert take(repository, public, state) == 2
    put_back(repository, other)
    assert "was served before" in refusal(take, repository, public, state)


def test_a_place_that_is_a_link_keeps_its_number(repository, keys, state, tmp_path):
    private, public = keys
    add(repository, "a", private)
    old = Path(shutil.copytree(repository, tmp_path / "old"))
    add(repository, "b", private)
    current = tmp_path / "current"
    current.symlink_to(repository)
    assert take(current, public, state) == 2
    current.unlink()
    current.symlink_to(old)
    assert "was served before" in refusal(take, current, public, state)


def test_a_manifest_of_before_there_were_serial_numbers_is_the_oldest(repository, keys, state, tmp_path):
    private, public = keys
    add(repository, "a", private)
    manifest = read_manifest(repository)
    details = {name: manifest[name] for name in ("version", "previous", "releases")}
    seal(repository, "a", private, **details)
    assert take(repository, public, state) == 1
    old = Path(shutil.copytree(repository, tmp_path / "old"))
    numbered = {**details, "serial": manifest["serial"]}
    seal(repository, "a", private, **numbered)
    assert take(repository, public, state) == 1
    put_back(repository, old)
    assert "was served before" in refusal(take, repository, public, state)


def test_the_state_file_is_where_systemd_or_the_user_keeps_state(monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/marquee:/var/lib/other")
    assert default_state_file() == Path("/var/lib/marquee/serials.json")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state_file() == tmp_path / "marquee" / "serials.json"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state_file() == tmp_path / ".local" / "state" / "marquee" / "serials.json"


# -- what is taken -----------------------------------------------------------------------------------------------------


def listing(repository: Path, **files: str) -> None:
    """Changes a manifest's list, as anyone can who writes there."""
    manifest = json.loads((repository / "manifest.json").read_bytes())
    manifest["files"] |= files
    (repository / "manifest.json").write_text(json.dumps(manifest))


def test_nothing_is_written_outside_of_the_copy(repository, tmp_path):
    add(repository, "a")
    outside = repository / "score" / "1" / ".." / ".." / ".." / "stolen"
    (tmp_path / "stolen").write_text("secret")
    listing(repository, **{"score/1/../../../stolen": sha256(outside)})
    target = tmp_path / "deep" / "er" / "copy"
    assert "which is not a file of its folder" in refusal(releases.take, repository, target)
    assert not target.exists()


@pytest.mark.parametrize("name", ["a b", "ä", "-x", ".x"])
def test_a_model_with_an_odd_name_is_not_taken(repository, tmp_path, name):
    add(repository, "a", models=("score", name))
    assert "lists a model" in refusal(releases.take, repository, tmp_path / "copy")


def test_models_are_those_that_the_manifest_lists(repository, tmp_path):
    add(repository, "a")
    release = releases.take(repository, tmp_path / "copy")
    assert release.models == ("recommend", "score")
    assert set(release.files) == {
        f"{model}/{file}" for model in release.models for file in ("config.pbtxt", "1/config.pbtxt", "1/weights")
    }

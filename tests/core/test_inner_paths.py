"""Names that manifests list: none may lead out of the folder, and the message is one line."""

import json
from pathlib import Path

import pytest

from core.artifacts import read_manifest, seal, sha256, verify
from core.errors import UserError
from core.inner_paths import is_inner

OUTSIDE = [
    "../secret.txt",
    "part/../../secret.txt",
    "..",
    ".",
    "",
    "/etc/hostname",
    "//etc/hostname",
    "part//b.txt",
    "./a.txt",
    "part/",
    "a\0.txt",
    "\ud800.txt",
    "x" * 300,
    "x/" * 3000 + "x",
    "../two\nlines",
    "two\nlines",
    "\udcff.txt",
]


@pytest.fixture
def sealed(tmp_path) -> Path:
    folder = tmp_path / "stage"
    (folder / "part").mkdir(parents=True)
    (folder / "a.txt").write_text("first")
    (folder / "part" / "b.txt").write_text("second")
    (tmp_path / "secret.txt").write_text("secret")
    seal(folder, "made-from-1")
    return folder


def refusal(call, *arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("check", [verify, read_manifest])
def test_a_name_that_leads_out_of_the_folder_is_refused(sealed, tmp_path, name, check):
    files = read_manifest(sealed)["files"]
    change(sealed, files={**files, name: sha256(tmp_path / "secret.txt")})
    assert "which is not a file of its folder" in refusal(check, sealed)


@pytest.mark.parametrize("name", ["a.txt", "part/b.txt", "..a", "a..b/...", "ä/日本", "a b", "-", "a\\b"])
def test_a_plain_name_is_none_of_these(name):
    assert is_inner(name)


@pytest.mark.parametrize("digest", [None, 7, ["a"], "", "f" * 63, "F" * 64, "g" * 64, "f" * 64 + "\n"])
def test_a_sum_that_is_none_makes_no_manifest(sealed, digest):
    change(sealed, files={"a.txt": digest})
    assert "is not a manifest" in refusal(read_manifest, sealed)


@pytest.mark.parametrize("value", [None, 7, ["a"]])
def test_a_fingerprint_that_is_none_makes_no_manifest(sealed, value):
    change(sealed, fingerprint=value)
    assert "is not a manifest" in refusal(read_manifest, sealed)


def test_a_listed_file_behind_a_link_is_refused(sealed, tmp_path):
    """Its content is right now; who can write there can change it at any time."""
    (sealed / "part").rename(tmp_path / "elsewhere")
    (sealed / "part").symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in refusal(verify, sealed)
    (sealed / "part").unlink()
    (tmp_path / "elsewhere").rename(sealed / "part")
    verify(sealed)
    (sealed / "a.txt").rename(tmp_path / "a.txt")
    (sealed / "a.txt").symlink_to(tmp_path / "a.txt")
    assert "symbolic link" in refusal(verify, sealed)


def test_a_file_that_is_kept_must_be_as_it_was_verified(sealed):
    digest = sha256(sealed / "a.txt")
    seal(sealed, "made-from-2", kept={"a.txt": digest})
    (sealed / "a.txt").write_text("other")
    assert "was changed after it was verified" in refusal(lambda: seal(sealed, "made-from-3", kept={"a.txt": digest}))
    (sealed / "a.txt").unlink()
    assert "was changed after it was verified" in refusal(lambda: seal(sealed, "made-from-3", kept={"a.txt": digest}))
    assert read_manifest(sealed)["fingerprint"] == "made-from-2"

"""Files at an address: in the memory of this process, and in a folder that is read as if it were elsewhere."""

import os

import fsspec
import pytest

from core.errors import UserError
from workflows.sources import remote
from workflows.sources.find import is_raw
from workflows.sources.remote import at_hand, is_remote, local_copy, name_at

CSV = b"userId,movieId,rating,timestamp\n1,10,4.0,100\n"


@pytest.fixture
def memory():
    """An empty store."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def quiet(_: str) -> None:
    pass


def copies(monkeypatch) -> list[str]:
    """The addresses that are copied from now on."""
    copied: list[str] = []
    copy = remote._copy

    def counted(address, system, path, target, advance):
        copied.append(path)
        copy(address, system, path, target, advance)

    monkeypatch.setattr(remote, "_copy", counted)
    return copied


def test_an_address_is_told_from_a_path():
    assert [is_remote(text) for text in ("s3://a/b.csv", "memory://b.csv", "/a/b.csv", "b.csv", "c:b")] == [
        *(True, True, False, False, False)
    ]
    assert [name_at(text) for text in ("s3://a/b.csv", "s3://a/b/", "memory://b.zip")] == ["b.csv", "b", "b.zip"]


def test_a_file_is_copied_once_and_again_where_it_has_changed(tmp_path, memory, monkeypatch):
    copied = copies(monkeypatch)
    memory.pipe("/bucket/own.csv", CSV)
    address = "memory://bucket/own.csv"
    path = local_copy(address, tmp_path, is_raw, quiet)
    assert (path.name, path.read_bytes()) == ("own.csv", CSV)
    assert local_copy(address, tmp_path, is_raw, quiet) == path
    assert len(copied) == 1
    memory.pipe("/bucket/own.csv", CSV + b"2,10,5.0,101\n")
    assert local_copy(address, tmp_path, is_raw, quiet).read_bytes() == CSV + b"2,10,5.0,101\n"
    assert len(copied) == 2
    path.write_bytes(b"cut")  # by somebody
    assert local_copy(address, tmp_path, is_raw, quiet).read_bytes() == CSV + b"2,10,5.0,101\n"


def test_of_a_folder_the_files_of_releases_are_copied(tmp_path, memory):
    for name in ("ratings.csv", "movies.csv", "deep/ratings.csv", "a/b/c/d/ratings.csv", "notes.txt", "own.csv"):
        memory.pipe(f"/bucket/release/{name}", name.encode())
    folder = local_copy("memory://bucket/release/", tmp_path, is_raw, quiet)
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == ["deep/ratings.csv", "movies.csv", "ratings.csv"]
    assert (folder / "movies.csv").read_bytes() == b"movies.csv"


def test_a_folder_of_this_machine_can_be_an_address_too(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_DATA", str(tmp_path / "home"))
    path = tmp_path / "own.csv"
    path.write_bytes(CSV)
    copy = at_hand(f"file://{path}", is_raw, quiet)
    assert copy.is_relative_to(tmp_path / "home" / "remote")
    assert copy.read_bytes() == CSV
    assert at_hand(str(path), is_raw, quiet) == path


def test_a_copy_that_broke_off_is_none(tmp_path, memory, monkeypatch):
    memory.pipe("/own.csv", CSV)

    class Breaks:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, _):
            raise ConnectionResetError("Connection reset by peer")

    monkeypatch.setattr(type(memory), "open", lambda *_: Breaks())
    with pytest.raises(UserError, match=r"memory://own\.csv cannot be read: Connection reset by peer"):
        local_copy("memory://own.csv", tmp_path, is_raw, quiet)
    assert not [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert local_copy("memory://own.csv", tmp_path, is_raw, quiet).read_bytes() == CSV


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://none.csv", "does not exist"),
        ("memory://bucket", "holds no file that can be read"),
        ("nowhere://bucket/own.csv", "Protocol not known: nowhere"),
        ("gs://bucket/own.csv", "[iI]nstall gcsfs"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, memory, address, said):
    memory.pipe("/bucket/notes.txt", b"")
    with pytest.raises(UserError, match=said) as caught:
        local_copy(address, tmp_path, is_raw, quiet)
    assert str(caught.value).startswith(f"{address} ")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said(tmp_path):
    path = tmp_path / "own.csv"
    path.touch(mode=0)
    with pytest.raises(UserError, match="cannot be read"):
        local_copy(f"file://{path}", tmp_path, is_raw, quiet)

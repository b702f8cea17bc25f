"""Which files are read: of several releases, of links, of archives and compressed files; and what is not read."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from core.artifacts import verify
from core.errors import UserError
from workflows.sources import unpack
from workflows.sources.datasets import get_dataset
from workflows.sources.fetch import fetch_tables
from workflows.sources.find import Folder, find_release
from workflows.sources.read import read_tables

CHECKOUT = Path(__file__).resolve().parents[3]
HEADER = "userId,movieId,rating,timestamp\n"
MOVIES = "movieId,title,genres\n" + "".join(f"{movie},Title {movie} (1990),Drama\n" for movie in range(1, 6))


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_DATA", str(tmp_path / "home"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    yield
    assert not list((tmp_path / "temporary").iterdir())


def ratings_csv(rows: int, user: int = 1) -> str:
    return HEADER + "".join(f"{user},{row % 5 + 1},4.0,{1_000_000_000 + row}\n" for row in range(rows))


def write(folder: Path, rows: int, user: int = 1) -> Path:
    """A release in the CSV layout whose one user has up to five ratings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.csv").write_text(ratings_csv(rows, user))
    (folder / "movies.csv").write_text(MOVIES)
    return folder


def write_dat(folder: Path, rows: int) -> Path:
    """The same in the layout of ML-1M, with another user."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.dat").write_text("".join(f"7::{row + 1}::3::{900_000_000 + row}\n" for row in range(rows)))
    (folder / "movies.dat").write_text("".join(f"{movie}::Title {movie} (1990)::Drama\n" for movie in range(1, 6)))
    return folder


def fetch(data: Path, tables: Path, dataset: str = "ml-latest-small") -> list[str]:
    said: list[str] = []
    fetch_tables(get_dataset(dataset), data, tables, said.append)
    return said


def refusal(data: Path, tables: Path, dataset: str = "ml-latest-small") -> str:
    with pytest.raises(UserError) as caught:
        fetch(data, tables, dataset)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows_in(tables: Path) -> int:
    return pq.read_metadata(tables / "ratings.parquet").num_rows


def users_in(tables: Path) -> list[int]:
    return pq.read_table(tables / "users.parquet")["userId"].to_pylist()


# -- what is read, and what makes it be read again ---------------------------------------------------------------------


@pytest.mark.parametrize("places", [("a-ml", "b-ml"), ("a-ml", "b/ml")])
def test_a_folder_with_two_releases_is_refused_and_both_are_named(tmp_path, places):
    for number, place in enumerate(places, 1):
        write(tmp_path / "data" / place, number)
    message = refusal(tmp_path / "data", tmp_path / "tables")
    assert str(tmp_path / "data") in message
    assert all(f"{place}/ratings.csv" in message for place in places)


def test_one_of_two_releases_can_be_asked_for(tmp_path):
    for number, place in enumerate(("a-ml", "b-ml"), 1):
        write(tmp_path / "data" / place, number)
    for number, place in enumerate(("a-ml", "b-ml"), 1):
        fetch(tmp_path / "data" / place / "ratings.csv", tmp_path / "tables")
        assert rows_in(tmp_path / "tables") == number


def test_a_linked_folder_is_read_and_its_files_decide(tmp_path):
    for name, rows in (("A", 4), ("B", 2)):
        write(tmp_path / f"target{name}", rows)
        (tmp_path / name).mkdir()
        (tmp_path / name / "ml").symlink_to(tmp_path / f"target{name}")
        assert "unchanged" not in fetch(tmp_path / name, tmp_path / "tables")[-1]
        assert rows_in(tmp_path / "tables") == rows
    (tmp_path / "B" / "ml").unlink()
    (tmp_path / "B" / "ml").symlink_to(tmp_path / "targetA")
    fetch(tmp_path / "B", tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 4


def test_a_linked_ratings_file_decides_too(tmp_path):
    write(tmp_path / "store", 5)
    data = write(tmp_path / "data", 2)
    fetch(data, tmp_path / "tables")
    (data / "ratings.csv").unlink()
    (data / "ratings.csv").symlink_to(tmp_path / "store" / "ratings.csv")
    fetch(data, tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 5


def test_a_folder_that_is_linked_to_from_beside_it_is_one_release(tmp_path):
    write(tmp_path / "data" / "ml", 3)
    (tmp_path / "data" / "latest").symlink_to("ml")
    assert len(read_tables(tmp_path / "data").ratings) == 3


def test_the_truth_belongs_to_the_folder_of_the_ratings(tmp_path):
    data = write(tmp_path / "data", 3)
    for folder in (data / "old", data / "old" / "deeper"):
        folder.mkdir()
        (folder / "synth.json").write_text("{}")
        (folder / "truth-users.parquet").write_text("")
    fetch(data, tmp_path / "tables")
    assert sorted(verify(tmp_path / "tables")["files"]) == ["movies.parquet", "ratings.parquet", "users.parquet"]


def test_a_file_of_another_folder_does_not_matter(tmp_path):
    data = write(tmp_path / "data", 3)
    fetch(data, tmp_path / "tables")
    (data / "notes").mkdir()
    (data / "notes" / "movies.csv").write_text("other")
    assert "unchanged" in fetch(data, tmp_path / "tables")[-1]


# -- several sets of ratings -------------------------------------------------------------------------------------------


def test_ratings_in_the_folder_itself_go_before_those_below_and_this_is_said(tmp_path):
    data = write(tmp_path / "data", 3)
    write(data / "old", 5)
    said = fetch(data, tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 3
    assert any("ratings.csv is read, not old/ratings.csv" in line for line in said)


def test_two_layouts_in_one_folder_are_refused_where_the_dataset_has_neither(tmp_path):
    data = write_dat(write(tmp_path / "data", 3), 2)
    message = refusal(data, tmp_path / "tables", "ml-100k")
    assert "ratings.csv" in message
    assert "ratings.dat" in message
    assert "--data" in message


@pytest.mark.parametrize(("dataset", "user"), [("ml-1m", 7), ("ml-25m", 1)])
def test_of_two_layouts_the_datasets_own_is_read_and_this_is_said(tmp_path, dataset, user):
    data = write_dat(write(tmp_path / "data", 3), 2)
    said = fetch(data, tmp_path / "tables", dataset)
    assert users_in(tmp_path / "tables") == [user]
    assert any("is read, not" in line for line in said)


def test_a_zip_with_two_releases_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as out:
        for place in ("a", "b"):
            out.writestr(f"{place}/ratings.csv", ratings_csv(3))
            out.writestr(f"{place}/movies.csv", MOVIES)
    message = refusal(tmp_path / "two.zip", tmp_path / "tables")
    assert "two.zip" in message
    assert "a/ratings.csv and b/ratings.csv" in message


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_holds_a_file_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as out:
        for rows in (3, 4):
            out.writestr("ml/ratings.csv", ratings_csv(rows))
        out.writestr("ml/movies.csv", MOVIES)
    assert "ml/ratings.csv is there twice" in refusal(tmp_path / "twice.zip", tmp_path / "tables")


def test_a_compressed_copy_beside_the_file_is_mentioned(tmp_path):
    data = write(tmp_path / "data", 3)
    (data / "ratings.csv.gz").write_bytes(gzip.compress(ratings_csv(5).encode()))
    said = fetch(data, tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 3
    assert any("ratings.csv is read, not ratings.csv.gz" in line for line in said)
    fetch(data / "ratings.csv.gz", tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 5


def test_a_folder_and_a_zip_in_the_home_are_both_mentioned(tmp_path):
    write(tmp_path / "home" / "ml-latest-small", 3)
    (tmp_path / "home" / "ml-latest-small.zip").write_text("another")
    said: list[str] = []
    fetch_tables(get_dataset("ml-latest-small"), None, tmp_path / "tables", said.append)
    assert any("is read, not ml-latest-small.zip" in line for line in said)


# -- archives and compressed files -------------------------------------------------------------------------------------


def zipped(folder: Path, path: Path, inside: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in folder.iterdir():
            info = zipfile.ZipInfo(inside + file.name)
            info.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(info, file.read_bytes())
    return path


def tarred(folder: Path, path: Path, inside: str) -> Path:
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as out:
        for file in folder.iterdir():
            out.add(file, inside + file.name)
    return path


@pytest.mark.parametrize("inside", ["", "ml/", "a/ml/", "ml\\", "a\\ml\\", "a/b/c/d/", "./ml/", "/ml/"])
def test_a_zip_is_read_however_deep_and_with_either_slash(tmp_path, inside):
    path = zipped(write(tmp_path / "raw", 4), tmp_path / "x.zip", inside)
    fetch(path, tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 4


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz"])
@pytest.mark.parametrize("inside", ["", "./a/ml/"])
def test_a_tar_is_read(tmp_path, name, inside):
    path = tarred(write(tmp_path / "raw", 4), tmp_path / name, inside)
    fetch(path, tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 4
    assert "unchanged" in fetch(path, tmp_path / "tables")[-1]


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_a_compressed_file_is_read_and_the_tables_are_the_plain_ones(tmp_path, suffix, compress):
    data = write(tmp_path / "data", 4)
    fetch(data, tmp_path / "tables")
    for name in ("ratings.csv", "movies.csv"):
        (data / f"{name}{suffix}").write_bytes(compress((data / name).read_bytes()))
        (data / name).unlink()
    assert "unchanged" in fetch(data, tmp_path / "tables")[-1]
    fetch(data / f"ratings.csv{suffix}", tmp_path / "again")
    assert rows_in(tmp_path / "again") == 4
    assert len(read_tables(data).ratings) == 4


def test_a_compressed_file_in_an_archive_is_read(tmp_path):
    raw = write(tmp_path / "raw", 4)
    (raw / "ratings.csv.gz").write_bytes(gzip.compress((raw / "ratings.csv").read_bytes()))
    (raw / "ratings.csv").unlink()
    fetch(zipped(raw, tmp_path / "x.zip", "ml/"), tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 4


def test_the_ratings_file_stands_for_its_folder(tmp_path):
    fetch(write(tmp_path / "data", 4) / "ratings.csv", tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 4


def test_an_unchanged_archive_is_not_unpacked_again(tmp_path, monkeypatch):
    path = zipped(write(tmp_path / "raw", 4), tmp_path / "x.zip", "ml/")
    fetch(path, tmp_path / "tables")
    monkeypatch.setattr(unpack.Zip, "unpack", lambda *_: pytest.fail("it was unpacked"))
    assert "unchanged" in fetch(path, tmp_path / "tables")[-1]


def test_only_what_is_read_is_unpacked(tmp_path, monkeypatch):
    raw = write(tmp_path / "raw", 4)
    (raw / "tags.csv").write_text("x")
    (raw / "u.item").write_text("x")
    unpacked = []
    copy = unpack._copy
    monkeypatch.setattr(unpack, "_copy", lambda *args: (unpacked.append(args[1].name), copy(*args)))
    fetch(zipped(raw, tmp_path / "x.zip", "ml/"), tmp_path / "tables")
    assert sorted(unpacked) == ["movies.csv", "ratings.csv"]


def test_a_bad_row_in_an_archive_is_named_by_archive_and_member(tmp_path):
    raw = write(tmp_path / "raw", 4)
    (raw / "ratings.csv").write_text(f"{HEADER}1,1,9,1\n")
    path = zipped(raw, tmp_path / "x.zip", "a/ml/")
    assert f"{path}, a/ml/ratings.csv" in refusal(path, tmp_path / "tables")
    (raw / "movies.csv").unlink()
    path = zipped(raw, tmp_path / "y.zip", "a/ml/")
    assert f"{path}, a/ml/movies.csv is missing" in refusal(path, tmp_path / "tables")


@pytest.mark.parametrize("name", ["README.md", "ratings.parquet", "empty.zip"])
def test_a_file_that_is_no_archive_is_refused_with_what_is_in_it(tmp_path, name):
    path = tmp_path / name
    path.write_text("" if "empty" in name else "# hello")
    message = refusal(path, tmp_path / "tables")
    assert str(path) in message
    assert ("it is empty" if "empty" in name else "hello") in message
    assert "ratings.csv" in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "neither a folder nor a file" in refusal(tmp_path / "pipe", tmp_path / "tables")
    os.mkfifo(tmp_path / "ratings.csv")
    assert "holds no ratings that can be read" in refusal(tmp_path, tmp_path / "tables")


# -- bounds ------------------------------------------------------------------------------------------------------------


ZEROS = b"0" * 300_000


@pytest.fixture
def small_bound(monkeypatch) -> None:
    monkeypatch.setattr(unpack, "ALLOWANCE", 100_000)


def bomb(path: Path) -> Path:
    """An archive or compressed file whose ratings unpack to far more than their bytes."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("ml/ratings.csv", ZEROS)
            out.writestr("ml/movies.csv", MOVIES)
    elif ".tar" in path.name:
        with tarfile.open(path, "w:gz") as out:
            for name, content in (("ml/ratings.csv", ZEROS), ("ml/movies.csv", MOVIES.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
    else:
        path.write_bytes(gzip.compress(ZEROS))
        (path.parent / "movies.csv").write_text(MOVIES)
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "ratings.csv.gz"])
def test_what_unpacks_to_too_much_is_refused_with_the_bound(tmp_path, small_bound, name):
    path = bomb(tmp_path / name)
    message = refusal(path, tmp_path / "tables")
    assert str(path) in message
    assert "100,000" in message
    assert "unpacks to" in message


def test_the_default_bound_refuses_a_thousandfold_and_takes_a_release():
    assert unpack.ALLOWANCE < 314_000_000
    assert unpack.RATIO * 239_000_000 > 950_000_000  # ML-32M and its zip


def test_what_does_not_fit_on_the_disk_is_refused(tmp_path, monkeypatch):
    path = zipped(write(tmp_path / "raw", 4), tmp_path / "x.zip", "ml/")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    message = refusal(path, tmp_path / "tables")
    assert "has 10 left" in message
    assert "TMPDIR" in message


def test_links_and_paths_that_lead_elsewhere_are_not_followed(tmp_path):
    write(tmp_path / "secret", 5)
    with tarfile.open(tmp_path / "x.tar", "w") as out:
        info = tarfile.TarInfo("ml/ratings.csv")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "secret" / "ratings.csv")
        out.addfile(info)
        for name, content in (("../ml/ratings.csv", ratings_csv(2)), ("../ml/movies.csv", MOVIES)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content.encode()))
    assert "holds no ratings that can be read" in refusal(tmp_path / "x.tar", tmp_path / "tables")
    assert not (tmp_path / "ml").exists()


def test_an_encrypted_zip_says_so(tmp_path):
    path = zipped(write(tmp_path / "raw", 4), tmp_path / "x.zip", "")
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        start = content.find(mark)
        while start >= 0:
            content[start + at] |= 1
            start = content.find(mark, start + 4)
    path.write_bytes(content)
    assert "is encrypted" in refusal(path, tmp_path / "tables")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_damaged_archive_is_read_or_refused_in_one_line(tmp_path, make):
    path = make(write(tmp_path / "raw", 5), tmp_path / ("x.zip" if make is zipped else "x.tar.gz"), "ml/")
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(UserError):
            fetch(path, tmp_path / "tables")
        path.write_bytes(whole[:place])
        with pytest.raises(UserError):
            fetch(path, tmp_path / f"cut-{place}")


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_a_part_of_a_release_says_so_now_and_when_it_is_reused(tmp_path):
    data = write_dat(tmp_path / "data", 4)
    for _ in range(2):
        said = fetch(data, tmp_path / "tables", "ml-1m")
        (warning,) = [line for line in said if line.startswith("warning:")]
        assert "not the whole release of ml-1m" in warning
        assert "4 of 1,000,209 ratings" in warning
    assert verify(tmp_path / "tables")["notes"]


def test_files_that_do_not_fit_each_other_say_so(tmp_path):
    data = write_dat(tmp_path / "data", 4)
    (data / "movies.dat").write_text("900::Other (1990)::Drama\n1::One (1990)::Drama\n")
    (data / "users.dat").write_text("8::F::25::0::1\n")
    said = " ".join(fetch(data, tmp_path / "tables", "ml-1m"))
    assert f"{data / 'movies.dat'} does not describe 3 of the 4 movies" in said
    assert f"{data / 'users.dat'} does not describe 1 of the 1 users" in said


def test_files_that_fit_say_nothing(tmp_path):
    assert read_tables(write(tmp_path, 5)).notes == ()


@pytest.mark.parametrize(("last", "suspicious"), [("1,5,4.5,10012", True), ("1,5,4.5,1000000012", False)])
def test_a_last_line_that_is_cut_in_its_time_says_so(tmp_path, last, suspicious):
    data = write(tmp_path, 4)
    with open(data / "ratings.csv", "a") as file:
        file.write(last)
    notes = read_tables(data).notes
    assert [str(data / "ratings.csv") in note and "10012" in note for note in notes] == [True] * suspicious


def test_an_early_time_on_a_whole_line_says_nothing(tmp_path):
    data = write(tmp_path, 4)
    with open(data / "ratings.csv", "a") as file:
        file.write("1,5,4.5,10012\n")
    assert read_tables(data).notes == ()


# -- killed processes --------------------------------------------------------------------------------------------------


STOP_WHILE_READING = """
import sys, time
from pathlib import Path
from workflows.sources import fetch
from workflows.sources.datasets import get_dataset
def wait(*_):
    print("unpacked", flush=True)
    time.sleep(600)
fetch.read_files = wait
fetch.fetch_tables(get_dataset("ml-latest-small"), Path(sys.argv[1]), Path(sys.argv[2]), lambda _: None)
"""


def test_what_a_killed_fetch_unpacked_is_cleared_by_the_next(tmp_path):
    path = zipped(write(tmp_path / "raw", 4), tmp_path / "x.zip", "ml/")
    command = [sys.executable, "-c", STOP_WHILE_READING, str(path), str(tmp_path / "tables")]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "unpacked\n"
        process.kill()
    (left_over,) = (tmp_path / "temporary").iterdir()
    assert list(left_over.rglob("ratings.csv"))
    fetch(tmp_path / "raw", tmp_path / "tables")  # a folder: it needs no temporary folder itself
    assert not left_over.exists()


def test_a_release_is_found_without_reading_it(tmp_path):
    release = find_release(Folder(write(tmp_path / "a" / "b", 3).parent))
    assert (release.name, str(release.folder)) == ("movielens-csv", "b")


@pytest.mark.parametrize(
    "name", ["data [ab]", "a::b", "file:x", "*", "50%", "x=1", "#", os.fsdecode(b"\xff"), "a\nb", "~"]
)
def test_data_in_a_folder_of_any_name_is_read_and_called_by_its_name(tmp_path, name):
    data = write(tmp_path / name, 3)
    fetch(data, tmp_path / "tables")
    assert rows_in(tmp_path / "tables") == 3
    (data / "ratings.csv").write_text(f"{HEADER}1,1,9,1\n")
    with pytest.raises(UserError) as caught:
        fetch(data, tmp_path / "tables")
    assert str(data / "ratings.csv") in str(caught.value)

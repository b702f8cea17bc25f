"""Where a dataset's files are found, that they are read again only where they changed, and downloads that fail."""

import hashlib
import io
import shutil
import subprocess
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from core.artifacts import verify
from core.errors import UserError
from core.run_folder import Run
from models.baselines.truth import is_synthetic
from workflows.sources.datasets import DATASETS, get_dataset
from workflows.sources.fetch import fetch_tables
from workflows.synthetic.files import TRUTH_FILES
from workflows.synthetic.synthesise import synthesise
from workflows.synthetic.truth import load_truth

SMALL = get_dataset("ml-latest-small")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty $MARQUEE_DATA, and no network."""
    monkeypatch.setenv("MARQUEE_DATA", str(tmp_path / "home"))
    unreachable(monkeypatch)
    return tmp_path / "home"


def unreachable(monkeypatch) -> None:
    def refuse(*_args, **_kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


class Reply(io.BytesIO):
    """What urlopen gives; breaks off after `until` bytes where that is given."""

    def __init__(self, content: bytes, until: int | None = None):
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content))}
        self.until = until

    def read(self, size: int | None = -1) -> bytes:
        if self.until is not None and self.tell() >= self.until:
            raise ConnectionResetError("Connection reset by peer")
        return super().read(size if self.until is None else self.until)


def serve(monkeypatch, replies: dict[str, bytes], until: int | None = None) -> list[str]:
    """Lets urlopen answer with what belongs to the end of the address; gives the list of addresses asked for."""
    asked: list[str] = []

    def answer(url: str, **_kwargs) -> Reply:
        asked.append(url)
        return Reply(replies[url.rsplit("/", 1)[1]], until)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return asked


def zipped(folder: Path, archive: Path, inside: str = "ml-latest-small/") -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(f"{inside}README.txt", "not a table")
        for path in sorted(folder.iterdir()):
            out.write(path, inside + path.name)
    return archive


def fetch(tables: Path, data: Path | None = None, dataset=SMALL) -> str:
    said: list[str] = []
    done = fetch_tables(dataset, data, tables, said.append)
    assert done is ("unchanged" not in said[-1])
    return "\n".join(said)


def refusal(tables: Path, data: Path | None = None, dataset=SMALL) -> str:
    with pytest.raises(UserError) as caught:
        fetch(tables, data, dataset)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    assert not tables.exists()
    return message


def stamp(tables: Path) -> list[tuple]:
    """Changes where the tables have been written again."""
    return [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(tables.iterdir())]


def test_an_unknown_dataset_is_refused_and_the_known_ones_listed():
    with pytest.raises(UserError) as caught:
        get_dataset("ml-2k")
    assert "'ml-2k'" in str(caught.value)
    assert all(name in str(caught.value) for name in DATASETS)


@pytest.mark.parametrize("name", ["synth-ml-25m", "synth-ml-latest-small-0.05", "synth-x"])
def test_a_synthetic_dataset_has_a_name_of_its_own(name):
    assert get_dataset(name).name == name


@pytest.mark.parametrize("name", ["synth-../x", "synth-/etc", "synth", "../synth-x"])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(UserError, match="unknown dataset"):
        get_dataset(name)


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small"])
def test_every_release_has_its_zip_at_grouplens(name):
    dataset = get_dataset(name)
    assert dataset.name == name
    assert dataset.sources[0].url == f"https://files.grouplens.org/datasets/movielens/{name}.zip"


def test_data_that_is_not_there_is_named(tmp_path):
    message = refusal(tmp_path / "tables", tmp_path / "nowhere")
    assert "--data" in message
    assert str(tmp_path / "nowhere") in message


def test_a_folder_becomes_three_tables(movielens, tmp_path):
    said = fetch(tmp_path / "tables", movielens)
    ratings = pq.read_table(tmp_path / "tables" / "ratings.parquet")
    lines = (movielens / "ratings.csv").read_text().splitlines()
    assert ratings.num_rows == len(lines) - 1
    assert [str(value) for value in ratings.slice(0, 1).to_pylist()[0].values()] == lines[1].split(",")
    assert pq.read_table(tmp_path / "tables" / "movies.parquet").num_rows == 120
    assert pq.read_table(tmp_path / "tables" / "users.parquet").num_rows == 60
    assert f"{ratings.num_rows:,} ratings, 60 users, 120 movies" in said
    assert verify(tmp_path / "tables")["dataset"] == "ml-latest-small"


def test_repeated_ratings_are_counted(tmp_path, movielens):
    data = shutil.copytree(movielens, tmp_path / "data")
    with open(data / "ratings.csv", "a") as file:
        file.write("1,1200,3,1\n1,1200,4,2\n1,1200,5,3\n")
    assert "2 repeated ratings" in fetch(tmp_path / "tables", data)


@pytest.mark.parametrize("inside", ["ml-latest-small/", ""], ids=["folder", "flat"])
def test_a_zip_gives_the_same_tables_as_its_folder(movielens, tmp_path, inside):
    fetch(tmp_path / "folder", movielens)
    fetch(tmp_path / "zip", zipped(movielens, tmp_path / "some.zip", inside))
    for name in ("ratings.parquet", "movies.parquet", "users.parquet"):
        assert pq.read_table(tmp_path / "zip" / name).equals(pq.read_table(tmp_path / "folder" / name))


def test_the_second_call_reuses_the_tables(movielens, tmp_path):
    assert "unchanged" not in fetch(tmp_path / "tables", movielens)
    before = stamp(tmp_path / "tables")
    assert "unchanged" in fetch(tmp_path / "tables", movielens)
    assert "unchanged" in fetch(tmp_path / "tables", zipped(movielens, tmp_path / "some.zip"))
    assert stamp(tmp_path / "tables") == before


@pytest.mark.parametrize("name", ["ratings.csv", "movies.csv"])
def test_a_changed_raw_file_is_noticed(movielens, tmp_path, name):
    data = shutil.copytree(movielens, tmp_path / "data")
    fetch(tmp_path / "tables", data)
    with open(data / name, "a") as file:
        file.write({"ratings.csv": "777,10,4.0,1\n", "movies.csv": "7770,New (2001),Drama\n"}[name])
    assert "unchanged" not in fetch(tmp_path / "tables", data)
    users = pq.read_table(tmp_path / "tables" / "users.parquet").to_pydict()["userId"]
    movies = pq.read_table(tmp_path / "tables" / "movies.parquet").to_pydict()["movieId"]
    assert (777 in users, 7770 in movies) == (name == "ratings.csv", name == "movies.csv")


def test_other_files_in_the_folder_do_not_matter(movielens, tmp_path):
    data = shutil.copytree(movielens, tmp_path / "data")
    fetch(tmp_path / "tables", data)
    (data / "tags.csv").write_text("userId,movieId,tag,timestamp\n")
    assert "unchanged" in fetch(tmp_path / "tables", data)


def test_changed_tables_are_made_again(movielens, tmp_path):
    fetch(tmp_path / "tables", movielens)
    (tmp_path / "tables" / "users.parquet").write_bytes(b"PAR1")
    assert "unchanged" not in fetch(tmp_path / "tables", movielens)
    verify(tmp_path / "tables")


def test_bad_data_leaves_the_earlier_tables(movielens, tmp_path):
    fetch(tmp_path / "tables", movielens)
    before = stamp(tmp_path / "tables")
    data = shutil.copytree(movielens, tmp_path / "data")
    (data / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,10,9,1\n")
    with pytest.raises(UserError, match=r"ratings\.csv: line 2 has rating 9"):
        fetch(tmp_path / "tables", data)
    assert stamp(tmp_path / "tables") == before


# -- synthetic data ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "synth-tiny"
    synthesise(folder, "ml-latest-small", 0.05, 1, lambda *_: None)
    return folder


def truth_in(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TRUTH_FILES if (folder / name).is_file()}


def test_the_truth_of_synthetic_data_comes_with_it(synthetic, tmp_path):
    run = Run(tmp_path / "run")
    fetch(run.tables, synthetic)
    assert is_synthetic(run.tables)
    assert len(truth_in(synthetic)) == len(TRUTH_FILES) == 3
    assert truth_in(run.tables) == truth_in(synthetic)
    assert set(TRUTH_FILES) < verify(run.tables)["files"].keys()
    rows = pq.read_table(run.tables / "ratings.parquet").slice(0, 100)
    watch = load_truth(run.tables).watch(rows["userId"].to_numpy(), rows["movieId"].to_numpy())
    assert ((watch > 0) & (watch < 1)).all()


def test_plain_data_has_no_truth(movielens, tmp_path):
    run = Run(tmp_path / "run")
    fetch(run.tables, movielens)
    assert not is_synthetic(run.tables)
    assert truth_in(run.tables) == {}


def test_truth_in_a_zip_comes_too(synthetic, tmp_path):
    fetch(tmp_path / "tables", zipped(synthetic, tmp_path / "some.zip"))
    assert truth_in(tmp_path / "tables") == truth_in(synthetic)


def test_another_truth_is_noticed(synthetic, tmp_path):
    data = shutil.copytree(synthetic, tmp_path / "data")
    fetch(tmp_path / "tables", data)
    (data / "synth.json").write_text((data / "synth.json").read_text() + "\n")
    assert "unchanged" not in fetch(tmp_path / "tables", data)
    assert truth_in(tmp_path / "tables") == truth_in(data)
    for name in TRUTH_FILES:
        (data / name).unlink()
    assert "unchanged" not in fetch(tmp_path / "tables", data)
    assert truth_in(tmp_path / "tables") == {}


def test_synthetic_data_is_found_in_the_home(synthetic, tmp_path, home):
    home.mkdir()
    shutil.copytree(synthetic, home / "synth-tiny")
    assert "50 users" in fetch(tmp_path / "tables", dataset=get_dataset("synth-tiny"))
    assert verify(tmp_path / "tables")["dataset"] == "synth-tiny"
    assert "unchanged" in fetch(tmp_path / "tables", dataset=get_dataset("synth-tiny"))


def test_synthetic_data_that_is_not_there_is_not_downloaded(tmp_path, home, monkeypatch):
    asked = serve(monkeypatch, {})
    message = refusal(tmp_path / "tables", dataset=get_dataset("synth-x"))
    assert str(home / "synth-x") in message
    assert "python -m marquee synth" in message
    assert "--data" in message
    assert asked == []


# -- zips that are not whole -------------------------------------------------------------------------------------------


def not_a_zip(_content: bytes) -> bytes:
    return b"<html>not found</html>"


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


def changed_in_the_middle(content: bytes) -> bytes:
    start = content.index(b"ratings.csv") + 200
    return content[:start] + bytes(byte ^ 0xFF for byte in content[start : start + 64]) + content[start + 64 :]


@pytest.mark.parametrize("damage", [not_a_zip, cut_off, changed_in_the_middle, lambda _: b""])
def test_a_corrupt_zip_is_named(movielens, tmp_path, damage):
    archive = zipped(movielens, tmp_path / "some.zip")
    archive.write_bytes(damage(archive.read_bytes()))
    assert str(archive) in refusal(tmp_path / "tables", archive)


def test_a_zip_without_ratings_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as out:
        out.writestr("holiday.jpg", b"\xff\xd8")
    assert "ratings.csv" in refusal(tmp_path / "tables", tmp_path / "some.zip")


# -- $MARQUEE_DATA and downloads ---------------------------------------------------------------------------------------


def test_a_folder_in_the_home_is_found(movielens, tmp_path, home):
    shutil.copytree(movielens, home / SMALL.name)
    assert "60 users" in fetch(tmp_path / "tables")


def test_a_zip_in_the_home_is_found(movielens, tmp_path, home):
    zipped(movielens, home / f"{SMALL.name}.zip")
    assert "60 users" in fetch(tmp_path / "tables")


def test_data_goes_before_the_home(movielens, tmp_path, home):
    (home / SMALL.name).mkdir(parents=True)  # without ratings
    assert "60 users" in fetch(tmp_path / "tables", movielens)


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "ml-100k" and DATASETS[name].sources])
def test_without_a_network_the_message_says_what_to_do(tmp_path, home, name):
    message = refusal(tmp_path / "tables", dataset=get_dataset(name))
    assert get_dataset(name).sources[0].url in message
    assert "Name or service not known" in message
    assert "--data" in message
    assert not home.exists()  # no empty folder is left


def test_a_download_is_checked_kept_and_used_again(movielens, tmp_path, home, monkeypatch):
    content = zipped(movielens, tmp_path / "served.zip").read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    asked = serve(monkeypatch, {"ml-1m.zip": content})
    release = get_dataset("ml-1m")
    dataset = replace(release, sources=(replace(release.sources[0], md5=md5),))
    assert "GroupLens" in fetch(tmp_path / "tables", dataset=dataset)
    assert asked == [dataset.sources[0].url]
    assert left_in(home) == ["ml-1m.zip"]
    unreachable(monkeypatch)
    assert "unchanged" in fetch(tmp_path / "tables", dataset=dataset)


def test_a_zip_that_is_replaced_in_place_is_checked_against_the_sum_beside_it(movielens, tmp_path, home, monkeypatch):
    content = zipped(movielens, tmp_path / "served.zip").read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    served = {"ml-latest-small.zip": content, "ml-latest-small.zip.md5": f"MD5 (x.zip) = {md5}\n".encode()}
    serve(monkeypatch, served)
    assert "60 users" in fetch(tmp_path / "tables")
    assert left_in(home) == ["ml-latest-small.zip"]


@pytest.mark.parametrize("name", ["ml-1m", "ml-100k", "ml-latest-small"])
def test_a_download_with_another_md5_is_refused_and_not_kept(movielens, tmp_path, home, monkeypatch, name):
    content = zipped(movielens, tmp_path / "served.zip").read_bytes()
    served = {f"{name}.zip": content, f"{name}.zip.md5": b"0123456789abcdef0123456789abcdef"}
    serve(monkeypatch, served)
    message = refusal(tmp_path / "tables", dataset=get_dataset(name))
    assert "MD5" in message
    assert hashlib.md5(content).hexdigest() in message
    assert not home.exists()  # no empty folder is left


def test_a_download_that_breaks_off_is_refused_and_not_kept(movielens, tmp_path, home, monkeypatch):
    content = zipped(movielens, tmp_path / "served.zip").read_bytes()
    serve(monkeypatch, {"ml-1m.zip": content}, until=1000)
    message = refusal(tmp_path / "tables", dataset=get_dataset("ml-1m"))
    assert "Connection reset" in message
    assert not home.exists()  # no empty folder is left


def test_ml_100k_comes_from_recbole_where_grouplens_is_unreachable(tmp_path, home, monkeypatch):
    serve_wheel(
        monkeypatch,
        {
            "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t4\t100\n",
            "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n",
            "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n",
        },
    )
    said = fetch(tmp_path / "tables", dataset=get_dataset("ml-100k"))
    assert "GroupLens cannot be reached" in said
    assert "1 ratings, 1 users, 1 movies" in said
    assert left_in(home) == ["ml-100k", "ml-100k/ml-100k.inter", "ml-100k/ml-100k.item", "ml-100k/ml-100k.user"]
    assert "unchanged" in fetch(tmp_path / "tables", dataset=get_dataset("ml-100k"))


def test_ml_100k_that_cannot_be_downloaded_anywhere_is_refused(tmp_path, home, monkeypatch):
    def fail(*_args, **_kwargs):
        return subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", fail)
    message = refusal(tmp_path / "tables", dataset=get_dataset("ml-100k"))
    assert "No matching distribution found" in message
    assert "--data" in message
    assert not home.exists()  # no empty folder is left


def serve_wheel(monkeypatch, files: dict[str, str]) -> None:
    """Lets `pip download` leave a wheel with these files of ML-100K."""

    def download(command: list[str], **_kwargs):
        target = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(target / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("recbole/__init__.py", "")
            for name, text in files.items():
                wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", text)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)


def left_in(home: Path) -> list[str]:
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*"))

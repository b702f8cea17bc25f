"""The datasets, and where their files are found."""

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.artifacts import code_digest, fingerprint, is_current, new_folder, sha256
from core.errors import UserError
from workflows.sources.readers import LAYOUTS, read_tables

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
DOWNLOAD_TIMEOUT = 15  # seconds without a byte
RECBOLE = "recbole==1.2.1"  # its wheel carries ML-100K; RecBole itself is not installed
TRUTH_FILES = ("synth.json", "truth-users.parquet", "truth-movies.parquet")  # of `workflows/synth.py`
SYNTHETIC = "synth-"
RECBOLE_FOLDER = "recbole/dataset_example/ml-100k/"


@dataclass(frozen=True)
class Dataset:
    """A MovieLens release. `md5` is GroupLens' published sum of its zip; None where they replace the zip in place.

    The numbers are GroupLens' own; 0 for made-up data.
    """

    name: str
    ratings: int
    users: int
    movies: int
    md5: str | None = None

    @property
    def url(self) -> str:
        return f"{GROUPLENS}/{self.name}.zip"


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("ml-100k", 100_000, 943, 1_682, "0e33842e24a9c977be4e0107933c0723"),
        Dataset("ml-1m", 1_000_209, 6_040, 3_883, "c4d9eecfca2ab87c1945afe126590906"),
        Dataset("ml-10m", 10_000_054, 69_878, 10_681, "ce571fd55effeba0271552578f2648bd"),
        Dataset("ml-20m", 20_000_263, 138_493, 27_278, "cd245b17a1ae2cc31bb14903e1204af3"),
        Dataset("ml-25m", 25_000_095, 162_541, 62_423, "6b51fb2759a8657d3bfcbfc42b592ada"),
        Dataset("ml-32m", 32_000_204, 200_948, 87_585),
        Dataset("ml-latest-small", 100_836, 610, 9_742),
    )
}


def get_dataset(name: str) -> Dataset:
    """The dataset of that name; `synth-...` is one that `marquee synth` has made.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name.startswith(SYNTHETIC) and Path(name).name == name:
        return Dataset(name, 0, 0, 0)
    if name not in DATASETS:
        raise UserError(f"unknown dataset {name!r}; choose one of {', '.join(DATASETS)}, or what synth has made")
    return DATASETS[name]


def data_home() -> Path:
    """Where datasets are looked for and downloads are kept: $MARQUEE_DATA, or `data/`."""
    return Path(os.environ.get("MARQUEE_DATA") or "data")


def fetch_tables(dataset: Dataset, data: Path | None, tables: Path, say: Callable[[str], None]) -> bool:
    """Finds the dataset's files and writes the canonical tables in Parquet; does nothing where they are up to date.

    Looks, in this order, at `data` (a folder or a zip), `$MARQUEE_DATA/<name>`, GroupLens' zip, and for ml-100k at the
    copy in the RecBole wheel. Where the files are made up (`marquee synth`), their truth comes with them.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: the files cannot be found or read.
    """
    with tempfile.TemporaryDirectory(prefix="marquee-") as temporary:
        folder, source = _find(dataset, data, Path(temporary), say)
        raw = {p.name: sha256(p) for p in sorted(folder.rglob("*")) if p.is_file() and _is_raw(p.name)}
        made_from = fingerprint(raw=raw, code=code_digest(("workflows/sources",), ("pandas", "pyarrow")))
        if is_current(tables, made_from):
            say(f"{dataset.name} from {source}: unchanged, tables reused")
            return False
        try:
            found = read_tables(folder)
        except UserError as error:  # what was in a zip is named by the zip, not by where it was unpacked for a moment
            raise UserError(str(error).replace(f"{temporary}/", f"{source}, ")) from None
        with new_folder(tables, made_from, dataset=dataset.name, source=source) as out:
            pq.write_table(found.ratings, out / "ratings.parquet")
            pq.write_table(pa.Table.from_pandas(found.movies, preserve_index=False), out / "movies.parquet")
            pq.write_table(pa.Table.from_pandas(found.users, preserve_index=False), out / "users.parquet")
            for path in folder.rglob("*"):
                if path.name in TRUTH_FILES and path.is_file():
                    shutil.copy(path, out / path.name)
    say(
        f"{dataset.name} from {source}: {len(found.ratings):,} ratings, {len(found.users):,} users, "
        f"{len(found.movies):,} movies"
        + (f" ({found.repeated:,} repeated ratings dropped, the last of each kept)" if found.repeated else "")
    )
    return True


def _is_raw(name: str) -> bool:
    known = (name for layout in LAYOUTS for name in (layout.ratings_file, layout.movies_file, layout.users_file))
    return name in known or name in TRUTH_FILES


def _find(dataset: Dataset, data: Path | None, temporary: Path, say: Callable[[str], None]) -> tuple[Path, str]:
    """The folder with the raw files, unpacked into `temporary` where they are in a zip, and what to call the source."""
    if data is not None:
        if not data.exists():
            raise UserError(f"--data {data} does not exist; give a MovieLens folder or zip")
        return (data if data.is_dir() else _unpack(data, temporary)), str(data.name)
    home = data_home()
    for path in (home / dataset.name, home / f"{dataset.name}.zip"):
        if path.exists():
            return (path if path.is_dir() else _unpack(path, temporary)), str(path)
    if dataset.name.startswith(SYNTHETIC):
        raise UserError(f"{home / dataset.name} does not exist; make it with: python -m marquee synth, or give --data")
    try:
        return _unpack(_download(dataset, home, say), temporary), "GroupLens"
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        if dataset.name != "ml-100k":
            raise UserError(
                f"cannot download {dataset.url} ({reason}); download it elsewhere and pass it with --data"
            ) from None
        say(f"[dim]GroupLens cannot be reached ({reason}); using the copy in the {RECBOLE} wheel[/dim]")
        return _from_recbole(home / dataset.name, temporary), f"the {RECBOLE} wheel"


def _unpack(archive: Path, temporary: Path) -> Path:
    try:
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(temporary, [name for name in zipped.namelist() if _is_raw(Path(name).name)])
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{archive} is not a whole zip file ({error}); download it again") from None
    return temporary


def _download(dataset: Dataset, home: Path, say: Callable[[str], None]) -> Path:
    """GroupLens' zip, checked against its published MD5, kept in `home`."""
    from core.progress import progress

    home.mkdir(parents=True, exist_ok=True)
    final = home / f"{dataset.name}.zip"
    partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
    try:
        expected = dataset.md5
        if expected is None:  # GroupLens publishes it beside the zip
            with urllib.request.urlopen(f"{dataset.url}.md5", timeout=DOWNLOAD_TIMEOUT) as reply:
                expected = next((word for word in reply.read(1000).decode().split() if len(word) == 32), None)
            if expected is None:
                raise UserError(f"{dataset.url}.md5 holds no MD5 sum; try again later, or pass the zip with --data")
        digest = hashlib.md5(usedforsecurity=False)
        with urllib.request.urlopen(dataset.url, timeout=DOWNLOAD_TIMEOUT) as reply, open(partial, "wb") as file:
            size = int(reply.headers.get("Content-Length") or 0) or None
            with progress(f"{dataset.name}.zip", size, "bytes") as advance:
                while chunk := reply.read(1 << 18):
                    digest.update(chunk)
                    file.write(chunk)
                    advance(len(chunk), "")
        if digest.hexdigest() != expected:
            raise UserError(f"{dataset.url} arrived with MD5 {digest.hexdigest()}, not {expected}; try again later")
        os.replace(partial, final)
    finally:
        partial.unlink(missing_ok=True)
    return final


def _from_recbole(folder: Path, temporary: Path) -> Path:
    """ML-100K's files out of the RecBole wheel, kept in `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(temporary), RECBOLE]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = list(temporary.glob("recbole-*.whl"))
    if result.returncode or not wheels:
        last = (result.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise UserError(
            f"cannot download ml-100k: neither GroupLens nor {RECBOLE} can be had ({last}); pass it with --data"
        )
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in wheel.namelist():
                if name.startswith(RECBOLE_FOLDER) and _is_raw(Path(name).name):
                    (partial / Path(name).name).write_bytes(wheel.read(name))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder

"""A dataset's files found, unpacked, read, and written as the canonical tables in Parquet."""

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.artifacts import fingerprint, is_current, missing_folders, new_folder, remove_empty, sha256
from core.errors import UserError
from core.stage_code import stage_code
from workflows.sources.datasets import Dataset, data_home
from workflows.sources.download import Unreachable
from workflows.sources.layouts.base import LAYOUTS
from workflows.sources.read import Tables, read_tables
from workflows.synthetic.files import TRUTH_FILES


def fetch_tables(dataset: Dataset, data: Path | None, tables: Path, say: Callable[[str], None]) -> bool:
    """Finds the dataset's files and writes the canonical tables in Parquet; does nothing where they are up to date.

    Looks, in this order, at `data` (a folder or a zip), at `$MARQUEE_DATA/<name>` and `<name>.zip`, and at the sources
    of the dataset. Where the data is synthetic (`marquee synth`), its truth comes with it.

    Args:
        say: is given one line for each thing that a user should know.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: the files cannot be found or read.
    """
    with tempfile.TemporaryDirectory(prefix="marquee-") as temporary:
        folder, source = _find(dataset, data, Path(temporary), say)
        made_from = _made_from(dataset, folder)
        if is_current(tables, made_from):
            say(f"{dataset.name} from {source}: unchanged, tables reused")
            return False
        try:
            found = read_tables(folder, dataset.layout)
        except UserError as error:  # a file of a zip is named by the zip, not by where it was unpacked
            raise UserError(str(error).replace(f"{temporary}/", f"{source}, ")) from None
        with new_folder(tables, made_from, dataset=dataset.name, source=source) as out:
            _write(found, folder, out)
    dropped = f" ({found.repeated:,} repeated ratings dropped, the last of each kept)" if found.repeated else ""
    say(
        f"{dataset.name} from {source}: {len(found.ratings):,} ratings, {len(found.users):,} users, "
        f"{len(found.movies):,} movies{dropped}"
    )
    return True


def _made_from(dataset: Dataset, folder: Path) -> str:
    """The fingerprint of everything that the tables depend on."""
    raw = {path.name: sha256(path) for path in sorted(folder.rglob("*")) if path.is_file() and _is_raw(path.name)}
    code = stage_code(("workflows/sources",), ("pandas", "pyarrow"), LAYOUTS)
    return fingerprint(raw=raw, layout=dataset.layout, code=code)


def _is_raw(name: str) -> bool:
    """Whether a file of that name is part of a dataset, of whatever layout."""
    return name in TRUTH_FILES or any(name in layout.files for layout in LAYOUTS.values())


def _write(found: Tables, folder: Path, out: Path) -> None:
    pq.write_table(found.ratings, out / "ratings.parquet")
    pq.write_table(pa.Table.from_pandas(found.movies, preserve_index=False), out / "movies.parquet")
    pq.write_table(pa.Table.from_pandas(found.users, preserve_index=False), out / "users.parquet")
    for path in folder.rglob("*"):
        if path.name in TRUTH_FILES and path.is_file():
            shutil.copy(path, out / path.name)


# -- finding and unpacking ---------------------------------------------------------------------------------------------


def _find(dataset: Dataset, data: Path | None, temporary: Path, say: Callable[[str], None]) -> tuple[Path, str]:
    """The folder with the raw files, unpacked into `temporary` where they are in a zip, and what to call the source."""
    if data is not None:
        if not data.exists():
            raise UserError(f"--data {data} does not exist; give a MovieLens folder or zip")
        return _unpacked(data, temporary), data.name
    home = data_home()
    for path in (home / dataset.name, home / f"{dataset.name}.zip"):
        if path.exists():
            return _unpacked(path, temporary), str(path)
    path, source = _obtain(dataset, home, say)
    return _unpacked(path, temporary), source


def _obtain(dataset: Dataset, home: Path, say: Callable[[str], None]) -> tuple[Path, str]:
    """The files from the first of the dataset's sources that can be reached, and what to call it."""
    if not dataset.sources:
        raise UserError(f"{home / dataset.name} does not exist; put the dataset's folder there, or give --data")
    failed, missing = [], missing_folders(home)
    try:
        for number, source in enumerate(dataset.sources, 1):
            try:
                return source.obtain(dataset.name, home, _is_raw), source.label
            except Unreachable as reason:
                failed.append(f"{source.address} ({reason})")
                if number < len(dataset.sources):
                    following = dataset.sources[number]
                    say(f"{source.label} cannot be reached ({reason}); trying {following.label}")
    finally:
        remove_empty(missing)
    raise UserError(
        f"cannot download {dataset.name} from {' or '.join(failed)}; download it elsewhere and pass it with --data"
    )


def _unpacked(path: Path, temporary: Path) -> Path:
    """A folder as it is; the raw files of a zip, unpacked."""
    if path.is_dir():
        return path
    try:
        with zipfile.ZipFile(path) as zipped:
            zipped.extractall(temporary, [name for name in zipped.namelist() if _is_raw(Path(name).name)])
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path} is not a whole zip file ({error}); download it again") from None
    return temporary

"""A dataset's files found, unpacked, read, and written as the canonical tables in Parquet."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.artifacts import fingerprint, missing_folders, new_folder, remove_empty, sha256, verify
from core.columns import RAW_USER
from core.errors import UserError
from core.json_files import read_json, validated
from core.locks import held
from core.stage_code import stage_code
from core.temporary import clear
from workflows.sources.datasets import Dataset, data_home
from workflows.sources.download import Unreachable, clear_partial, download_lock
from workflows.sources.find import PREFIX, Packed, Place, find_release, is_raw, place_of, what_is_read
from workflows.sources.fit import deviations
from workflows.sources.layouts.base import LAYOUTS
from workflows.sources.more_ratings import check_more, with_more
from workflows.sources.read import Tables, check_files, read_files
from workflows.synthetic.files import SUMMARY, TRUTH_FILES

Say = Callable[[str], None]
LARGEST_USER = "largest_user"  # in the tables' manifest: the dataset's own largest user id, without more ratings


def fetch_tables(dataset: Dataset, data: Path | None, tables: Path, say: Say, more: Path | None = None) -> bool:
    """Finds the dataset's files and writes the canonical tables in Parquet; does nothing where they are up to date.

    Looks, in this order, at `data`, at `$MARQUEE_DATA/<name>` and `<name>.zip`, and at the sources of the dataset.
    Where the data is synthetic (`marquee synth`), its truth comes with it, unless there are more ratings than its own.

    Args:
        data: a folder, an archive (zip, or tar, compressed or not), or the ratings file in a folder.
        say: is given one line of plain text for each thing that a user should know.
        more: a file of more ratings in MovieLens' CSV layout, of users of the dataset or of new ones; None for none.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: the files cannot be found or read.
    """
    clear(PREFIX)  # of a process that was killed
    if more:
        check_more(more)
    place, source = _find(dataset, data, say)
    written = _Written.of(dataset, tables, more)
    # An archive that was read before need not be unpacked; where its bytes are others, its content may be the same.
    seen = written.key(place.packed({})) if isinstance(place, Packed) else ""
    if seen and written.manifest.get("seen") == seen:
        return written.reused(source, written.manifest.get("unread", ()), say)
    release = find_release(place, dataset.layout)
    check_files(release)
    if packed := place.packed(release.files):
        seen = seen or written.key(packed)
    if seen and written.manifest.get("seen") == seen:
        return written.reused(source, release.notes, say)
    with release.opened() as files:
        made_from = written.key(files)
        if written.manifest.get("fingerprint") == made_from:
            return written.reused(source, release.notes, say)
        own = read_files(release.layout, files)
        found, added = with_more(own, more) if more else (own, "")
        notes = [*found.notes, *_deviations(dataset, own, files)]
        notes = [release.translated(note, files) for note in notes]
        details: dict[str, Any] = {"source": source, "seen": seen, "unread": release.notes, "notes": notes}
        details[LARGEST_USER] = int(own.users[RAW_USER].max())
        with new_folder(tables, made_from, dataset=dataset.name, **details) as out:
            write_tables(found, {} if more else files, out)
    for note in [*release.notes, *notes]:
        say(f"warning: {note}")
    say(f"{dataset.name} from {source}: {numbers_read(own)}")
    if more:
        say(f"{more}: {added}")
    return True


@dataclass(frozen=True)
class _Written:
    """The tables that are there.

    Attributes:
        manifest: of whole tables; empty where there are none.
        inputs: what they are made from besides the dataset's files: the code that reads them, and more ratings.
    """

    dataset: Dataset
    manifest: Mapping[str, Any]
    inputs: Mapping[str, str]

    @classmethod
    def of(cls, dataset: Dataset, tables: Path, more: Path | None) -> "_Written":
        inputs = {"code": stage_code(("workflows/sources",), ("pandas", "pyarrow"), LAYOUTS)}
        if more:
            inputs["more"] = sha256(more)
        try:
            return cls(dataset, verify(tables), inputs)
        except UserError:
            return cls(dataset, {}, inputs)

    def key(self, files: Mapping[str, Path]) -> str:
        """The fingerprint of tables that are made from files, which are given by their names."""
        raw = {name: sha256(path) for name, path in sorted(files.items())}
        return fingerprint(raw=raw, layout=self.dataset.layout, **self.inputs)

    def reused(self, source: str, unread: Sequence[str], say: Say) -> bool:
        """Says that the tables are up to date, and what was suspicious when they were written."""
        for note in [*unread, *self.manifest.get("notes", ())]:
            say(f"warning: {note}")
        say(f"{self.dataset.name} from {source}: unchanged, tables reused")
        return False


def numbers_read(found: Tables) -> str:
    """How many ratings, users and movies were read."""
    numbers = f"{len(found.ratings):,} ratings, {len(found.users):,} users, {len(found.movies):,} movies"
    dropped = f" ({found.repeated:,} repeated ratings dropped, the last of each kept)" if found.repeated else ""
    return numbers + dropped


def write_tables(found: Tables, files: Mapping[str, Path], out: Path) -> None:
    """Writes the canonical tables in Parquet, and copies what is known of their truth.

    Args:
        files: of the dataset, by name.
    """
    pq.write_table(found.ratings, out / "ratings.parquet")
    pq.write_table(pa.Table.from_pandas(found.movies, preserve_index=False), out / "movies.parquet")
    pq.write_table(pa.Table.from_pandas(found.users, preserve_index=False), out / "users.parquet")
    for name in TRUTH_FILES:
        if name in files:
            shutil.copy(files[name], out / name)


def _deviations(dataset: Dataset, found: Tables, files: Mapping[str, Path]) -> list[str]:
    """What differs from the size that the release should have: as published, or as `synth` has written it."""
    if SUMMARY in files:
        summary = read_json(files[SUMMARY], "python -m marquee synth")
        counts = summary.get("counts") if isinstance(summary, dict) else None
        sizes = validated(dict[str, int], counts or {}, f"{files[SUMMARY]}, counts")
        dataset = replace(dataset, ratings=sizes.get("ratings", 0), users=sizes.get("users", 0), movies=0)
    return deviations(dataset, len(found.ratings) + found.repeated, len(found.users), len(found.movies))


# -- finding -----------------------------------------------------------------------------------------------------------


def _find(dataset: Dataset, data: Path | None, say: Say) -> tuple[Place, str]:
    """Where the raw files are, and what to call it."""
    if data is not None:
        if not data.exists():
            raise UserError(f"--data {data} does not exist; give {what_is_read()}")
        return place_of(data), data.name or str(data)
    home = data_home()
    clear_partial(home, dataset.name)
    found = _in_home(home, dataset.name, say)
    if found:
        return place_of(found), str(found)
    path, source = _obtain(dataset, home, say)
    return place_of(path), source


def _in_home(home: Path, name: str, say: Say) -> Path | None:
    folder, archive = home / name, home / f"{name}.zip"
    if folder.exists() and archive.exists():
        say(f"{folder} is read, not {archive.name} beside it")
    return next((path for path in (folder, archive) if path.exists()), None)


def _obtain(dataset: Dataset, home: Path, say: Say) -> tuple[Path, str]:
    """The files from the first of the dataset's sources that can be reached, and what to call it."""
    if not dataset.sources:
        raise UserError(f"{home / dataset.name} does not exist; put the dataset's folder there, or give --data")
    failed: list[str] = []
    with _alone(home, dataset.name, say):
        found = _in_home(home, dataset.name, say)  # by the process that this one waited for
        if found:
            return found, str(found)
        for number, source in enumerate(dataset.sources, 1):
            try:
                return source.obtain(dataset.name, home, is_raw), source.label
            except Unreachable as reason:
                failed.append(f"{source.address} ({reason})")
                if number < len(dataset.sources):
                    following = dataset.sources[number]
                    say(f"{source.label} cannot be reached ({reason}); trying {following.label}")
    raise UserError(
        f"cannot download {dataset.name} from {' or '.join(failed)}; download it elsewhere and pass it with --data"
    )


@contextmanager
def _alone(home: Path, name: str, say: Say) -> Iterator[None]:
    """Lets one process at a time download a dataset; a home that was made for it and stayed empty is removed."""
    missing = missing_folders(home)

    def waits() -> None:
        say(f"another marquee process downloads {name} into {home}; waiting for it")

    try:
        with ExitStack() as stack:
            while True:
                home.mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(held(download_lock(home, name), waits))
                    break
                except FileNotFoundError:  # another process, which found nothing, has just removed the empty home
                    continue
            yield
    finally:
        remove_empty(missing)

"""Where the files of a release are, in a folder or an archive, compressed or not; and which of several is read.

Nothing is chosen among several without a word: `Release.notes` says what is not read.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from core.errors import UserError
from core.plain_path import plain_path
from core.temporary import temporary_folder
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.unpack import COMPRESSED, Archive, Member, archive_at, decompress
from workflows.synthetic.files import TRUTH_FILES

DEEPEST = 2  # folders below the one that is given
PREFIX = "marquee-fetch-"  # of the temporary folders that archives are unpacked into
ROOT = PurePosixPath()


class Place(Protocol):
    """Where the files of releases are."""

    @property
    def path(self) -> Path:
        """Of the folder or archive."""

    def members(self) -> list[Member]:
        """Its files that belong to a release, of whatever layout."""

    def shown(self, path: PurePosixPath) -> str:
        """What messages call a file in it."""

    @contextmanager
    def opened(self, wanted: Mapping[str, Member]) -> Iterator[dict[str, Path]]:
        """The files of some members, by the same names, readable while the block runs."""

    def packed(self, wanted: Mapping[str, Member]) -> dict[str, Path]:
        """The files on disk that the members must be unpacked from; none where they are read as they are."""

    def identity(self, path: PurePosixPath) -> str:
        """The same for two paths to one file."""


@dataclass(frozen=True)
class Folder:
    """A folder on disk, and those in it that are not hidden; links to folders and files are followed.

    Attributes:
        only: of the ratings, the one file that is asked for.
    """

    path: Path
    only: str | None = None

    def members(self) -> list[Member]:
        return list(self._below(self.path, ROOT))

    def _below(self, folder: Path, place: PurePosixPath) -> Iterator[Member]:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if is_raw(entry.name) and entry.is_file():
                yield Member(place / entry.name, entry.name)
        if self.only is None and len(place.parts) < DEEPEST:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_dir() and os.access(entry.path, os.R_OK | os.X_OK):
                    yield from self._below(folder / entry.name, place / entry.name)

    def shown(self, path: PurePosixPath) -> str:
        return str(self.path / path)

    @contextmanager
    def opened(self, wanted: Mapping[str, Member]) -> Iterator[dict[str, Path]]:
        compressed = self.packed(wanted)
        with ExitStack() as stack:
            base = stack.enter_context(plain_path(self.path))
            files = {name: base / member.path for name, member in wanted.items()}
            if compressed:
                folder = stack.enter_context(temporary_folder(PREFIX))
                for name, path in compressed.items():
                    decompress(path, folder / name)
                    files[name] = folder / name
            yield files

    def packed(self, wanted: Mapping[str, Member]) -> dict[str, Path]:
        return {name: self.path / member.path for name, member in wanted.items() if member.path.suffix in COMPRESSED}

    def identity(self, path: PurePosixPath) -> str:
        return os.path.realpath(self.path / path)


@dataclass(frozen=True)
class Packed:
    """An archive on disk, at whatever depth its files are."""

    archive: Archive

    @property
    def path(self) -> Path:
        return self.archive.path

    def members(self) -> list[Member]:
        return [member for member in self.archive.members() if is_raw(member.path.name) and not _hidden(member)]

    def shown(self, path: PurePosixPath) -> str:
        return f"{self.path}, {path}"

    @contextmanager
    def opened(self, wanted: Mapping[str, Member]) -> Iterator[dict[str, Path]]:
        with temporary_folder(PREFIX) as folder:
            files = {
                name: folder / f"{number}" / member.path.name for number, (name, member) in enumerate(wanted.items())
            }
            for path in files.values():
                path.parent.mkdir()
            self.archive.unpack({files[name]: member for name, member in wanted.items()})
            for name, path in files.items():
                if path.suffix in COMPRESSED:
                    decompress(path, path.with_suffix(""))
                    files[name] = path.with_suffix("")
            yield files

    def packed(self, wanted: Mapping[str, Member]) -> dict[str, Path]:
        return {"archive": self.path}

    def identity(self, path: PurePosixPath) -> str:
        return str(path)


@dataclass(frozen=True)
class Release:
    """The files of one release, not opened yet.

    Attributes:
        name: of its layout.
        folder: of its files, within the place.
        files: those that are there, compressed or not, by their names in the layout; and those of its truth.
        notes: sentences about what is there and not read.
    """

    name: str
    _: KW_ONLY
    place: Place
    folder: PurePosixPath
    files: dict[str, Member]
    notes: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.name]

    def shown(self, name: str) -> str:
        """What messages call a file of it."""
        return self.place.shown(self.files[name].path if name in self.files else self.folder / name)

    @property
    def ratings(self) -> PurePosixPath:
        """Of its ratings file, within the place."""
        return self.files[self.layout.ratings_file].path

    @contextmanager
    def opened(self) -> Iterator[dict[str, Path]]:
        """The files by their names in the layout, readable while the block runs.

        Raises:
            UserError: an archive is damaged or unpacks to too much; or any that the block raises, in which what was
                unpacked is called by where it comes from.
        """
        with self.place.opened(self.files) as files:
            try:
                yield files
            except UserError as error:
                raise UserError(self.translated(str(error), files)) from None

    def translated(self, text: str, files: Mapping[str, Path]) -> str:
        """A text in which what was unpacked is called by where it comes from."""
        for name, path in files.items():
            text = text.replace(str(path), self.shown(name))
        return text


def is_raw(name: str) -> bool:
    """Whether a file of that name is part of a release, of whatever layout, compressed or not."""
    return name in TRUTH_FILES or any(_plain(name) in layout.files for layout in LAYOUTS.values())


def place_of(path: Path) -> Place:
    """A folder, an archive, or the folder of a ratings file.

    Raises:
        UserError: it is none of these.
    """
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        if any(_plain(path.name) == layout.ratings_file for layout in LAYOUTS.values()):
            return Folder(path.parent, path.name)
        if is_raw(path.name):
            return Folder(path.parent)
        archive = archive_at(path)
        if archive:
            return Packed(archive)
        with open(path, "rb") as file:
            found = f"it begins with {file.read(20)!r}" if path.stat().st_size else "it is empty"
        raise UserError(f"{path} is neither a zip nor a tar archive ({found}); give {what_is_read()}")
    raise UserError(f"{path} is neither a folder nor a file; give {what_is_read()}")


def find_release(place: Place, layout_name: str | None = None) -> Release:
    """The one release in a place.

    Of several, those whose layout is `layout_name` go before the others, and one whose folder holds the others goes
    before those.

    Raises:
        UserError: there is none, or there are several and none goes before the others.
    """
    if layout_name:
        LAYOUTS.choose(layout_name)
    found = _releases(place, place.members())
    if not found:
        raise UserError(f"{place.path} holds no ratings that can be read; expected one of {_ratings_files()} in it")
    found = _with_movies(found)
    eligible = [release for release in found if release.name == layout_name] or found
    chosen, *rest = eligible
    for other in rest:
        if other.ratings == chosen.ratings:
            titles, movies = zip(*((one.layout.title, one.layout.movies_file) for one in (chosen, other)))
            raise UserError(
                f"{chosen.shown(chosen.layout.ratings_file)} may be {' or '.join(titles)}: {' and '.join(movies)} "
                "are both beside it; remove the one that it does not belong to"
            )
        if other.folder == chosen.folder or not other.folder.is_relative_to(chosen.folder):
            raise UserError(
                f"{place.path} holds several sets of ratings, {chosen.ratings} and {other.ratings}; "
                "give the one to read with --data"
            )
    others = [str(release.ratings) for release in found if release is not chosen]
    if not others:
        return chosen
    note = f"{place.path} holds several sets of ratings: {chosen.ratings} is read, not {_few(others)}"
    return replace(chosen, notes=(note, *chosen.notes))


def _with_movies(releases: list[Release]) -> list[Release]:
    """Of the layouts that one ratings file may have, those whose movies are there too, if any are."""
    complete = {one.ratings for one in releases if one.layout.movies_file in one.files}
    return [one for one in releases if one.ratings not in complete or one.layout.movies_file in one.files]


def _releases(place: Place, members: Sequence[Member]) -> list[Release]:
    """The releases of every folder and layout, the outermost first."""
    folders: dict[PurePosixPath, dict[str, Member]] = {}
    for member in members:
        names = folders.setdefault(member.path.parent, {})
        if member.path.name in names:
            raise UserError(f"{place.shown(member.path)} is there twice; keep one of the two")
        names[member.path.name] = member
    found: dict[tuple, Release] = {}
    for folder, names in sorted(folders.items(), key=lambda item: (len(item[0].parts), item[0])):
        for name, layout in LAYOUTS.items():
            release = _release(place, folder, names, name)
            if layout.ratings_file in release.files:
                # a folder that is linked to from beside it is one release
                found.setdefault((name, place.identity(release.ratings)), release)
    return list(found.values())


def _release(place: Place, folder: PurePosixPath, names: Mapping[str, Member], layout: str) -> Release:
    """What a folder has of a layout's files and of a truth."""
    files = {name: names[name] for name in TRUTH_FILES if name in names}
    notes = []
    for plain in LAYOUTS[layout].files:
        there = [name for name in (plain, *(plain + suffix for suffix in COMPRESSED)) if name in names]
        if isinstance(place, Folder) and place.only and _plain(place.only) == plain:
            there = [place.only]
        if there:
            files[plain] = names[there[0]]
        if len(there) > 1:
            notes.append(f"{place.shown(folder / there[0])} is read, not {_few(there[1:])} beside it")
    return Release(layout, place=place, folder=folder, files=files, notes=tuple(notes))


def _plain(name: str) -> str:
    """A file's name without the suffix of its compression."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix in COMPRESSED else name


def _hidden(member: Member) -> bool:
    return any(part.startswith(".") for part in member.path.parts)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _ratings_files() -> str:
    return ", ".join(layout.ratings_file for layout in LAYOUTS.values())


def what_is_read() -> str:
    return f"the folder or archive of a release, or its ratings file ({_ratings_files()})"

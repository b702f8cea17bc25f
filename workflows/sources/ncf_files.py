"""The files that the NCF paper's authors published their splits in (He et al., "Neural Collaborative Filtering", 2017).

A folder holds one set, `ml-1m` or `pinterest-20`, of three files without headers, ids from 0:

    NAME.train.rating   user, item, rating, timestamp, tab-separated: what models learn from
    NAME.test.rating    the same columns: one held-out item per user
    NAME.test.negative  (user,item) of the same line of test.rating, then items to rank it among, tab-separated
"""

import mmap
import re
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from core.artifacts import sha256
from core.errors import UserError
from workflows.sources.ncf_checks import (
    check_agreement,
    check_held_out,
    doubts_about_lists,
    doubts_about_times,
    refuse_first,
    unknown,
)
from workflows.sources.ratings import DECIMAL, LENIENT
from workflows.sources.text import ID, refuse, refuse_utf_16, shown
from workflows.splits.base import TimeOrder

SUFFIXES = (".train.rating", ".test.rating", ".test.negative")
COLUMNS = ("user", "item", "rating", "timestamp")
# Times may be written as decimals; 64 bits hold whole seconds up to 2**53 exactly.
TYPES = dict(zip(COLUMNS, (pa.int32(), pa.int32(), pa.float32(), pa.float64())))
LARGEST_TIME = 2**53
LARGEST_ID = 99_999_999  # far above the authors' own, which count from 0 without gaps
ASKED = re.compile(r"\(\s*(-?[0-9]{1,18})\s*,\s*(-?[0-9]{1,18})\s*\)")


@dataclass(frozen=True)
class NcfFiles:
    """A published split, as it is in its files; ids count from 0 without gaps, in the order of the files' own.

    Attributes:
        name: of the set, as in the files' names.
        user, movie: int32 [train], in file order.
        rating: float32 [train].
        timestamp: int64 [train], Unix seconds.
        test_user, test_movie: int32 [users], each user's held-out movie; every user is there at most once.
        test_timestamp: int64 [users], Unix seconds.
        negatives: int32 [users, most], the movies that the held-out one is ranked among, in the file's order; -1 where
            a list is shorter, and where it repeats a movie or holds the held-out one itself.
        users, movies: how many ids there are.
        sha256: file name to SHA-256, of the three files.
        warnings: a sentence for each thing that makes the figures differ from the paper's, with its first line.
    """

    name: str
    _: KW_ONLY
    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    test_user: np.ndarray
    test_movie: np.ndarray
    test_timestamp: np.ndarray
    negatives: np.ndarray
    users: int
    movies: int
    sha256: dict[str, str]
    warnings: tuple[str, ...] = ()


def read_ncf_files(folder: Path) -> NcfFiles:
    """Reads the one set of files in a folder.

    Raises:
        UserError: no set or several, a missing or empty file, a malformed line, an id that none has, test files that
            disagree, a user with two held-out movies, or one whose held-out movie is in the training file too.
    """
    name, (train_file, test_file, negative_file) = _find_set(folder)
    train, test = _read_ratings(train_file), _read_ratings(test_file)
    user, movie = train["user"].to_numpy(), train["item"].to_numpy()
    test_user, test_movie = test["user"].to_numpy(), test["item"].to_numpy()
    testpairs, listed = _read_negatives(negative_file)
    check_agreement(testpairs, np.stack([test_user, test_movie], axis=1), negative_file, test_file)
    check_held_out(test_user, test_movie, test_file, user, movie, train_file)
    negatives = _each_once(listed, test_movie)
    warnings = (
        *doubts_about_lists(negative_file, listed, negatives, test_user, user, movie),
        *unknown(test_file, "user", test_user[:, None], user),
        *unknown(test_file, "item", test_movie[:, None], movie),
        *unknown(negative_file, "item", negatives, np.union1d(movie, test_movie)),
        *doubts_about_times(train_file, train["timestamp"].to_numpy()),
    )
    # Models have a row for each number up to the highest: without gaps, no id costs more than another.
    users, movies = np.union1d(user, test_user), np.union1d(np.union1d(movie, test_movie), negatives[negatives >= 0])
    return NcfFiles(
        name=name,
        user=_places(users, user),
        movie=_places(movies, movie),
        rating=train["rating"].to_numpy(),
        timestamp=train["timestamp"].to_numpy().astype(np.int64),
        test_user=_places(users, test_user),
        test_movie=_places(movies, test_movie),
        test_timestamp=test["timestamp"].to_numpy().astype(np.int64),
        negatives=np.where(negatives >= 0, _places(movies, negatives), np.int32(-1)),
        users=len(users),
        movies=len(movies),
        sha256={path.name: sha256(path) for path in (train_file, test_file, negative_file)},
        warnings=warnings,
    )


def _places(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where values are among ascending ids, int32."""
    return np.searchsorted(ids, values).astype(np.int32)


def hold_out_last(files: NcfFiles) -> np.ndarray:
    """Which training rows validate: each user's last by time, of equal times the last in the file.

    A user with one training row keeps it to learn from. Returns bool [train].
    """
    times = TimeOrder.of(files.user, files.timestamp)
    return (times.later() == 0) & (times.ratings_of_user() >= 2)


def _find_set(folder: Path) -> tuple[str, list[Path]]:
    looked_for = ", ".join(f"NAME{suffix}" for suffix in SUFFIXES)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the one that holds {looked_for} (NAME is ml-1m, for example)")
    names = sorted(
        {
            path.name.removesuffix(suffix)
            for path in folder.iterdir()
            for suffix in SUFFIXES
            if path.name.endswith(suffix) and not path.name.startswith(".")
        }
    )
    if not names:
        raise UserError(f"{folder} holds none of {looked_for} (NAME is ml-1m, for example); copy the three files there")
    if len(names) > 1:
        raise UserError(f"{folder} holds files of {len(names)} sets ({', '.join(names)}); put each in its own folder")
    paths = [folder / f"{names[0]}{suffix}" for suffix in SUFFIXES]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing; a set has {looked_for}; copy it there")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; copy it again")
    return names[0], paths


# -- ratings -----------------------------------------------------------------------------------------------------------


def _read_ratings(path: Path) -> pa.Table:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        refuse_utf_16(path, content[:2])
        if any(content.find(one) >= 0 for one in LENIENT if one != b"\t"):
            _refuse_bad_line(path)
    try:
        table = pa_csv.read_csv(
            str(path),
            read_options=pa_csv.ReadOptions(column_names=COLUMNS, block_size=1 << 24),
            # an empty line is refused like any other short one: skipped, it would shift the lines' numbers
            parse_options=pa_csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(column_types=TYPES, null_values=[], strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        _refuse_bad_line(path)
        raise UserError(f"{path}: {' '.join(str(error).split())[:200]}; copy the file again") from None
    for name in COLUMNS[:2]:
        ids = table[name].to_numpy()
        outside = (ids < 0) | (ids > LARGEST_ID)
        refuse_first(path, outside, lambda row: f"has {name} {ids[row]}; ids are from 0 to {LARGEST_ID}")  # noqa: B023
    for name in COLUMNS[2:]:
        values = table[name].to_numpy()
        what = f"has a {name} that is not a finite number below 2**53"
        refuse_first(path, ~(np.abs(values) < LARGEST_TIME), lambda _: what)  # noqa: B023
    return table


def _refuse_bad_line(path: Path) -> None:
    """Names the first malformed line, as the fast reader's error does not."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != len(COLUMNS):
                expected = f"{len(COLUMNS)} were expected ({', '.join(COLUMNS)})"
                refuse(path, number, f"has {len(fields)} tab-separated columns where {expected}")
            for name, text in zip(COLUMNS, fields):
                problem = _not_an_id(text) if pa.types.is_integer(TYPES[name]) else _not_a_number(text)
                if problem:
                    refuse(path, number, f"has {name} {shown(text)}, {problem}")


def _not_an_id(text: str) -> str | None:
    if not ID.fullmatch(text.removeprefix("-")):
        return "which is not a whole number"
    return None if len(text) <= 18 and 0 <= int(text) <= LARGEST_ID else f"which is not from 0 to {LARGEST_ID}"


def _not_a_number(text: str) -> str | None:
    return None if DECIMAL.fullmatch(text) else "which is not a number"


# -- negatives ---------------------------------------------------------------------------------------------------------


def _read_negatives(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Each line's user and held-out item, int64 [lines, 2], and its list as it is, int32 [lines, most], -1 beyond."""
    asked, rest = [], []
    with open(path, "rb") as start:
        refuse_utf_16(path, start.read(2))
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            head, _, tail = line.rstrip().partition("\t")
            found = ASKED.fullmatch(head)
            if not found:
                refuse(path, number, f"begins with {shown(head)} where (user,item) and a tab were expected")
            if not tail:
                refuse(path, number, "has no negatives after (user,item)")
            asked.append((int(found[1]), int(found[2])))
            rest.append(tail)
    lists = pc.split_pattern(pa.array(rest), "\t")
    length = lists.value_lengths().to_numpy()
    texts = lists.flatten()
    if not pc.all(pc.match_substring_regex(texts, "^[0-9]{1,8}$")).as_py():  # at most LARGEST_ID
        for number, tail in enumerate(rest, 1):
            for text in tail.split("\t"):
                if problem := _not_an_id(text):
                    refuse(path, number, f"has the negative {shown(text)}, {problem}")
    items = texts.cast(pa.int32()).to_numpy()
    there = np.arange(length.max()) < length[:, None]
    negatives = np.full(there.shape, -1, np.int32)
    negatives[there] = items
    return np.array(asked, np.int64), negatives


def _each_once(negatives: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """A copy with -1 where a list repeats a movie, and where it holds the user's held-out one."""
    order = np.argsort(negatives, axis=1, kind="stable")  # stable: of equals the first in the file stays
    ordered = np.take_along_axis(negatives, order, axis=1)
    repeats = np.zeros(negatives.shape, bool)
    np.put_along_axis(repeats, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return np.where(repeats | (negatives == held_out[:, None]), np.int32(-1), negatives)

"""The files that the NCF paper's authors published their splits in (He et al., "Neural Collaborative Filtering", 2017).

A folder holds one set, `ml-1m` or `pinterest-20`, of three files without headers, ids from 0:

    NAME.train.rating   user, item, rating, timestamp, tab-separated: what models learn from
    NAME.test.rating    the same columns: one held-out item per user
    NAME.test.negative  (user,item) of the same line of test.rating, then items to rank it among, tab-separated
"""

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from core.artifacts import sha256
from core.errors import UserError
from workflows.sources.text import LARGEST_ID
from workflows.splits.base import TimeOrder

SUFFIXES = (".train.rating", ".test.rating", ".test.negative")
COLUMNS = ("user", "item", "rating", "timestamp")
# Times may be written as decimals; 64 bits hold whole seconds up to 2**53 exactly.
TYPES = dict(zip(COLUMNS, (pa.int32(), pa.int32(), pa.float32(), pa.float64())))
LARGEST_TIME = 2**53
WHOLE = re.compile(r"-?[0-9]{1,18}")
ASKED = re.compile(rf"\(\s*({WHOLE.pattern})\s*,\s*({WHOLE.pattern})\s*\)")
REMEDY = "correct that line or copy the file again"


@dataclass(frozen=True)
class NcfFiles:
    """A published split, as it is in its files.

    Attributes:
        name: of the set, as in the files' names.
        user, movie: int32 [train], in file order.
        rating: float32 [train].
        timestamp: int64 [train], Unix seconds.
        test_user, test_movie: int32 [users], each user's held-out movie; every user is there at most once.
        negatives: int32 [users, most], the movies that the held-out one is ranked among, in the file's order; -1 where
            a list is shorter, and where it repeats a movie or holds the held-out one itself.
        users, movies: the highest id anywhere, plus 1.
        sha256: file name to SHA-256, of the three files.
    """

    name: str
    _: KW_ONLY
    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    test_user: np.ndarray
    test_movie: np.ndarray
    negatives: np.ndarray
    users: int
    movies: int
    sha256: dict[str, str]


def read_ncf_files(folder: Path) -> NcfFiles:
    """Reads the one set of files in a folder.

    Raises:
        UserError: no set or several, a missing or empty file, a malformed line, test files that disagree, a user with
            two held-out movies, or one whose held-out movie is in the training file too.
    """
    name, (train_file, test_file, negative_file) = _find_set(folder)
    train, test = _read_ratings(train_file), _read_ratings(test_file)
    user, movie = train["user"].to_numpy(), train["item"].to_numpy()
    test_user, test_movie = test["user"].to_numpy(), test["item"].to_numpy()
    test_pairs, negatives = _read_negatives(negative_file)
    _check_agreement(test_pairs, np.stack([test_user, test_movie], axis=1), negative_file, test_file)
    _check_held_out(test_user, test_movie, test_file, user, movie, train_file)
    return NcfFiles(
        name=name,
        user=user,
        movie=movie,
        rating=train["rating"].to_numpy(),
        timestamp=train["timestamp"].to_numpy().astype(np.int64),
        test_user=test_user,
        test_movie=test_movie,
        negatives=_each_once(negatives, test_movie),
        users=int(max(user.max(), test_user.max())) + 1,
        movies=int(max(movie.max(), test_movie.max(), negatives.max())) + 1,
        sha256={path.name: sha256(path) for path in (train_file, test_file, negative_file)},
    )


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


def _refuse(path: Path, line: int, what: str, remedy: str = REMEDY) -> NoReturn:
    raise UserError(f"{path}: line {line} {what}; {remedy}")


def _refuse_first(path: Path, bad: np.ndarray, what: Callable[[int], str], remedy: str = REMEDY) -> None:
    """Refuses the first row that is bad; `what` says what is wrong with it, from its row number."""
    if bad.any():
        row = int(bad.argmax())
        _refuse(path, row + 1, what(row), remedy)


# -- ratings -----------------------------------------------------------------------------------------------------------


def _read_ratings(path: Path) -> pa.Table:
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
        _refuse_first(path, ids < 0, lambda row: f"has {name} {ids[row]}; ids are from 0")  # noqa: B023
    for name in COLUMNS[2:]:
        values = table[name].to_numpy()
        what = f"has a {name} that is not a finite number below 2**53"
        _refuse_first(path, ~(np.abs(values) < LARGEST_TIME), lambda _: what)  # noqa: B023
    return table


def _refuse_bad_line(path: Path) -> None:
    """Names the first malformed line, as the fast reader's error does not."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != len(COLUMNS):
                expected = f"{len(COLUMNS)} were expected ({', '.join(COLUMNS)})"
                _refuse(path, number, f"has {len(fields)} tab-separated columns where {expected}")
            for name, text in zip(COLUMNS, fields):
                problem = _not_an_id(text) if pa.types.is_integer(TYPES[name]) else _not_a_number(text)
                if problem:
                    _refuse(path, number, f"has {name} {text[:40]!r}, {problem}")


def _not_an_id(text: str) -> str | None:
    if not WHOLE.fullmatch(text.strip()):
        return "which is not a whole number"
    return None if 0 <= int(text) <= LARGEST_ID else f"which is not from 0 to {LARGEST_ID}"


def _not_a_number(text: str) -> str | None:
    try:
        float(text.replace("_", "?"))  # Python alone reads 1_000
    except ValueError:
        return "which is not a number"
    return None


# -- negatives ---------------------------------------------------------------------------------------------------------


def _read_negatives(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Each line's user and held-out item, int64 [lines, 2], and its list as it is, int32 [lines, most], -1 beyond."""
    asked, rest = [], []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            head, _, tail = line.rstrip().partition("\t")
            found = ASKED.fullmatch(head)
            if not found:
                _refuse(path, number, f"begins with {head[:40]!r} where (user,item) and a tab were expected")
            if not tail:
                _refuse(path, number, "has no negatives after (user,item)")
            asked.append((int(found[1]), int(found[2])))
            rest.append(tail)
    lists = pc.split_pattern(pa.array(rest), "\t")
    length = lists.value_lengths().to_numpy()
    try:
        items = lists.flatten().cast(pa.int32()).to_numpy()
    except pa.ArrowInvalid:
        for number, tail in enumerate(rest, 1):
            for text in tail.split("\t"):
                if problem := _not_an_id(text):
                    _refuse(path, number, f"has the negative {text[:40]!r}, {problem}")
        raise UserError(f"{path} holds a negative that is not a whole number; copy the file again") from None
    there = np.arange(length.max()) < length[:, None]
    negatives = np.full(there.shape, -1, np.int32)
    negatives[there] = items
    below = ((negatives < 0) & there).any(axis=1)
    _refuse_first(path, below, lambda row: f"has the negative {negatives[row].min()}; ids are from 0")
    return np.array(asked, np.int64), negatives


def _each_once(negatives: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """A copy with -1 where a list repeats a movie, and where it holds the user's held-out one."""
    order = np.argsort(negatives, axis=1, kind="stable")  # stable: of equals the first in the file stays
    ordered = np.take_along_axis(negatives, order, axis=1)
    repeats = np.zeros(negatives.shape, bool)
    np.put_along_axis(repeats, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return np.where(repeats | (negatives == held_out[:, None]), np.int32(-1), negatives)


# -- whether the files agree -------------------------------------------------------------------------------------------


def _check_agreement(asked: np.ndarray, held_out: np.ndarray, negative_file: Path, test_file: Path) -> None:
    """Both int64 [lines, 2], user and item."""
    common, remedy = min(len(asked), len(held_out)), "the two files must go together; copy both again"
    _refuse_first(
        negative_file,
        (asked[:common] != held_out[:common]).any(axis=1),
        lambda row: (
            f"is about user {asked[row, 0]} and item {asked[row, 1]}, but that line of {test_file.name} "
            f"is about user {held_out[row, 0]} and item {held_out[row, 1]}"
        ),
        remedy,
    )
    if len(asked) != len(held_out):
        longer, shorter = (
            (negative_file, test_file) if len(asked) > len(held_out) else (test_file, negative_file)
        )  # the first line without its counterpart is named
        _refuse(longer, common + 1, f"has no counterpart in {shorter.name}, which has {common} lines", remedy)


def _check_held_out(
    test_user: np.ndarray,
    test_movie: np.ndarray,
    test_file: Path,
    user: np.ndarray,
    movie: np.ndarray,
    train_file: Path,
) -> None:
    """Refuses a second held-out movie of a user, and one that is a training row too."""
    first = np.unique(test_user, return_index=True)[1]
    again = np.ones(len(test_user), bool)
    again[first] = False
    _refuse_first(
        test_file,
        again,
        lambda row: (
            f"holds out a second item of user {test_user[row]}, "
            f"after line {int((test_user == test_user[row]).argmax()) + 1}"
        ),
        "leave one line per user",
    )
    test_pair, pair = _pairs(test_user, test_movie), _pairs(user, movie)
    _refuse_first(
        test_file,
        np.isin(test_pair, pair),
        lambda row: (
            f"holds out item {test_movie[row]} of user {test_user[row]}, which "
            f"line {int((pair == test_pair[row]).argmax()) + 1} of {train_file.name} contains too"
        ),
        "remove one of the two lines",
    )


def _pairs(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
    """User and movie as one int64 key."""
    return user.astype(np.int64) << 32 | movie

"""Whether the NCF paper's three files agree: what is refused, and what is read with a warning."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from workflows.sources.ratings import LATEST
from workflows.sources.text import AGAIN, refuse


def refuse_first(path: Path, bad: np.ndarray, what: Callable[[int], str], remedy: str = AGAIN) -> None:
    """Refuses the first row that is bad; `what` says what is wrong with it, from its row number."""
    if bad.any():
        row = int(bad.argmax())
        refuse(path, row + 1, what(row), remedy)


# -- what is worth a warning -------------------------------------------------------------------------------------------


def doubts_about_lists(
    path: Path, listed: np.ndarray, negatives: np.ndarray, test_user: np.ndarray, user: np.ndarray, movie: np.ndarray
) -> Iterator[str]:
    """Lists that are shorter than others, that repeat an item or hold the test's own, or one that the user rated."""
    length = (listed >= 0).sum(axis=1)
    short = length < length.max()
    if short.any():
        row = int(short.argmax())
        most = f"{length.max()} items in the longest"
        yield f"{path}: line {row + 1} lists {length[row]} items against {most} ({short.sum()} lines are shorter)"
    left_out = (negatives < 0) & (listed >= 0)
    if left_out.any():
        row = int(left_out.any(axis=1).argmax())
        item = int(listed[row][left_out[row]][0])
        what = f"lists item {item} twice, or as the held-out item too; such are left out ({left_out.sum()} in all)"
        yield f"{path}: line {row + 1} {what}"
    pair = _pairs(np.broadcast_to(test_user[:, None], negatives.shape), negatives)
    rated = (negatives >= 0) & np.isin(pair, _pairs(user, movie))
    if rated.any():
        row = int(rated.any(axis=1).argmax())
        item = int(negatives[row][rated[row]][0])
        what = f"lists item {item}, which user {test_user[row]} has in train ({rated.sum()} such in all)"
        yield f"{path}: line {row + 1} {what}"


def unknown(path: Path, kind: str, values: np.ndarray, known: np.ndarray) -> Iterator[str]:
    """Users or items [lines, each] that no training row has: a model cannot know them."""
    unknown = (values >= 0) & ~np.isin(values, known)
    if unknown.any():
        row = int(unknown.any(axis=1).argmax())
        one = int(values[row][unknown[row]][0])
        yield f"{path}: line {row + 1} has {kind} {one}, which no training row has ({unknown.sum()} such in all)"


def doubts_about_times(path: Path, times: np.ndarray) -> Iterator[str]:
    """Times of training rows that are not in seconds: they order rows as well as others, but are features too."""
    late = times > LATEST
    if late.any():
        row = int(late.argmax())
        what = "which is after the year 2100 (milliseconds? times are in seconds)"
        yield f"{path}: line {row + 1} has timestamp {times[row]:.0f}, {what}; {late.sum()} lines in all"


# -- whether the files agree -------------------------------------------------------------------------------------------


def check_agreement(asked: np.ndarray, held_out: np.ndarray, negative_file: Path, test_file: Path) -> None:
    """Both int64 [lines, 2], user and item."""
    common, remedy = min(len(asked), len(held_out)), "the two files must go together; copy both again"
    refuse_first(
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
        refuse(longer, common + 1, f"has no counterpart in {shorter.name}, which has {common} lines", remedy)


def check_held_out(
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
    refuse_first(
        test_file,
        again,
        lambda row: (
            f"holds out a second item of user {test_user[row]}, "
            f"after line {int((test_user == test_user[row]).argmax()) + 1}"
        ),
        "leave one line per user",
    )
    test_pair, pair = _pairs(test_user, test_movie), _pairs(user, movie)
    refuse_first(
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

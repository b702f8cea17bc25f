"""The NCF paper's files, from small ones written by hand, and what is said about files that are bad."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from workflows.sources import ncf_files
from workflows.sources.ncf_files import hold_out_last, read_ncf_files

TRAIN, TEST, NEGATIVE = "ml-1m.train.rating", "ml-1m.test.rating", "ml-1m.test.negative"
# user 0 has rated items 0, 1 and 2, user 1 items 1 and 3, user 2 item 0; 4, 5 and 6 are held out, 9 is only a negative
FILES = {
    TRAIN: "0\t0\t5\t100\n0\t1\t3\t102\n0\t2\t4\t101\n1\t1\t1\t200\n1\t3\t2\t199\n2\t0\t5\t300\n",
    TEST: "0\t4\t4\t110\n1\t5\t3\t210\n2\t6\t5\t310\n",
    NEGATIVE: "(0,4)\t7\t8\t9\n(1,5)\t8\t7\t0\n(2,6)\t1\t2\t3\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return folder


def with_line(name: str, number: int, line: str) -> dict[str, str]:
    """The files with one line changed; a number one beyond the last adds it."""
    lines = FILES[name].splitlines()
    lines[number - 1 : number] = [line]
    return {**FILES, name: "\n".join(lines) + "\n"}


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_ncf_files(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- good files --------------------------------------------------------------------------------------------------------


def test_the_files_are_read_as_they_are(tmp_path):
    files = read_ncf_files(write(tmp_path, FILES))
    assert files.name == "ml-1m"
    assert files.user.tolist() == [0, 0, 0, 1, 1, 2]
    assert files.movie.tolist() == [0, 1, 2, 1, 3, 0]
    assert files.rating.tolist() == [5, 3, 4, 1, 2, 5]
    assert files.timestamp.tolist() == [100, 102, 101, 200, 199, 300]
    assert files.test_user.tolist() == [0, 1, 2]
    assert files.test_movie.tolist() == [4, 5, 6]
    assert files.negatives.tolist() == [[7, 8, 9], [8, 7, 0], [1, 2, 3]]
    assert (files.users, files.movies) == (3, 10)
    assert files.sha256 == {name: hashlib.sha256(text.encode()).hexdigest() for name, text in FILES.items()}
    kinds = {name: str(getattr(files, name).dtype) for name in ("user", "movie", "test_user", "test_movie")}
    assert set(kinds.values()) == {"int32"}
    assert (files.negatives.dtype, files.rating.dtype, files.timestamp.dtype) == (np.int32, np.float32, np.int64)


def test_the_set_is_known_by_its_files_names_and_other_files_do_not_matter(tmp_path):
    renamed = {name.replace("ml-1m", "pinterest-20"): text for name, text in FILES.items()}
    files = read_ncf_files(write(tmp_path, {**renamed, "README.md": "", "._ml-1m.train.rating": "of a Mac"}))
    assert files.name == "pinterest-20"
    assert list(files.sha256) == ["pinterest-20.train.rating", "pinterest-20.test.rating", "pinterest-20.test.negative"]


def test_harmless_variations_are_read_alike(tmp_path):
    expected = read_ncf_files(write(tmp_path / "plain", FILES))
    varied = {
        TRAIN: FILES[TRAIN].replace("\t5\t100\n", "\t5.0\t100.0\n").replace("\n", "\r\n"),
        TEST: FILES[TEST].removesuffix("\n"),
        NEGATIVE: FILES[NEGATIVE].replace(",", ", ").replace("\n", "\t\r\n"),
    }
    files = read_ncf_files(write(tmp_path / "varied", varied))
    for name in ("user", "movie", "rating", "timestamp", "test_user", "test_movie", "negatives"):
        np.testing.assert_array_equal(getattr(files, name), getattr(expected, name))
        assert getattr(files, name).dtype == getattr(expected, name).dtype
    assert files.sha256 != expected.sha256


def test_large_times_lose_nothing(tmp_path):
    files = read_ncf_files(write(tmp_path, with_line(TRAIN, 1, "0\t0\t5\t1046454591")))
    assert files.timestamp[0] == 1046454591


@pytest.mark.parametrize(("line", "users", "movies"), [("7\t20\t5\t100", 4, 11), ("7\t2\t5\t100", 4, 10)])
def test_a_user_or_movie_of_the_training_file_alone_counts(tmp_path, line, users, movies):
    files = read_ncf_files(write(tmp_path, with_line(TRAIN, 7, line)))
    assert (files.users, files.movies) == (users, movies)


def test_users_and_movies_of_the_test_files_alone_count(tmp_path):
    held_out = {**FILES, TEST: FILES[TEST] + "5\t30\t4\t1\n", NEGATIVE: FILES[NEGATIVE] + "(5,30)\t1\n"}
    files = read_ncf_files(write(tmp_path / "held out", held_out))
    assert (files.users, files.movies) == (4, 11)
    files = read_ncf_files(write(tmp_path / "negative", with_line(NEGATIVE, 3, "(2,6)\t1\t40\t3")))
    assert (files.users, files.movies) == (3, 11)


def test_a_negative_list_counts_every_movie_once_and_never_the_held_out_one(tmp_path):
    negative = "(0,4)\t7\t4\t8\t7\t9\n(1,5)\t8\n(2,6)\t6\t6\t3\t3\t3\n"
    files = read_ncf_files(write(tmp_path, {**FILES, NEGATIVE: negative}))
    assert files.negatives.tolist() == [[7, -1, 8, -1, 9], [8, -1, -1, -1, -1], [-1, -1, 3, -1, -1]]
    assert files.negatives.dtype == np.int32


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    expected = read_ncf_files(write(tmp_path / "plain", FILES))
    files = read_ncf_files(write(tmp_path / "marked", {name: "\ufeff" + text for name, text in FILES.items()}))
    np.testing.assert_array_equal(files.user, expected.user)
    np.testing.assert_array_equal(files.negatives, expected.negatives)


@pytest.mark.parametrize("name", [TRAIN, TEST, NEGATIVE])
def test_utf_16_is_refused(tmp_path, name):
    folder = write(tmp_path, FILES)
    (folder / name).write_bytes(FILES[name].encode("utf-16"))
    assert f"{folder / name} is UTF-16" in refusal(folder)


# -- what is said ------------------------------------------------------------------------------------------------------


def test_good_files_give_no_warning(tmp_path):
    files = {**FILES, TRAIN: FILES[TRAIN] + "".join(f"3\t{item}\t4\t1\n" for item in range(4, 10))}
    assert read_ncf_files(write(tmp_path, files)).warnings == ()


def test_ids_cost_no_more_than_there_are(tmp_path):
    """An id far beyond the others, of a movie that nothing else has, is one movie more, not millions."""
    files = read_ncf_files(write(tmp_path, with_line(NEGATIVE, 2, "(1,5)\t8\t7\t5000")))
    assert (files.users, files.movies) == (3, 11)
    assert files.negatives.tolist() == [[7, 8, 9], [8, 7, 10], [1, 2, 3]]


@pytest.mark.parametrize(
    ("name", "number", "line", "words"),
    [
        (NEGATIVE, 2, "(1,5)\t8\t7", "line 2 lists 2 items against 3 items in the longest (1 lines are shorter)"),
        (NEGATIVE, 2, "(1,5)\t8\t3\t7", "line 2 lists item 3, which user 1 has in train (1 such in all)"),
        (NEGATIVE, 2, "(1,5)\t8\t5\t7", "line 2 lists item 5 twice, or as the held-out item too"),
        (NEGATIVE, 2, "(1,5)\t8\t8\t7", "line 2 lists item 8 twice, or as the held-out item too"),
        (NEGATIVE, 1, "(0,4)\t5000\t8\t7", "line 1 has item 5000, which no training row has"),
        (TRAIN, 2, "0\t1\t3\t978302109000", "line 2 has timestamp 978302109000, which is after the year 2100"),
    ],
    ids=["short", "rated", "held out", "twice", "unknown", "milliseconds"],
)
def test_what_makes_the_figures_differ_is_said_with_its_first_line(tmp_path, name, number, line, words):
    warnings = read_ncf_files(write(tmp_path, with_line(name, number, line))).warnings
    assert any(one.startswith(f"{tmp_path / name}: {words}") for one in warnings), warnings
    assert not any("\n" in one for one in warnings)


def test_a_user_of_the_test_files_alone_is_said(tmp_path):
    files = {**FILES, TEST: FILES[TEST] + "5\t6\t4\t1\n", NEGATIVE: FILES[NEGATIVE] + "(5,6)\t1\t2\t3\n"}
    warnings = read_ncf_files(write(tmp_path, files)).warnings
    assert any(one.startswith(f"{tmp_path / TEST}: line 4 has user 5, which no training row has") for one in warnings)


# -- validation --------------------------------------------------------------------------------------------------------


def test_the_last_rating_of_each_user_validates(tmp_path):
    files = read_ncf_files(write(tmp_path, FILES))
    # user 0: time 102; user 1: time 200; user 2 has only one
    assert hold_out_last(files).tolist() == [False, True, False, True, False, False]


def test_of_equal_times_the_last_in_the_file_validates(tmp_path):
    train = "1\t3\t2\t200\n0\t0\t5\t100\n1\t1\t1\t200\n0\t1\t3\t102\n0\t2\t4\t102\n2\t0\t5\t300\n0\t3\t4\t99\n"
    held_out = hold_out_last(read_ncf_files(write(tmp_path, {**FILES, TRAIN: train})))
    assert held_out.dtype == bool
    assert held_out.tolist() == [False, False, True, False, True, False, False]


# -- folders -----------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named_and_what_it_should_hold(tmp_path):
    message = refusal(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message
    assert "NAME.train.rating, NAME.test.rating, NAME.test.negative" in message


def test_a_folder_without_a_set_tells_what_was_looked_for(tmp_path):
    message = refusal(write(tmp_path, {"ratings.csv": "1,2,3,4\n"}))
    assert str(tmp_path) in message
    assert "NAME.train.rating, NAME.test.rating, NAME.test.negative" in message


def test_two_sets_are_refused_by_their_names(tmp_path):
    message = refusal(write(tmp_path, {**FILES, "pinterest-20.test.rating": "0\t4\t4\t110\n"}))
    assert "ml-1m, pinterest-20" in message


@pytest.mark.parametrize("name", [TRAIN, TEST, NEGATIVE])
def test_a_missing_or_empty_file_is_named(tmp_path, name):
    folder = write(tmp_path, {**FILES, name: ""})
    assert f"{folder / name} is empty" in refusal(folder)
    (folder / name).unlink()
    assert f"{folder / name} is missing" in refusal(folder)


# -- lines -------------------------------------------------------------------------------------------------------------

BAD_LINES = {
    "train: three columns": (TRAIN, 2, "0\t1\t3", "3 tab-separated columns where 4"),
    "train: five columns": (TRAIN, 2, "0\t1\t3\t102\t9", "5 tab-separated columns where 4"),
    "train: commas": (TRAIN, 1, "0,1,3,102", "1 tab-separated columns where 4"),
    "train: empty line": (TRAIN, 4, "", "1 tab-separated columns where 4"),
    "train: empty line at the end": (TRAIN, 7, "", "1 tab-separated columns where 4"),
    "train: user is text": (TRAIN, 3, "x\t2\t4\t101", "user 'x', which is not a whole number"),
    "train: item is decimal": (TRAIN, 3, "0\t2.5\t4\t101", "item '2.5', which is not a whole number"),
    "train: item is missing": (TRAIN, 3, "0\t\t4\t101", "item '', which is not a whole number"),
    "train: item too large": (TRAIN, 3, "0\t2147483648\t4\t101", "item '2147483648', which is not from 0 to"),
    "train: rating is text": (TRAIN, 6, "2\t0\tfive\t300", "rating 'five', which is not a number"),
    "train: rating is not finite": (TRAIN, 6, "2\t0\tnan\t300", "rating that is not a finite number"),
    "train: time is text": (TRAIN, 6, "2\t0\t5\t1_000", "timestamp '1_000', which is not a number"),
    "train: time is not finite": (TRAIN, 6, "2\t0\t5\tinf", "timestamp that is not a finite number"),
    "train: negative user": (TRAIN, 5, "-1\t3\t2\t199", "user -1"),
    "train: negative item": (TRAIN, 5, "1\t-3\t2\t199", "item -3"),
    "train: bytes": (TRAIN, 5, "\x00\xff", "1 tab-separated columns where 4"),
    "test: two columns": (TEST, 3, "2\t6", "2 tab-separated columns where 4"),
    "test: item is text": (TEST, 3, "2\tsix\t5\t310", "item 'six', which is not a whole number"),
    "test: negative item": (TEST, 2, "1\t-5\t3\t210", "item -5"),
    "test: second item of a user": (TEST, 4, "1\t7\t3\t210", "second item of user 1, after line 2"),
    "test: item is in train": (TEST, 3, "2\t0\t5\t310", "item 0 of user 2, which line 6 of ml-1m.train.rating"),
    "negative: no tuple": (NEGATIVE, 2, "1\t5\t8\t7", "begins with '1' where (user,item)"),
    "negative: half a tuple": (NEGATIVE, 2, "(1)\t8\t7", "begins with '(1)' where (user,item)"),
    "negative: spaces": (NEGATIVE, 2, "(1,5) 8 7", "begins with '(1,5) 8 7' where (user,item)"),
    "negative: empty line": (NEGATIVE, 2, "", "begins with '' where (user,item)"),
    "negative: no list": (NEGATIVE, 3, "(2,6)\t", "no negatives after (user,item)"),
    "negative: text": (NEGATIVE, 3, "(2,6)\t1\tx", "the negative 'x', which is not a whole number"),
    "negative: a gap": (NEGATIVE, 3, "(2,6)\t1\t\t2", "the negative '', which is not a whole number"),
    "negative: too large": (NEGATIVE, 3, "(2,6)\t1\t99999999999", "the negative '99999999999', which is not from 0"),
    "train: item beyond what ids can be": (TRAIN, 3, "0\t2147483646\t4\t101", "item 2147483646; ids are from 0 to"),
    "train: item in hexadecimal": (TRAIN, 3, "0\t0x2\t4\t101", "item '0x2', which is not a whole number"),
    "train: item after a space": (TRAIN, 3, "0\t 2\t4\t101", "item ' 2', which is not a whole number"),
    "train: item in Arabic digits": (TRAIN, 3, "0\t\u0662\t4\t101", "which is not a whole number"),
    "train: escape sequence": (TRAIN, 3, "\x1b[31m0\t2\t4\t101", "user '\\x1b[31m0', which is not"),
    "negative: beyond what ids can be": (NEGATIVE, 3, "(2,6)\t1\t2147483646", "'2147483646', which is not from 0"),
    "negative: underscore": (NEGATIVE, 3, "(2,6)\t1\t1_0", "the negative '1_0', which is not a whole number"),
    "negative: escape sequence": (NEGATIVE, 3, "\x1b[31m(2,6)\t1", "begins with '\\x1b[31m(2,6)'"),
    "negative: below 0": (NEGATIVE, 1, "(0,4)\t7\t-1\t9", "the negative '-1', which is not from 0"),
    "negative: another user": (NEGATIVE, 2, "(2,5)\t8\t7", "user 2 and item 5, but that line of ml-1m.test.rating"),
    "negative: another item": (NEGATIVE, 2, "(1,6)\t8\t7", "is about user 1 and item 5"),
    "negative: a negative id": (NEGATIVE, 2, "(1,-5)\t8\t7", "user 1 and item -5, but"),
    "negative: a line too many": (NEGATIVE, 4, "(3,8)\t8\t7", "no counterpart in ml-1m.test.rating, which has 3 lines"),
    "test: a line too many": (TEST, 4, "3\t8\t1\t1", "no counterpart in ml-1m.test.negative, which has 3 lines"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named(tmp_path, case):
    name, number, line, words = BAD_LINES[case]
    files = with_line(name, number, line)
    if case in ("test: second item of a user", "test: item is in train"):  # else the two test files disagree first
        user, item = line.split("\t")[:2]
        lines = with_line(NEGATIVE, number, f"({user},{item})\t8")
        files = {**files, NEGATIVE: lines[NEGATIVE]}
    message = refusal(write(tmp_path, files))
    assert message.startswith(f"{tmp_path / name}: line {number} ")
    assert words in message
    assert "; " in message  # what to do


@pytest.mark.parametrize("name", [TRAIN, TEST, NEGATIVE])
def test_a_file_of_one_empty_line_is_refused(tmp_path, name):
    assert f"{name}: line 1 " in refusal(write(tmp_path, {**FILES, name: "\n"}))


def test_the_line_is_right_beyond_the_first_block_of_a_large_file(tmp_path):
    many = 1_100_000  # above the reader's blocks of 16 MiB
    files = {**FILES, TRAIN: "0\t0\t5\t978300760\n" * many + "0\tx\t5\t978300760\n"}
    assert f"line {many + 1} has item 'x'" in refusal(write(tmp_path, files))
    files = {**FILES, TRAIN: "0\t0\t5\t978300760\n" * many + "0\t-1\t5\t978300760\n"}
    assert f"line {many + 1} has item -1" in refusal(write(tmp_path, files))


def test_a_file_that_only_the_fast_reader_refuses_is_still_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ncf_files, "_refuse_bad_line", lambda _: None)
    message = refusal(write(tmp_path, with_line(TRAIN, 2, "0\tx\t3\t102")))
    assert str(tmp_path / TRAIN) in message


# -- real files --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_papers_format_on_real_ratings(shared_data):
    folder = shared_data / "ncf-ml-1m-dev"
    if not folder.is_dir():
        pytest.skip(f"needs a copy of ML-1M in the NCF paper's format in {folder}, which may not be redistributed")
    files = read_ncf_files(folder)
    assert (len(files.user), files.users, files.movies) == (988_129, 6_040, 3_706)
    assert files.test_user.tolist() == list(range(6_040))
    assert files.negatives.shape == (6_040, 99)
    assert files.negatives.min() >= 0
    assert set(np.unique(files.rating)) == {1, 2, 3, 4, 5}
    assert [one.partition(" which ")[2] for one in files.warnings] == ["no training row has (324 such in all)"]
    validates = hold_out_last(files)
    assert np.bincount(files.user[validates]).tolist() == [1] * 6_040
    latest = np.zeros(files.users, np.int64)
    np.maximum.at(latest, files.user, files.timestamp)
    np.testing.assert_array_equal(np.sort(files.timestamp[validates]), np.sort(latest))

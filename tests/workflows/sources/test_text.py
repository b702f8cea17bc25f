"""What tools and systems make of a dataset's files: encodings, exports, quotes, and the lines that messages name."""

from pathlib import Path

import pytest

from core.errors import UserError
from tests.contracts.readers import movies_of, ratings_of, users_of
from tests.workflows.sources.test_readers import ATOMIC, CSV, DAT, ML_100K, MOVIES_HEADER, RATINGS_HEADER, write
from workflows.sources.read import read_tables
from workflows.sources.text import clean_text

FLAGS = "0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0"
LEGACY = {
    "latin-1": "Amélie",
    "cp1252": "Amélie\u2019s “€”",
    "utf-8": "Amélie\u2019s ō",
    "utf-8-sig": "Amélie\u2019s ō",
}
BACKSLASH = '10,"He said \\"hi\\" (1995)",Drama\n'


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_tables(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert "; " in message  # what to do
    return message


# -- encodings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "title"), LEGACY.items(), ids=LEGACY)
@pytest.mark.parametrize(
    ("files", "name", "movie"),
    [
        (CSV, "movies.csv", MOVIES_HEADER + "10,{title} (2001),Drama\n"),
        (ML_100K, "u.item", "10|{title} (2001)||||" + FLAGS + "\n"),
        (DAT, "movies.dat", "10::{title} (2001)::Drama\n"),
        (ATOMIC, "ml-100k.item", ATOMIC["ml-100k.item"].partition("\n")[0] + "\n10\t{title}\t2001\tDrama\n"),
    ],
    ids=["csv", "ml-100k", "dat", "recbole"],
)
def test_a_title_is_read_in_whatever_encoding_its_file_is(tmp_path, files, name, movie, encoding, title):
    folder = write(tmp_path, {**files, name: movie.format(title=title).encode(encoding)})
    assert movies_of(read_tables(folder))[0] == (10, title, 2001, ["Drama"])


@pytest.mark.parametrize("files", [CSV, ML_100K, DAT, ATOMIC], ids=["csv", "ml-100k", "dat", "recbole"])
def test_a_byte_order_mark_is_no_part_of_any_file(tmp_path, files):
    expected = read_tables(write(tmp_path / "plain", files))
    found = read_tables(write(tmp_path / "marked", files, "utf-8-sig"))
    assert ratings_of(found) == ratings_of(expected)
    assert movies_of(found) == movies_of(expected)
    assert found.users.equals(expected.users)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
@pytest.mark.parametrize("name", ["ratings.csv", "movies.csv"])
def test_utf_16_is_refused(tmp_path, name, encoding):
    message = refusal(write(tmp_path, {**CSV, name: CSV[name].encode(encoding)}))
    assert str(tmp_path / name) in message
    assert encoding != "utf-16" or "UTF-16" in message


@pytest.mark.parametrize("end", ["\r\n", "\r"], ids=["windows", "old mac"])
@pytest.mark.parametrize("files", [CSV, ML_100K, DAT, ATOMIC], ids=["csv", "ml-100k", "dat", "recbole"])
def test_line_ends_of_other_systems(tmp_path, files, end):
    expected = read_tables(write(tmp_path / "unix", files))
    found = read_tables(write(tmp_path / "other", {name: text.replace("\n", end) for name, text in files.items()}))
    assert ratings_of(found) == ratings_of(expected)
    assert movies_of(found) == movies_of(expected)


# -- exports -----------------------------------------------------------------------------------------------------------


def test_every_field_in_quotes_is_read(tmp_path):
    quoted = {
        name: "".join(",".join(f'"{one}"' for one in line.split(",")) + "\n" for line in text.splitlines())
        for name, text in CSV.items()
    }
    assert ratings_of(read_tables(write(tmp_path, quoted))) == [(1, 10, 4.0, 100), (1, 20, 0.5, 101), (2, 10, 5.0, 102)]


@pytest.mark.parametrize("row", ['"1"0,10,4,100', '"1""0",10,4,100', '"1,10,4,100', '1"0",10,4,100', '"1,10",4,100'])
def test_a_quote_that_is_not_around_a_whole_field_is_refused(tmp_path, row):
    text = RATINGS_HEADER + "1,20,4,100\n" + row + "\n" + '2,10,"4.5",100\n'
    assert "ratings.csv: line 3 " in refusal(write(tmp_path, {**CSV, "ratings.csv": text}))


def test_quotes_beyond_the_first_block_of_a_large_file(tmp_path, monkeypatch):
    row, block = '"1","10","4","100"\n', 1 << 20
    monkeypatch.setattr("workflows.sources.ratings.BLOCK_BYTES", block)
    many = block // len(row) + 5
    folder = write(tmp_path, {**CSV, "ratings.csv": RATINGS_HEADER + row * many + '"2","10","3.5","7"\n'})
    assert ratings_of(read_tables(folder)) == [(1, 10, 4.0, 100), (2, 10, 3.5, 7)]
    folder = write(tmp_path, {**CSV, "ratings.csv": RATINGS_HEADER + row * many + '"2"0,"10","3.5","7"\n'})
    assert f"line {many + 2} has userId " in refusal(folder)


HEADERS = {
    "semicolons": ("userId;movieId;rating;timestamp", "separated by commas"),
    "tabs": ("userId\tmovieId\trating\ttimestamp", "separated by commas"),
    "pandas index": (",userId,movieId,rating,timestamp", "without the index column"),
    "another order": ("movieId,userId,rating,timestamp", "in that order"),
    "none": ("1,10,4.0,100", "copy the file again"),
    "one more column": ("userId,movieId,rating,timestamp,title", "copy the file again"),
    "an escape sequence": ("\x1b[31muserId", "copy the file again"),
    "a long one": ("x" * 5000, "copy the file again"),
}


@pytest.mark.parametrize(("header", "remedy"), HEADERS.values(), ids=HEADERS)
def test_another_first_line_is_shown_with_what_to_do(tmp_path, header, remedy):
    message = refusal(write(tmp_path, {**CSV, "ratings.csv": header + "\n1,10,4.0,100\n"}))
    assert f"ratings.csv: the first line is {header!r}"[:60] in message
    assert remedy in message


@pytest.mark.parametrize("name", ["ratings.csv", "movies.csv"])
def test_a_file_of_blank_lines_is_refused(tmp_path, name):
    assert str(tmp_path / name) in refusal(write(tmp_path, {**CSV, name: "\n\n\n"}))


# -- ids, text and the lines of what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1_0", "+1", " 1", "1.0", "1e3", "\u0661", "0x1", "", "1\u200b", "NaN", "\x1b[31m1"])
@pytest.mark.parametrize("name", ["ratings.csv", "movies.csv"])
def test_an_id_is_plain_digits(tmp_path, name, text):
    row = f"{text},10,4.0,100\n" if name == "ratings.csv" else f"{text},Ran (1985),Drama\n"
    message = refusal(write(tmp_path, {**CSV, name: CSV[name] + "\n\n" + row}))
    assert f"{name}: line {CSV[name].count(chr(10)) + 3} has " in message
    assert repr(text) in message


WRONG_MOVIES = {
    "backslashes": (BACKSLASH, "line 2 has ", "Spark"),
    "never closed": ('10,"Heat (1995),Drama\n20,Clue,War\n', "line 2 opens a quote", "Heat"),
    "closed by a later one": ('10,"Heat (1995),Drama\n20,"Clue",War\n', "line 2 opens a quote", "Heat"),
    "never closed in a long file": ('10,"Heat (1995),Drama\n' + "20,Clue,War\n" * 20_000, "line 2 opens", "Heat"),
    "zero byte": ("20,Clue,War\n10,He\0at,Drama\n", "line 3 has a zero byte", "copy"),
    "one id twice": ("10,Heat (1995),Drama\n20,Clue,War\n10,Ran,War\n", "line 4 has '10' once more", "line 2"),
    "one id twice, with a zero": ("10,Heat (1995),Drama\n010,Ran,War\n", "line 3 has '010' once more", "line 2"),
    "blank lines": ("\n\n10,Heat,Drama\nx,Ran,War\n", "line 5 has movieId 'x'", "whole number"),
    "after a title of two lines": ('10,"He\nat",Drama\n20,Clue\n', "line 4 has 2 fields", "'20,Clue'"),
}


@pytest.mark.parametrize(("rows", "where", "words"), WRONG_MOVIES.values(), ids=WRONG_MOVIES)
def test_a_wrong_movie_is_named_by_the_line_where_it_begins(tmp_path, rows, where, words):
    message = refusal(write(tmp_path, {**CSV, "movies.csv": MOVIES_HEADER + rows}))
    assert f"movies.csv: {where}" in message
    assert words in message


def test_blank_lines_count_in_the_ratings_too(tmp_path):
    for row, words in (("x,1,4,1", "userId 'x'"), ("1,1,4,1,9", "5 fields"), ("1,1,7,1", "rating 7")):
        message = refusal(write(tmp_path, {**CSV, "ratings.csv": RATINGS_HEADER + f"1,10,4,100\n\n\n\n{row}\n"}))
        assert "ratings.csv: line 6 has " in message
        assert words in message


@pytest.mark.parametrize("rows", ["10:::Heat::Drama\n", "10::A:::Drama\n"])
def test_three_colons_could_be_read_in_two_ways(tmp_path, rows):
    assert "movies.dat: line 1 has ':::'" in refusal(write(tmp_path, {**DAT, "movies.dat": rows}))


def test_a_tab_in_ratings_of_colons_is_no_separator(tmp_path):
    message = refusal(write(tmp_path, {**DAT, "ratings.dat": "1::10::4::100\n1\t10::4::100\n"}))
    assert "ratings.dat: line 2 has 3 fields" in message


def test_a_flag_of_u_item_is_0_or_1(tmp_path):
    message = refusal(write(tmp_path, {**ML_100K, "u.item": f"10|Heat (1995)||||{FLAGS.replace('1', '2')}\n"}))
    assert "u.item: line 1 has the flag '2' for Drama" in message


@pytest.mark.parametrize("time", [978300760000, 978300760000000, 253370764800])
def test_a_time_that_is_not_in_seconds_is_refused(tmp_path, time):
    message = refusal(write(tmp_path, {**CSV, "ratings.csv": RATINGS_HEADER + f"1,20,4,100\n1,10,4,{time}\n"}))
    assert f"ratings.csv: line 3 has timestamp {time}, which is after the year 2100" in message
    assert "milliseconds" in message


@pytest.mark.parametrize(("year", "expected"), [("9999", 0), ("0000", 0), ("1869", 0), ("1874", 1874), ("2001", 2001)])
def test_a_year_without_films_is_no_year(tmp_path, year, expected):
    tables = read_tables(write(tmp_path / "csv", {**CSV, "movies.csv": f"{MOVIES_HEADER}10,Heat ({year}),War\n"}))
    assert movies_of(tables)[0][1:3] == ("Heat" if expected else f"Heat ({year})", expected)
    item = ATOMIC["ml-100k.item"].replace("1995", year)
    assert movies_of(read_tables(write(tmp_path / "recbole", {**ATOMIC, "ml-100k.item": item})))[0][2] == expected


# -- clean text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Heat", "Heat"),
        (" Heat\u00a0", "Heat"),
        ("Ame\u0301lie", "Am\u00e9lie"),
        ("Two\r\nLines", "Two Lines"),
        ("A\u00a0\u3000B", "A B"),
        ("A  B", "A  B"),
        ("\x1b[31mRed\x07", "[31mRed"),
        ("\ufeffHe\u200bat\u202e", "Heat"),
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u200c\u062e\u0648"),
        ("\u00a0\x00", ""),
    ],
)
def test_text_is_cleaned_of_what_cannot_be_seen(text, expected):
    assert clean_text(text) == expected


def test_titles_and_categories_are_cleaned(tmp_path):
    files = {
        **DAT,
        "movies.dat": "10::\x1b[1mHeat\u00a0(1995)\u00a0::Drama |\u00a0War||Dra\u200bma\n20::\u00a0::\n",
        "users.dat": "1::\u00a0M::1::10::48067\n2:: ::56::16::70072\n",
    }
    tables = read_tables(write(tmp_path, files))
    assert movies_of(tables) == [(10, "[1mHeat", 1995, ["Drama", "War"]), (20, "Movie 20", 0, [])]
    assert users_of(tables) == [(1, "M", 1, "K-12 student"), (2, None, 56, "self-employed")]

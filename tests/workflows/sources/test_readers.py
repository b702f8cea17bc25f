"""MovieLens' four file layouts and Netflix', from small files written by hand, and what is said about bad ones."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core.errors import UserError
from tests.contracts.readers import ReaderContract, movies_of, ratings_of, users_of
from workflows.sources.layouts.movielens_100k import FLAGS
from workflows.sources.read import read_tables

RATINGS_HEADER = "userId,movieId,rating,timestamp\n"
MOVIES_HEADER = "movieId,title,genres\n"
CSV = {
    "ratings.csv": RATINGS_HEADER + "1,10,4.0,100\n1,20,0.5,101\n2,10,5.0,102\n",
    "movies.csv": MOVIES_HEADER + "10,Heat (1995),Action|Crime\n20,Clue (1985),Comedy\n",
}
ML_100K = {
    "u.data": "1\t10\t4\t100\n1\t20\t1\t101\n2\t10\t5\t102\n",
    "u.item": "10|Heat (1995)|01-Jan-1995||http://x|0|1|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0\n",
    "u.user": "1|24|M|technician|85711\n2|53|F|other|94043\n",
}
DAT = {
    "ratings.dat": "1::10::4::100\n1::20::1::101\n2::10::5::102\n",
    "movies.dat": "10::Heat (1995)::Action|Crime\n20::Clue (1985)::Comedy\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
}
ATOMIC = {
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t4\t100\n2\t10\t5\t102\n",
    "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "10\tToy Story\t1995\tAnimation Children's Comedy\n",
    "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n",
}


def write(folder: Path, files: dict, encoding: str = "utf-8") -> Path:
    """Writes the files; bytes as they are, None means that the file is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return folder


# -- what holds for each layout ----------------------------------------------------------------------------------------


ML_100K_LATIN = {**ML_100K, "u.item": ML_100K["u.item"] + "20|Amélie||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"}


def with_year(title: str, year: int) -> str:
    return f"{title} ({year})" if year else title


def csv_line(fields: list[object], quoted: bool) -> str:
    """A line of CSV without its end. Python 3.10's own writer takes no zero byte, which is to be refused when read."""
    texts = map(str, fields)
    special = set(',"\r\n')
    return ",".join('"' + text.replace('"', '""') + '"' if quoted or special & set(text) else text for text in texts)


class TestMovielensCsv(ReaderContract):
    name = "movielens-csv"
    files = CSV
    ratings = ((1, 10, 4.0, 100), (1, 20, 0.5, 101), (2, 10, 5.0, 102))
    movies = ((10, "Heat", 1995, ["Action", "Crime"]), (20, "Clue", 1985, ["Comedy"]))
    users = ((1,), (2,))
    rating_line = "{user},{movie},{stars},{time}"
    movie_line = "{movie},Ran (1985),Drama"

    def rating_lines(self, row, way=None):
        return [",".join(f'"{field}"' if way and way.quoted else str(field) for field in row)]

    def movie_text(self, movie, title, year, genres, way):
        return csv_line([movie, with_year(title, year), "|".join(genres) or "(no genres listed)"], way.quoted)


class TestMovielens100k(ReaderContract):
    name = "movielens-100k"
    files = ML_100K_LATIN
    encoding = "latin-1"
    ratings = ((1, 10, 4.0, 100), (1, 20, 1.0, 101), (2, 10, 5.0, 102))
    movies = ((10, "Heat", 1995, ["Action", "Crime"]), (20, "Amélie", 0, []))
    users = ((1, "M", 24, "technician"), (2, "F", 53, "other"))
    rating_line = "{user}\t{movie}\t{stars}\t{time}"
    movie_line = "{movie}|Ran (1985)||||0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0"
    separator = "|"

    def movie_text(self, movie, title, year, genres, way):
        return "|".join([f"{movie}|{with_year(title, year)}|||", *("01"[genre in genres] for genre in FLAGS)])


class TestMovielensDat(ReaderContract):
    name = "movielens-dat"
    files = DAT
    ratings = ((1, 10, 4.0, 100), (1, 20, 1.0, 101), (2, 10, 5.0, 102))
    movies = ((10, "Heat", 1995, ["Action", "Crime"]), (20, "Clue", 1985, ["Comedy"]))
    users = ((1, "F", 1, "K-12 student"), (2, "M", 56, "self-employed"))
    rating_line = "{user}::{movie}::{stars}::{time}"
    movie_line = "{movie}::Ran (1985)::Drama"
    separator = "::"

    def movie_text(self, movie, title, year, genres, way):
        return "::".join([str(movie), with_year(title, year), "|".join(genres) or "(no genres listed)"])


class TestRecbole(ReaderContract):
    name = "recbole"
    files = ATOMIC
    ratings = ((1, 10, 4.0, 100), (2, 10, 5.0, 102))
    movies = ((10, "Toy Story", 1995, ["Animation", "Children's", "Comedy"]),)
    users = ((1, "M", 24, "technician"), (2, "F", 53, "other"))
    rating_line = "{user}\t{movie}\t{stars}\t{time}"
    movie_line = "{movie}\tRan\t1985\tDrama"
    separator = "\t"

    def movie_text(self, movie, title, year, genres, way):
        return "\t".join([str(movie), title, str(year or ""), " ".join(genres)])


DAY = 86_400
NETFLIX = {
    "combined_data_1.txt": "10:\n1,4,1970-01-02\n2,5,1970-01-04\n20:\n1,1,1970-01-03\n",
    "movie_titles.csv": '10,1995,Heat\n20,NULL,Something, the Movie: 2,000 "AD", Amélie\n',
}


class TestNetflix(ReaderContract):
    name = "netflix"
    files = NETFLIX
    encoding = "latin-1"
    ratings = ((1, 10, 4.0, DAY), (2, 10, 5.0, 3 * DAY), (1, 20, 1.0, 2 * DAY))
    movies = ((10, "Heat", 1995, []), (20, 'Something, the Movie: 2,000 "AD", Amélie', 0, []))
    users = ((1,), (2,))
    movie_line = "{movie},1985,Ran"
    genres = ()
    tick = DAY
    movie_opens = True

    def rating_lines(self, row, way=None):
        user, movie, stars, time = row
        day = datetime(1970, 1, 1) + timedelta(seconds=time) if isinstance(time, int) else None
        return [f"{movie}:", f"{user},{stars},{day.date() if day else time}"]

    def movie_text(self, movie, title, year, genres, way):
        return f"{movie},{year or 'NULL'},{title}"

    def damaged(self, kind, row, line, way, damage):
        if kind == "movies" and damage.kind == "long":  # a comma more is one of the title's
            return str(row[0])
        return super().damaged(kind, row, line, way, damage)

    def test_the_ratings_of_all_files_are_read_and_a_missing_one_is_said(self, tmp_path):
        more = {"combined_data_2.txt": "30:\n2,3,1999-12-31\n", "combined_data_4.txt": "40:\n41:\n3,2,2005-12-31\n"}
        tables = read_tables(write(tmp_path, {**NETFLIX, **more}))
        assert ratings_of(tables) == [*self.ratings, (2, 30, 3.0, 10_956 * DAY), (3, 41, 2.0, 13_148 * DAY)]
        assert tables.notes[0] == "combined_data_3.txt is missing: 3 of 4 files of ratings are read"
        assert tables.notes[1].startswith("times are whole days")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("1,4,1970-01-02\n10:\n", "line 1 is a rating before any movie's line"),
            ("10:\n1,4,1970-02-30\n", "line 2 has timestamp '1970-02-30', which is not a day"),
            ("10:\n1,4,1970-1-3\n", "line 2 has timestamp '1970-1-3', which is not a day"),
            ("10:\n1,4,1970-01-02\n9999999999:\n", "line 3 has movieId '9999999999', which is too large"),
            ("10:\n1,4\n", "line 2 has 2 fields"),
            ("10:\n\n20:\n", "holds no ratings"),
        ],
    )
    def test_what_is_no_rating_is_named(self, tmp_path, text, said):
        assert said in self.refusal(write(tmp_path, {**NETFLIX, "combined_data_1.txt": text}))


# -- the layouts -------------------------------------------------------------------------------------------------------


def test_csv_ratings_in_file_order(tmp_path):
    tables = read_tables(write(tmp_path, CSV))
    assert ratings_of(tables) == [(1, 10, 4.0, 100), (1, 20, 0.5, 101), (2, 10, 5.0, 102)]
    assert tables.repeated == 0
    assert users_of(tables) == [(1,), (2,)]


def test_tables_have_the_documented_types(tmp_path):
    tables = read_tables(write(tmp_path, ML_100K, "latin-1"))
    types = {field.name: str(field.type) for field in tables.ratings.schema}
    assert types == {"userId": "int32", "movieId": "int32", "rating": "float", "timestamp": "int64"}
    assert tables.movies.dtypes[["movieId", "year"]].astype(str).tolist() == ["int32", "int16"]
    assert str(tables.users["userId"].dtype) == "int32"
    assert list(tables.users.columns) == ["userId", "gender", "age", "occupation"]


def test_csv_movies_with_quotes_and_without_genres(tmp_path):
    movies = (
        MOVIES_HEADER
        + '10,"American President, The (1995)",Comedy|Drama|Romance\n'
        + '20,"He Said ""Yes"", Twice (2001)",(no genres listed)\n'
        + '30,"Two\nLines (2002)",Drama\n'
    )
    tables = read_tables(write(tmp_path, {**CSV, "movies.csv": movies}))
    assert movies_of(tables) == [
        (10, "American President, The", 1995, ["Comedy", "Drama", "Romance"]),
        (20, 'He Said "Yes", Twice', 2001, []),
        (30, "Two Lines", 2002, ["Drama"]),
    ]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Heat (1995)", ("Heat", 1995)),
        ("Heat (1995) ", ("Heat", 1995)),
        ("Heat", ("Heat", 0)),
        ("1984", ("1984", 0)),
        ("1984 (1956)", ("1984", 1956)),
        ("Seven (a.k.a. Se7en) (1995)", ("Seven (a.k.a. Se7en)", 1995)),
        ("Heat (1995) (TV)", ("Heat (1995) (TV)", 0)),
        ("Diary (2007-2015)", ("Diary (2007-2015)", 0)),
    ],
)
def test_year_is_split_off_the_end_of_the_title(tmp_path, title, expected):
    tables = read_tables(write(tmp_path, {**CSV, "movies.csv": f"{MOVIES_HEADER}10,{title},Drama\n"}))
    assert movies_of(tables)[0][1:3] == expected


def test_csv_with_windows_line_ends(tmp_path):
    windows = {name: text.replace("\n", "\r\n") for name, text in CSV.items()}
    expected = read_tables(write(tmp_path / "unix", CSV))
    found = read_tables(write(tmp_path / "windows", windows))
    assert ratings_of(found) == ratings_of(expected)
    assert movies_of(found) == movies_of(expected)


def test_ml_100k_in_latin_1(tmp_path):
    flags = "0|0|0|0|0|1|0|0|1|0|0|0|0|0|0|0|0|0|0"  # Comedy, Drama
    item = (
        f"10|Misérables, Les (1995)|01-Jan-1995||http://x|{flags}\n"
        "20|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        "30|Last (1996)|01-Jan-1996||http://x|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|1\n"
    )
    tables = read_tables(write(tmp_path, {**ML_100K, "u.item": item}, "latin-1"))
    assert movies_of(tables) == [
        (10, "Misérables, Les", 1995, ["Comedy", "Drama"]),
        (20, "unknown", 0, []),
        (30, "Last", 1996, ["Western"]),
    ]
    assert ratings_of(tables) == [(1, 10, 4.0, 100), (1, 20, 1.0, 101), (2, 10, 5.0, 102)]
    assert users_of(tables) == [(1, "M", 24, "technician"), (2, "F", 53, "other")]


def test_ml_100k_needs_no_user_file(tmp_path):
    tables = read_tables(write(tmp_path, {**ML_100K, "u.user": None}))
    assert list(tables.users.columns) == ["userId"]
    assert users_of(tables) == [(1,), (2,)]


def test_ml_1m_in_latin_1(tmp_path):
    movies = "10::Misérables, Les: II (1995)::Drama|War\n20::Clue (1985)::Children's\n"
    tables = read_tables(write(tmp_path, {**DAT, "movies.dat": movies}, "latin-1"))
    assert movies_of(tables) == [
        (10, "Misérables, Les: II", 1995, ["Drama", "War"]),
        (20, "Clue", 1985, ["Children's"]),
    ]
    assert ratings_of(tables) == [(1, 10, 4.0, 100), (1, 20, 1.0, 101), (2, 10, 5.0, 102)]
    assert users_of(tables) == [(1, "F", 1, "K-12 student"), (2, "M", 56, "self-employed")]


def test_ml_10m_in_utf_8_with_half_stars_and_no_users(tmp_path):
    files = {
        "ratings.dat": "1::122::0.5::838985046\n1::185::4.5::838983525\n",
        "movies.dat": "122::Amélie (2001)::Comedy|Romance\n185::Ōkami (2006)::(no genres listed)\n",
    }
    tables = read_tables(write(tmp_path, files))
    assert ratings_of(tables) == [(1, 122, 0.5, 838985046), (1, 185, 4.5, 838983525)]
    assert movies_of(tables) == [(122, "Amélie", 2001, ["Comedy", "Romance"]), (185, "Ōkami", 2006, [])]
    assert list(tables.users.columns) == ["userId"]


def test_recbole_atomic_files(tmp_path):
    item = ATOMIC["ml-100k.item"] + "20\tunknown\t\tunknown\n30\tAmélie (x)\tV\tDrama\n"
    tables = read_tables(write(tmp_path, {**ATOMIC, "ml-100k.item": item}))
    assert ratings_of(tables) == [(1, 10, 4.0, 100), (2, 10, 5.0, 102)]
    assert movies_of(tables) == [
        (10, "Toy Story", 1995, ["Animation", "Children's", "Comedy"]),
        (20, "unknown", 0, []),
        (30, "Amélie (x)", 0, ["Drama"]),
    ]
    assert users_of(tables) == [(1, "M", 24, "technician"), (2, "F", 53, "other")]


def test_users_without_a_line_in_the_user_file_stay(tmp_path):
    tables = read_tables(write(tmp_path, {**DAT, "users.dat": "2::M::56::16::70072\n3::F::25::0::1\n"}))
    assert tables.users["userId"].tolist() == [1, 2]
    assert tables.users["gender"].isna().tolist() == [True, False]
    assert tables.users["age"].isna().tolist() == [True, False]


def test_movies_known_only_from_ratings_are_added_and_movies_sorted(tmp_path):
    movies = MOVIES_HEADER + "30,Last (1999),Drama\n20,Clue (1985),Comedy\n20,Clue (1985),Comedy\n"
    tables = read_tables(write(tmp_path, {**CSV, "movies.csv": movies}))
    assert movies_of(tables) == [
        (10, "Movie 10", 0, []),
        (20, "Clue", 1985, ["Comedy"]),
        (30, "Last", 1999, ["Drama"]),
    ]


def test_of_repeated_ratings_the_last_by_time_is_kept(tmp_path):
    ratings = (
        RATINGS_HEADER
        + "1,10,5,300\n"  # the last by time, though first in the file
        + "1,20,3,100\n"
        + "1,10,1,200\n"
        + "2,20,2,400\n"  # a tie in time with the next
        + "2,20,4,400\n"
        + "2,10,1,500\n"
    )
    tables = read_tables(write(tmp_path, {**CSV, "ratings.csv": ratings}))
    assert ratings_of(tables) == [(1, 10, 5.0, 300), (1, 20, 3.0, 100), (2, 20, 4.0, 400), (2, 10, 1.0, 500)]
    assert tables.repeated == 2


@pytest.mark.parametrize("files", [CSV, ML_100K, DAT, ATOMIC], ids=["csv", "ml-100k", "dat", "recbole"])
def test_files_in_a_folder_of_their_own_as_a_zip_unpacks(tmp_path, files):
    write(tmp_path / "flat", files)
    write(tmp_path / "zip" / "ml-something", files)
    (tmp_path / "zip" / "aaa").mkdir()
    nested, flat = read_tables(tmp_path / "zip"), read_tables(tmp_path / "flat")
    assert ratings_of(nested) == ratings_of(flat)
    assert movies_of(nested) == movies_of(flat)
    assert nested.users.equals(flat.users)


# -- bad input ---------------------------------------------------------------------------------------------------------


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_tables(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "\r" not in message
    assert "Traceback" not in message
    assert 'File "' not in message
    assert len(message) < 600
    return message


def csv_ratings(*rows: str) -> dict:
    return {**CSV, "ratings.csv": RATINGS_HEADER + "".join(f"{row}\n" for row in rows)}


def csv_movies(*rows: str) -> dict:
    return {**CSV, "movies.csv": MOVIES_HEADER + "".join(f"{row}\n" for row in rows)}


GOOD = "1,10,4.0,100"
MISSING = [
    ({**CSV, "movies.csv": None}, "movies.csv"),
    ({**ML_100K, "u.item": None}, "u.item"),
    ({**DAT, "movies.dat": None}, "movies.dat"),
    ({**ATOMIC, "ml-100k.item": None}, "ml-100k.item"),
]
EMPTY = [
    ({**CSV, "ratings.csv": ""}, "ratings.csv"),
    ({**CSV, "movies.csv": ""}, "movies.csv"),
    ({**ML_100K, "u.data": ""}, "u.data"),
    ({**DAT, "movies.dat": ""}, "movies.dat"),
    ({**DAT, "users.dat": ""}, "users.dat"),
    ({**ATOMIC, "ml-100k.inter": ""}, "ml-100k.inter"),
]


@pytest.mark.parametrize(("files", "culprit"), MISSING, ids=[culprit for _, culprit in MISSING])
def test_a_missing_movies_file_is_named(tmp_path, files, culprit):
    message = refusal(write(tmp_path, files))
    assert str(tmp_path / culprit) in message
    assert "missing" in message


@pytest.mark.parametrize(("files", "culprit"), EMPTY, ids=[culprit for _, culprit in EMPTY])
def test_an_empty_file_is_named(tmp_path, files, culprit):
    message = refusal(write(tmp_path, files))
    assert str(tmp_path / culprit) in message
    assert "empty" in message


def test_a_header_without_ratings_is_refused(tmp_path):
    message = refusal(write(tmp_path, csv_ratings()))
    assert str(tmp_path / "ratings.csv") in message
    assert "no ratings" in message


@pytest.mark.parametrize(
    ("files", "culprit"),
    [
        ({**CSV, "ratings.csv": "user,movie,rating,timestamp\n1,10,4,100\n"}, "ratings.csv"),
        ({**CSV, "ratings.csv": "movieId,userId,rating,timestamp\n1,10,4,100\n"}, "ratings.csv"),
        ({**CSV, "ratings.csv": "1,10,4,100\n1,20,4,100\n"}, "ratings.csv"),
        ({**CSV, "ratings.csv": b"\xff\xfe" + CSV["ratings.csv"].encode("utf-16-le")}, "ratings.csv"),
        ({**ATOMIC, "ml-100k.inter": "1\t10\t4\t100\n"}, "ml-100k.inter"),
        ({**CSV, "movies.csv": "movieId,genres,title\n10,Drama,Heat (1995)\n"}, "movies.csv"),
        ({**CSV, "movies.csv": "10,Heat (1995),Action\n20,Clue (1985),Comedy\n"}, "movies.csv"),
    ],
    ids=["names", "order", "none", "utf-16", "recbole none", "movies order", "movies none"],
)
def test_a_wrong_header_is_refused(tmp_path, files, culprit):
    assert str(tmp_path / culprit) in refusal(write(tmp_path, files))


BAD_ROWS = {
    "truncated": (csv_ratings(GOOD, "1,20,3"), "ratings.csv", "line 3"),
    "cut off at the end": (csv_ratings(GOOD, "1,20,3,100", "2,1"), "ratings.csv", "line 4"),
    "a field too many": (csv_ratings(GOOD, "1,20,3,4,5"), "ratings.csv", "line 3"),
    "stars no number": (csv_ratings(GOOD, "1,20,good,100"), "ratings.csv", "line 3"),
    "stars left out": (csv_ratings(GOOD, GOOD, "1,20,,100"), "ratings.csv", "line 4"),
    "user no number": (csv_ratings("bob,20,3,100", GOOD), "ratings.csv", "line 2"),
    "time no number": (csv_ratings(GOOD, "1,20,3,yesterday"), "ratings.csv", "line 3"),
    "movie beyond int32": (csv_ratings(GOOD, "1,99999999999,3,100"), "ratings.csv", "line 3"),
    "undecodable": ({**CSV, "ratings.csv": RATINGS_HEADER.encode() + b"1,\xff\xfe,4,1\n"}, "ratings.csv", "line 2"),
    "zero bytes": ({**CSV, "ratings.csv": RATINGS_HEADER.encode() + b"1,10,4,1\n" + bytes(8)}, "ratings.csv", "line 3"),
    "0 stars": (csv_ratings(GOOD, "1,20,0,100"), "ratings.csv", "line 3"),
    "5.5 stars": (csv_ratings(GOOD, GOOD, "1,20,5.5,100"), "ratings.csv", "line 4"),
    "NaN stars": (csv_ratings(GOOD, "1,20,NaN,100"), "ratings.csv", "line 3"),
    "infinite stars": (csv_ratings(GOOD, "1,20,inf,100"), "ratings.csv", "line 3"),
    "negative user": (csv_ratings("-1,10,4,100", GOOD), "ratings.csv", "userId -1"),
    "long negative user": (csv_ratings(GOOD, "-1234567,10,4,100"), "ratings.csv", "userId -1234567"),
    "negative movie": (csv_ratings(GOOD, "1,-20,4,100"), "ratings.csv", "movieId -20"),
    "negative time": (csv_ratings(GOOD, "1,20,4,-5"), "ratings.csv", "timestamp -5"),
    "ml-100k truncated": ({**ML_100K, "u.data": "1\t10\t4\t100\n1\t20\n"}, "u.data", "line 2"),
    "ml-100k no number": ({**ML_100K, "u.data": "1\t10\tx\t100\n"}, "u.data", "line 1"),
    "ml-1m truncated": ({**DAT, "ratings.dat": "1::10::4::100\n1::20::3\n"}, "ratings.dat", "line 2"),
    "ml-1m 6 stars": ({**DAT, "ratings.dat": "1::10::4::100\n1::20::6::100\n"}, "ratings.dat", "line 2"),
    "recbole no number": (
        {**ATOMIC, "ml-100k.inter": ATOMIC["ml-100k.inter"] + "1\tx\t4\t1\n"},
        "ml-100k.inter",
        "line 4",
    ),
    "movie truncated": (csv_movies("10,Heat (1995),Drama", "20,Clue"), "movies.csv", "line 3"),
    "movie truncated after one of two lines": (csv_movies('10,"Two\nLines",Drama', "20,Clue"), "movies.csv", "line 4"),
    "movie with unquoted comma": (csv_movies("10,Heat, The (1995),Drama"), "movies.csv", "line 2"),
    "movie no number": (csv_movies("ten,Heat (1995),Drama"), "movies.csv", "'ten'"),
    "movie negative": (csv_movies("10,Heat (1995),Drama", "-20,Clue (1985),War"), "movies.csv", "-20"),
    "movie id beyond int32": (csv_movies("4294967306,Heat (1995),Drama"), "movies.csv", "4294967306"),
    "movie id beyond int64": (csv_movies("99999999999999999999,Heat (1995),Drama"), "movies.csv", "99999999999999999"),
    "quote never closed": (csv_movies('10,"Heat (1995),Drama', "20,Clue,War"), "movies.csv", ""),
    "quote never closed in a long file": (
        csv_movies('10,"Heat (1995),Drama', *["20,Clue (1985),War"] * 8000),
        "movies.csv",
        "",
    ),
    "movie in broken UTF-8": (
        {**CSV, "movies.csv": MOVIES_HEADER.encode() + b"10,Am\xc3\xa9lie (2001),Drama\n20,Am\xe9,War\n"},
        "movies.csv",
        "line 3 has the byte 0xe9",
    ),
    "ml-100k movie truncated": (
        {**ML_100K, "u.item": "10|Heat (1995)|01-Jan-1995||http://x|0|1\n"},
        "u.item",
        "line 1",
    ),
    "ml-1m movie truncated": ({**DAT, "movies.dat": "10::Heat (1995)::War\n20::Clue\n"}, "movies.dat", "line 2"),
    "ml-1m user truncated": ({**DAT, "users.dat": "1::F::1::10::48067\n2::M\n"}, "users.dat", "line 2"),
    "ml-1m occupation unknown": ({**DAT, "users.dat": "1::F::1::21::48067\n"}, "users.dat", "21"),
    "ml-1m age no number": ({**DAT, "users.dat": "1::F::old::10::48067\n"}, "users.dat", "'old'"),
    "ml-1m user beyond int32": ({**DAT, "users.dat": "4294967297::F::1::10::48067\n"}, "users.dat", "4294967297"),
    "recbole movie truncated": (
        {**ATOMIC, "ml-100k.item": ATOMIC["ml-100k.item"] + "20\tX\n"},
        "ml-100k.item",
        "line 3",
    ),
    "recbole in broken UTF-8": (
        {**ATOMIC, "ml-100k.item": b"a\tb\tc\td\n10\tAm\xc3\xa9\xe9\t2001\tWar\n"},
        "ml-100k.item",
        "line 2 has the byte 0xe9",
    ),
}


@pytest.mark.parametrize(("files", "culprit", "names"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_refused_in_one_line_that_names_it(tmp_path, files, culprit, names):
    message = refusal(write(tmp_path, files))
    assert str(tmp_path / culprit) in message
    assert names in message.replace("Row #", "line ")


@pytest.mark.parametrize(
    ("last", "expected"),
    [("1,10,x,100", "line 190002"), ("1,10,4", "line 190002"), ("1,10,6,100", "line 190002 has rating")],
    ids=["no number", "truncated", "6 stars"],
)
def test_the_line_is_right_beyond_the_first_block_of_a_large_file(tmp_path, monkeypatch, last, expected):
    monkeypatch.setattr("workflows.sources.ratings.BLOCK_BYTES", 1 << 20)
    ratings = RATINGS_HEADER + "1,10,4,10\n" * 190_000 + last + "\n"
    message = refusal(write(tmp_path, {**CSV, "ratings.csv": ratings}))
    assert f"{expected} " in message


def test_a_long_bad_field_is_shortened(tmp_path):
    message = refusal(write(tmp_path, csv_ratings(f"1,10,{'x' * 5000},100")))
    assert "line 2" in message
    assert "..." in message


@pytest.mark.parametrize("files", [{}, {"movies.csv": CSV["movies.csv"]}, {"ratings.txt": "1,2,3,4\n"}])
def test_an_unknown_layout_is_refused_and_the_known_ones_listed(tmp_path, files):
    message = refusal(write(tmp_path / "data", files))
    assert str(tmp_path / "data") in message
    for name in ("ratings.csv", "u.data", "ratings.dat", "ml-100k.inter"):
        assert name in message

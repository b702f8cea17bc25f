"""What holds for every layout's reader. A concrete class gives a small dataset in the layout and inherits the tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, assume, given, settings

from core.errors import UserError
from tests.contracts.written_tables import DAMAGES, LEGACY, RATINGS, WAYS, Damage, Way, movies
from workflows.sources.layouts.base import LAYOUTS, Layout
from workflows.sources.read import Tables, read_tables

EXAMPLES = int(os.environ.get("READER_EXAMPLES", "700"))  # of written tables, for each layout
USER_COLUMNS = ["userId", "gender", "age", "occupation"]


class ReaderContract:
    """Inherit it as `class TestMyLayout(ReaderContract)`.

    Attributes:
        name: of the layout in `LAYOUTS`.
        files: a small dataset, the content of each file by its name: at least two ratings, and the movies in the order
            of their ids. It ends in a newline.
        encoding: of the files.
        ratings: the expected (user id, movie id, stars, Unix seconds), in file order.
        movies: the expected (movie id, title, year, genres); the year is 0 where it is unknown.
        users: the expected (user id, gender, age, occupation), or (user id,) where the layout does not describe users.
        rating_line: one more line of the ratings file, a format of `user`, `movie`, `stars` and `time`.
        movie_line: one more line of the movies file, a format of `movie`.
        entry: the layout itself, where nothing but the test adds it to `LAYOUTS`.
        separator: of the fields, which no title holds; "" where the layout quotes.
        genres: some that the layout can hold, in the order in which it lists them.
        tick: seconds; the layout keeps times as multiples of it.
        movie_opens: whether a line with the movie stands before each rating's own.
    """

    name: ClassVar[str]
    files: ClassVar[dict[str, str]]
    encoding: ClassVar[str] = "utf-8"
    ratings: ClassVar[tuple[tuple[int, int, float, int], ...]]
    movies: ClassVar[tuple[tuple[int, str, int, list[str]], ...]]
    users: ClassVar[tuple[tuple, ...]]
    rating_line: ClassVar[str]
    movie_line: ClassVar[str]
    entry: ClassVar[Layout | None] = None
    separator: ClassVar[str] = ""
    genres: ClassVar[tuple[str, ...]] = ("Action", "Comedy", "Drama", "War")
    tick: ClassVar[int] = 1
    movie_opens: ClassVar[bool] = False

    def rating_lines(self, row: tuple, way: Way | None = None) -> list[str]:
        """A rating (user id, movie id, stars, time) as lines of the ratings file, its own the last."""
        return [self.rating_line.format(**dict(zip(("user", "movie", "stars", "time"), row)))]

    def movie_text(self, movie: object, title: str, year: int, genres: list[str], way: Way) -> str | None:
        """A movie as a line of the movies file; None where the contract is to write `movie_line` only."""
        return None

    @pytest.fixture(autouse=True, scope="class")
    def _registered(self) -> Iterator[None]:
        if self.entry is None:
            yield
            return
        LAYOUTS.add(self.name, self.entry)
        yield
        LAYOUTS.remove(self.name)

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.name]

    def write(self, folder: Path, more: dict[str, str] | None = None, without: str | None = None) -> Path:
        """Writes the files, with more text at the end of some and without one of them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            if name != without:
                (folder / name).write_bytes((text + (more or {}).get(name, "")).encode(self.encoding))
        return folder

    def with_rating(self, folder: Path, user: object, movie: object, stars: object, time: object) -> Path:
        """Writes the files with one more rating."""
        lines = self.rating_lines((user, movie, stars, time))
        return self.write(folder, {self.layout.ratings_file: "".join(f"{line}\n" for line in lines)})

    def refusal(self, folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            read_tables(folder, self.name)
        message = str(caught.value)
        assert "\n" not in message
        assert "Traceback" not in message
        assert len(message) < 600
        return message

    def lines(self, file: str) -> int:
        """How many lines the file of the small dataset has."""
        return self.files[file].count("\n")

    @property
    def rating_line_number(self) -> int:
        """Of the line of one more rating, where that is the last."""
        return self.lines(self.layout.ratings_file) + 1 + self.movie_opens

    # -- what is read --------------------------------------------------------------------------------------------------

    def test_the_tables_are_those_of_the_files(self, tmp_path):
        tables = read_tables(self.write(tmp_path))
        assert ratings_of(tables) == list(self.ratings)
        assert movies_of(tables) == list(self.movies)
        assert users_of(tables) == list(self.users)
        assert tables.repeated == 0

    def test_the_tables_have_the_documented_types(self, tmp_path):
        tables = read_tables(self.write(tmp_path))
        types = {field.name: str(field.type) for field in tables.ratings.schema}
        assert types == {"userId": "int32", "movieId": "int32", "rating": "float", "timestamp": "int64"}
        assert list(tables.movies.columns) == ["movieId", "title", "year", "genres"]
        assert tables.movies.dtypes[["movieId", "year"]].astype(str).tolist() == ["int32", "int16"]
        assert all(isinstance(title, str) for title in tables.movies["title"])
        assert all(isinstance(genres, list) for genres in tables.movies["genres"])
        assert str(tables.users["userId"].dtype) == "int32"
        assert list(tables.users.columns) == (USER_COLUMNS if self.layout.users else ["userId"])

    def test_reading_twice_gives_the_same_and_changes_no_file(self, tmp_path):
        folder = self.write(tmp_path)
        first, again = read_tables(folder), read_tables(folder, self.name)
        assert again.ratings.equals(first.ratings)
        assert again.movies.equals(first.movies)
        assert again.users.equals(first.users)
        for name, text in self.files.items():
            assert (folder / name).read_bytes() == text.encode(self.encoding)

    def test_files_are_found_one_folder_down_as_a_zip_unpacks(self, tmp_path):
        self.write(tmp_path / "some-release")
        (tmp_path / "aaa").mkdir()
        assert ratings_of(read_tables(tmp_path)) == list(self.ratings)

    def test_a_movie_that_only_ratings_know_is_added(self, tmp_path):
        tables = read_tables(self.with_rating(tmp_path, self.ratings[0][0], 99_999, 3, 7))
        assert movies_of(tables)[-1] == (99_999, "Movie 99999", 0, [])
        assert len(tables.movies) == len(self.movies) + 1

    def test_of_a_repeated_rating_the_last_by_time_stays(self, tmp_path):
        user, movie, stars, time = self.ratings[0]
        other = 1.0 if stars != 1 else 2.0
        tables = read_tables(self.with_rating(tmp_path, user, movie, int(other), time + self.tick))
        assert tables.repeated == 1
        assert ratings_of(tables) == [*self.ratings[1:], (user, movie, other, time + self.tick)]

    def test_the_users_file_may_be_missing(self, tmp_path):
        if not self.layout.users_file:
            return
        tables = read_tables(self.write(tmp_path, without=self.layout.users_file))
        assert list(tables.users.columns) == ["userId"]
        assert tables.users["userId"].tolist() == sorted({user for user, *_ in self.ratings})

    # -- any table, written in any way ---------------------------------------------------------------------------------

    def test_some_tables_are_read_back_or_refused(self, tmp_path):
        self.check_tables(tmp_path, 60)

    @pytest.mark.slow
    @pytest.mark.timeout(3600)  # against hangs: a busy machine is slow
    def test_any_table_is_read_back_or_refused(self, tmp_path):
        self.check_tables(tmp_path, EXAMPLES)

    def check_tables(self, folder: Path, examples: int) -> None:
        """Reads tables as tools write them: what is read is what was written, and what is damaged is refused."""

        @settings(deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
        @given(RATINGS, movies(self.genres), WAYS, DAMAGES)
        def check(ratings, movies, way, damage):
            movies = [(movie, self.holdable(title), year, genres) for movie, title, year, genres in movies]
            damaged = self.write_tables(folder, ratings, movies, way, damage)
            try:
                tables = read_tables(folder, self.name)
            except UserError as error:
                self.check_refusal(str(error), damaged, way)
                return
            assert not damaged, f"{damaged} was not refused"
            assert way.encoding != "utf-16"
            assert ratings_of(tables) == [(*row[:3], row[3] - row[3] % self.tick) for row in ratings]
            known = {row[0]: row for row in movies_of(tables)}
            assert sorted(known) == sorted({row[0] for row in movies} | {row[1] for row in ratings})
            if self.movie_text(1, "", 0, [], way) is not None:
                assert [known[row[0]] for row in movies] == movies
                unknown = set(known) - {row[0] for row in movies}
                assert all(known[movie] == (movie, f"Movie {movie}", 0, []) for movie in unknown)

        check()

    def holdable(self, title: str) -> str:
        """A title that the layout can hold: the separator's character is exchanged."""
        return title.replace(self.separator[:1], "-") if self.separator else title

    def write_tables(self, folder: Path, ratings: list, movies: list, way: Way, damage: Damage) -> str:
        """Writes the files; returns how the message about the damage must begin, "" without one."""
        damaged = ""
        lines = {
            "ratings": [self.rating_lines(row, way) for row in ratings],
            "movies": [[self.movie_written(row, way)] for row in movies],
        }
        rows = {"ratings": ratings, "movies": movies}
        names = {"ratings": self.layout.ratings_file, "movies": self.layout.movies_file}
        for kind, name in names.items():
            first = self.files[name].partition("\n")[0]
            header = [] if first[0].isdigit() else [first]
            if damage.kind != "none" and damage.file == kind and lines[kind]:
                place = damage.place % len(lines[kind])
                lines[kind][place][-1] = self.damaged(kind, rows[kind][place], lines[kind][place][-1], way, damage)
                before = len(header) + sum(map(len, lines[kind][: place + 1])) - 1
                damaged = f"{folder / name}: line {way.line_of(before)} "
            data = way.encoded(way.text([*header, *(line for some in lines[kind] for line in some)]))
            assume(data is not None)
            (folder / name).write_bytes(data or b"\n")
        if self.layout.users_file:
            (folder / self.layout.users_file).write_bytes(self.files[self.layout.users_file].encode(self.encoding))
        return damaged

    def movie_written(self, row: tuple, way: Way) -> str:
        movie, title, year, genres = row
        return self.movie_text(movie, way.dirty(title), year, genres, way) or self.movie_line.format(movie=movie)

    def damaged(self, kind: str, row: tuple, line: str, way: Way, damage: Damage) -> str:
        if damage.kind == "id":
            other = (damage.text, *row[1:])
            return self.rating_lines(other, way)[-1] if kind == "ratings" else self.movie_written(other, way)
        separator = self.separator or ","
        return f"{line}{separator}1" if damage.kind == "long" else str(row[0])

    def check_refusal(self, message: str, damaged: str, way: Way) -> None:
        """A refusal is one line that a terminal can show; what is not damaged may be refused for its encoding alone."""
        assert message.isprintable(), message
        assert len(message) < 600
        if "UTF-16" in message:
            assert way.encoding == "utf-16"
        elif not ("which is not UTF-8, as other text" in message and way.encoding in LEGACY):
            assert damaged, message
            assert message.startswith(damaged), (message, damaged)

    # -- what is refused -----------------------------------------------------------------------------------------------

    def test_a_missing_movies_file_is_named(self, tmp_path):
        message = self.refusal(self.write(tmp_path, without=self.layout.movies_file))
        assert f"{tmp_path / self.layout.movies_file} is missing" in message
        assert self.layout.title in message

    def test_without_the_ratings_file_the_layout_is_not_found(self, tmp_path):
        message = self.refusal(self.write(tmp_path, without=self.layout.ratings_file))
        assert self.layout.ratings_file in message

    def test_an_empty_file_is_named(self, tmp_path):
        for name in self.files:
            folder = self.write(tmp_path / name)
            (folder / name).write_bytes(b"")
            assert f"{folder / name} is empty" in self.refusal(folder)

    @pytest.mark.parametrize("place", range(4), ids=["user", "movie", "stars", "time"])
    def test_a_rating_that_is_not_a_number_is_named_by_its_line(self, tmp_path, place):
        row: list[object] = [1, 20, 3, 100]
        row[place] = "x"
        folder = self.with_rating(tmp_path, *row)
        message = self.refusal(folder)
        assert str(folder / self.layout.ratings_file) in message
        line = self.rating_line_number - (self.movie_opens and place == 1)
        assert f"line {line}" in message

    def test_a_rating_that_is_cut_off_is_named_by_its_line(self, tmp_path):
        message = self.refusal(self.write(tmp_path, {self.layout.ratings_file: "1\n"}))
        assert f"line {self.lines(self.layout.ratings_file) + 1}" in message

    @pytest.mark.parametrize("stars", [0, 6, "NaN"])
    def test_stars_out_of_range_are_named_by_the_line(self, tmp_path, stars):
        message = self.refusal(self.with_rating(tmp_path, 1, 20, stars, 100))
        assert f"line {self.rating_line_number} has rating " in message

    def test_a_negative_id_is_refused(self, tmp_path):
        assert "userId -1" in self.refusal(self.with_rating(tmp_path / "user", -1, 20, 3, 100))
        assert "movieId -1" in self.refusal(self.with_rating(tmp_path / "movie", 1, -1, 3, 100))

    def test_a_movie_that_is_cut_off_is_named_by_its_line(self, tmp_path):
        message = self.refusal(self.write(tmp_path, {self.layout.movies_file: "7\n"}))
        assert str(tmp_path / self.layout.movies_file) in message
        assert f"line {self.lines(self.layout.movies_file) + 1}" in message

    @pytest.mark.parametrize("movie", ["ten", "-20", "4294967306"])
    def test_a_movie_id_that_is_none_is_refused(self, tmp_path, movie):
        folder = self.write(tmp_path, {self.layout.movies_file: self.movie_line.format(movie=movie) + "\n"})
        assert movie in self.refusal(folder)


def ratings_of(tables: Tables) -> list[tuple]:
    columns = tables.ratings.to_pydict()
    return list(zip(columns["userId"], columns["movieId"], columns["rating"], columns["timestamp"]))


def movies_of(tables: Tables) -> list[tuple]:
    return [tuple(row) for row in tables.movies[["movieId", "title", "year", "genres"]].itertuples(index=False)]


def users_of(tables: Tables) -> list[tuple]:
    return [tuple(row) for row in tables.users.itertuples(index=False)]

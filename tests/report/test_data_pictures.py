"""The pictures of the data show what can be reckoned by hand, for tables of every kind."""

import pathlib
import warnings
from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D, Bbox

from report.files import RunFiles
from report.picture import DATA, PICTURES
from report.pictures.clouds import words
from report.pictures.data import edges_of
from report.pictures.genres import MOST_DECADES, by_decade, quantile
from tests.contracts.pictures import PictureContract, names_in, smallest_text, svg
from tests.report.small_runs import MOVIES, RATINGS, STRANGE, files_of

GENRES_OF_MOVIELENS = (
    "Drama",
    "Comedy",
    "Thriller",
    "Romance",
    "Action",
    "Horror",
    "Documentary",
    "Crime",
    "Adventure",
    "Sci-Fi",
    "Children",
    "Animation",
    "Mystery",
    "Fantasy",
    "War",
    "Western",
    "Musical",
    "Film-Noir",
    "IMAX",
)


def many_of_everything(folder: pathlib.Path) -> RunFiles:
    """Half stars, users and movies by the hundred, twenty-five years, long titles, more genres than are drawn."""
    rng = np.random.default_rng(0)
    pairs = [(user, movie) for user in range(300) for movie in rng.choice(500, 1 + user % 40, replace=False)]
    days = np.datetime64("1995-01-01") + rng.integers(0, 25 * 365, len(pairs))
    stars = rng.integers(1, 11, len(pairs)) / 2
    movies = [
        (
            movie,
            f"Ž{movie} {'Extraordinarily' * (movie % 3)} long title of {'word' * (movie % 7)} $x_{movie}$",
            1890 + movie % 130,
            [f"Genre {one}" for one in rng.choice(30, movie % 4, replace=False)],
        )
        for movie in range(500)
    ]
    ratings = [(*pair, one, str(day)) for pair, one, day in zip(pairs, stars, days)]
    return files_of(folder, ratings, movies)


class TestPicturesOfTheData(PictureContract):
    names = names_in(DATA)

    @pytest.fixture
    def files(self, tmp_path) -> RunFiles:
        return files_of(tmp_path)

    def test_its_text_can_be_read_on_a_phone(self, figure):
        assert smallest_text(figure) >= 8


class TestWithOneRating(PictureContract):
    names = names_in(DATA)

    @pytest.fixture
    def files(self, tmp_path) -> RunFiles:
        return files_of(tmp_path, RATINGS[:1], MOVIES[:1])


class TestWithManyOfEverything(PictureContract):
    names = names_in(DATA)

    @pytest.fixture
    def files(self, tmp_path) -> RunFiles:
        return many_of_everything(tmp_path)

    def test_its_text_can_be_read_on_a_phone(self, figure):
        assert smallest_text(figure) >= 8


@pytest.fixture
def files(tmp_path) -> RunFiles:
    return files_of(tmp_path)


def axes_of(name: str, files: RunFiles) -> list[Axes]:
    return PICTURES[name].draw(files).axes


def said(name: str, files: RunFiles) -> str:
    return PICTURES[name].text(files)


def heights(axis: Axes) -> list[float]:
    return [bar.get_height() for bar in axis.patches]


def widths(axis: Axes) -> list[float]:
    return [bar.get_width() for bar in axis.patches]


def labels(texts) -> list[str]:
    return [text.get_text() for text in texts]


# -- ratings -----------------------------------------------------------------------------------------------------------


def test_the_histogram_counts_every_star(files):
    (axis,) = axes_of("rating-histogram", files)
    found = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in axis.patches}
    assert found == pytest.approx({5: 3, 4: 2, 3: 1, 2: 1, 1: 1})
    colors = {bar.get_x() + bar.get_width() / 2: bar.get_facecolor() for bar in axis.patches}
    assert colors[5] == colors[4] != colors[3] == colors[2] == colors[1]
    assert said("rating-histogram", files) == (
        "8 ratings by 3 users of 4 movies: 5 stars are given most often (37.5 %), the mean is 3.62, and 62.5 % are "
        "above 3 stars, which random-split calls liked."
    )


def test_the_histogram_has_a_bar_for_each_half_star(tmp_path):
    ratings = [(user, 10, stars, "2000-01-01") for user, stars in enumerate((0.5, 3.5, 3.5, 5))]
    (axis,) = axes_of("rating-histogram", files_of(tmp_path, ratings))
    found = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in axis.patches}
    assert found == pytest.approx({0.5: 1, 3.5: 2, 5: 1})
    assert axis.get_xticks() == pytest.approx(np.arange(0.5, 5.5, 0.5))


def test_users_are_counted_by_how_much_they_rate(files):
    (axis,) = axes_of("ratings-per-user", files)
    assert [(bar.get_x(), bar.get_height()) for bar in axis.patches] == [(2, 2), (4, 1)]
    assert axis.lines[0].get_xdata() == [2, 2]
    assert said("ratings-per-user", files) == (
        "3 users gave 2 to 4 ratings each, 2 at the median and 3 on average. The most active tenth gave 50 % of all "
        "ratings."
    )


@pytest.mark.parametrize(("lowest", "highest"), [(1, 1), (1, 2), (1, 1000), (7, 8), (8, 8), (20, 20), (20, 32_202)])
def test_bins_are_whole_numbers_and_hold_every_user(lowest, highest):
    edges = edges_of(lowest, highest)
    assert edges[0] == lowest
    assert edges[-2] <= highest < edges[-1]
    assert (np.diff(edges) > 0).all()
    assert len(edges) < 40


def test_activity_is_by_month_with_the_months_in_which_nothing_happened(files):
    (axis,) = axes_of("activity", files)
    assert heights(axis) == [2, 0, 6]
    assert labels(axis.get_xticklabels()) == ["Jan\n2000", "Feb\n2000", "Mar\n2000"]
    assert said("activity", files) == (
        "Ratings per month (UTC), from 15 January 2000 to 31 March 2000: most in March 2000, 6 (75 %). The first and "
        "the last month may be incomplete."
    )


def test_activity_is_by_year_over_a_long_span(tmp_path):
    days = ("1996-02-01", "1996-12-31", "1999-06-01", "2000-02-01")
    files = files_of(tmp_path, [(1, movie, 3, day) for movie, day in zip((10, 20, 30, 40), days)])
    (axis,) = axes_of("activity", files)
    assert heights(axis) == [2, 0, 0, 1, 1]
    assert labels(axis.get_xticklabels()) == ["1996", "1997", "1998", "1999", "2000"]
    assert "most in 1996, 2 (50 %)" in said("activity", files)


def test_the_long_tail_says_how_many_movies_have_four_fifths_of_the_ratings(files):
    (axis,) = axes_of("long-tail", files)
    curve, point = axis.lines[0], axis.lines[-1]
    assert curve.get_xdata() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert curve.get_ydata() == pytest.approx(np.array([0, 3, 5, 7, 8, 8]) / 8)
    assert (*point.get_xdata(), *point.get_ydata()) == pytest.approx((3 / 5, 7 / 8))
    assert labels(axis.texts) == ["3 movies (60 %)\nhave 87.5 % of the ratings"]
    assert said("long-tail", files) == (
        "80 % of the ratings fall on the 3 movies that are rated most: 60 % of the 5 movies. 1 of them has no rating "
        "at all."
    )


def test_exactly_four_fifths_need_no_further_movie(tmp_path):
    ratings = [(user, 10, 3, "2000-01-01") for user in range(28)] + [(user, 20, 3, "2000-01-01") for user in range(7)]
    assert "80 % of the ratings fall on the 1 movie that is rated most" in said(
        "long-tail", files_of(tmp_path, ratings)
    )


def test_the_long_tail_of_many_movies_is_drawn_with_few_points_and_the_exact_one(tmp_path):
    movies = [(movie, "A", 2000, []) for movie in range(1, 20_001)]
    ratings = [(1, movie, 3, "2000-01-01") for movie in range(1, 20_001)]
    (axis,) = axes_of("long-tail", files_of(tmp_path, ratings, movies))
    assert len(axis.lines[0].get_xdata()) < 500
    assert axis.lines[-1].get_xdata() == pytest.approx([0.8])
    assert 0.8 in axis.lines[0].get_xdata()


def test_the_favourites_are_the_movies_with_most_five_stars(files):
    (axis,) = axes_of("five-stars", files)
    assert widths(axis) == [2, 1]
    assert labels(axis.texts) == ["2 (67 %)", "1 (100 %)"]
    assert labels(axis.get_yticklabels()) == [f"{STRANGE}\n(1994)", "Unknown"]
    assert said("five-stars", files) == (
        f"The 2 movies with the most five-star ratings. {STRANGE} (1994) comes first with 2, 66.7 % of its own ratings."
    )


def test_a_title_with_dollars_is_shown_as_it_is(files):
    assert b"$5_a for $9_b" in svg(PICTURES["five-stars"].draw(files))


def test_ten_favourites_are_enough_and_none_is_lacking(tmp_path):
    ratings = [(user, 10 * movie, 5, "2000-01-01") for movie in range(1, 13) for user in range(movie)]
    movies = [(10 * movie, f"Film {movie}", 0, []) for movie in range(1, 13)]
    (axis,) = axes_of("five-stars", files_of(tmp_path / "many", ratings, movies))
    assert widths(axis) == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]
    files = files_of(tmp_path / "none", [(1, 10, 4.5, "2000-01-01")])
    assert PICTURES["five-stars"].lacking(files) == "No rating has five stars."


# -- genres ------------------------------------------------------------------------------------------------------------


def test_genres_count_their_movies_and_their_ratings(files):
    movies, ratings = axes_of("genre-counts", files)
    assert labels(movies.get_yticklabels()) == ["Comedy", "Drama", "Western"]
    assert (widths(movies), widths(ratings)) == ([2, 2, 1], [5, 5, 0])
    assert movies.get_title() != ratings.get_title()
    assert said("genre-counts", files) == (
        "Movies and ratings of each genre; a movie may have several. Most movies: Comedy (2 of 5); most ratings: "
        "Comedy (62.5 % of all). 1 movie has none."
    )


def test_boxes_are_those_of_numpy(files):
    (axis,) = axes_of("stars-by-genre", files)
    assert labels(axis.get_yticklabels()) == ["Comedy", "Drama"]  # nobody has rated the Western
    boxes = [sorted({*patch.get_path().vertices[:, 0]}) for patch in axis.patches]
    assert boxes == [[3, 5], [2, 5]]
    stars = {"Comedy": [5, 5, 1, 3, 4], "Drama": [5, 5, 1, 4, 2]}
    drawn = {tuple(line.get_xdata()) for line in axis.lines}
    assert {(np.median(one),) * 2 for one in stars.values()} <= drawn
    assert {(np.mean(one),) for one in stars.values()} <= {tuple(map(float, one)) for one in drawn}
    assert said("stars-by-genre", files).startswith(
        "Comedy has the highest mean, 3.60 stars, and Drama the lowest, 3.40. Box: "
    )


@pytest.mark.parametrize("name", names_in(DATA))
def test_nothing_that_matplotlib_gives_up_is_used(name, files):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PICTURES[name].draw(files)


def test_stars_beyond_the_whiskers_are_dots(tmp_path):
    ratings = [(user, 20, stars, "2000-01-01") for user, stars in enumerate((1, 1, 4, 4, 4, 4, 4, 4, 4.5))]
    (axis,) = axes_of("stars-by-genre", files_of(tmp_path, ratings))
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[1, 4.5]]


def test_quantiles_of_counts_are_those_of_the_values():
    rng = np.random.default_rng(0)
    values = np.arange(0.5, 5.5, 0.5)
    for _ in range(50):
        counts = rng.integers(0, 5, 10)
        counts[rng.integers(10)] += 1
        for share in (0.25, 0.5, 0.75):
            assert quantile(counts, values, share) == pytest.approx(np.quantile(np.repeat(values, counts), share))


def test_the_heat_map_has_shares_of_each_decade(files):
    (axis,) = axes_of("genre-by-decade", files)
    assert labels(axis.get_yticklabels()) == ["Comedy", "Drama", "Western"]
    assert labels(axis.get_xticklabels()) == ["1950s: 1", "1990s: 2", "2000s: 1"]
    assert np.asarray(axis.collections[0].get_array()).reshape(3, 3).tolist() == [[0, 0.5, 1], [0, 1, 0], [1, 0, 0]]
    assert labels(axis.texts) == ["", "50", "100", "", "100", "", "100", "", ""]
    assert said("genre-by-decade", files) == (
        "Percentage of each decade's movies that have a genre; a movie may have several. Most movies are of the 1990s "
        "(2), of which 100 % are Drama. 1 movie is of unknown year and left out."
    )


def test_old_movies_share_a_column(tmp_path):
    movies = [(10 + year, "A", year, ["Drama"]) for year in range(1875, 2020, 10)]
    files = files_of(tmp_path, [(1, 2025, 3, "2020-01-01")], movies)
    shares, counts = by_decade(files)
    assert list(shares.columns) == list(range(1910, 2020, 10))
    assert len(shares.columns) == MOST_DECADES
    assert counts.tolist() == [5] + [1] * 10
    (axis,) = axes_of("genre-by-decade", files)
    assert labels(axis.get_xticklabels())[:2] == ["to 1919: 5", "1920s: 1"]


def test_without_genres_or_years_pictures_say_what_is_lacking(tmp_path):
    without = files_of(tmp_path / "genres", RATINGS[:1], [(10, "A", 1990, [])])
    reason = "No movie of this dataset has a genre."
    for name in ("genre-counts", "stars-by-genre", "genre-by-decade", "genre-cloud"):
        assert PICTURES[name].lacking(without) == reason
    ageless = files_of(tmp_path / "years", RATINGS[:1], [(10, "A", 0, ["Drama"])])
    assert PICTURES["genre-by-decade"].lacking(ageless) == "No movie of this dataset has a known year."
    assert PICTURES["genre-counts"].lacking(ageless) == ""
    unrated = files_of(tmp_path / "rated", RATINGS[:1], [(10, "A", 0, []), (20, "B", 0, ["Drama"])])
    assert PICTURES["stars-by-genre"].lacking(unrated) == "No movie that was rated has a genre."


# -- words -------------------------------------------------------------------------------------------------------------


def test_words_of_titles_are_counted_once_a_title(tmp_path):
    titles = ("The Night & the night", "NIGHT of 4th Day", "Night's Day", "L'Été à Paris (Été)", "101 $_ 7", "Café")
    movies = [(place, title, 0, []) for place, title in enumerate(titles, 10)]
    found = words(files_of(tmp_path, RATINGS[:1], movies))
    assert found == {"night": 2, "Day": 2, "Night's": 1, "L'Été": 1, "Paris": 1, "Été": 1, "Café": 1}


def test_the_genre_cloud_shows_every_genre_the_frequent_ones_larger(files):
    (axis,) = axes_of("genre-cloud", files)
    sizes = {text.get_text(): text.get_fontsize() for text in axis.texts}
    assert set(sizes) == {"Comedy", "Drama", "Western"}
    assert sizes["Comedy"] >= sizes["Drama"] > sizes["Western"]
    assert said("genre-cloud", files).startswith(
        "The more movies a genre has, the larger it is; the largest: Comedy (2), Drama (2) and Western (1)."
    )


def test_as_many_genres_as_movielens_has_find_a_place_however_rare_some_are(tmp_path):
    genres = GENRES_OF_MOVIELENS
    sizes = (700 * 0.75 ** np.arange(len(genres))).astype(int)
    movies = [(n, "A", 0, [genre for genre, size in zip(genres, sizes) if n <= size]) for n in range(1, 701)]
    (axis,) = axes_of("genre-cloud", files_of(tmp_path, [(1, 1, 3, "2000-01-01")], movies))
    assert {text.get_text() for text in axis.texts} == set(genres)


@pytest.mark.parametrize("name", ["genre-cloud", "title-cloud"])
def test_words_of_a_cloud_lie_inside_and_do_not_overlap(name, tmp_path):
    (axis,) = axes_of(name, many_of_everything(tmp_path))
    words = []
    for text in axis.texts:
        outline = TextPath((0, 0), text.get_text(), text.get_fontsize())
        outline = outline.transformed(Affine2D().scale(1, -1).translate(*text.get_position()))
        words.append(Path.make_compound_path(*map(Path, outline.to_polygons())))
    assert len(words) > 5
    page = Bbox([[0, 0], [axis.get_xlim()[1], axis.get_ylim()[0]]])
    assert all(Bbox.union([word.get_extents(), page]).bounds == page.bounds for word in words)
    assert not [(one, other) for one, other in combinations(words, 2) if one.intersects_path(other, filled=False)]


def test_a_title_without_a_word_makes_no_cloud(tmp_path):
    files = files_of(tmp_path, RATINGS[:1], [(10, "$ 101", 0, ["Drama"])])
    assert PICTURES["title-cloud"].lacking(files) == "No title of this dataset has a word."

"""The movies' genres: how many, how they are rated, and when their movies came out."""

from inspect import signature

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure

from core.columns import YEAR
from report.files import RunFiles
from report.picture import DATA, Picture, add
from report.style import BLUE, NAVY, SKY, VERMILION, count_axis, figure, percent, whole_numbers

# Matplotlib 3.10 has `orientation` and deprecates `vert`; the Merlin image's 3.8 has `vert` alone.
HORIZONTAL = {"orientation": "horizontal"} if "orientation" in signature(Axes.bxp).parameters else {"vert": False}
MOST_GENRES = 20  # that are drawn; MovieLens has 18 or 19
MOST_DECADES = 11  # columns of the heat map; what is older shares the first one
# From the page's own colour to blue, so that the numbers can be read on a light page and on a dark one.
SHADES = LinearSegmentedColormap.from_list("shades", [to_rgba(BLUE, 0), to_rgba(BLUE, 0.85)])


def lacking(files: RunFiles) -> str:
    return "" if len(files.genres.columns) else "No movie of this dataset has a genre."


def _shown(files: RunFiles) -> pd.DataFrame:
    """`files.genres`, the genre of most movies first, no more than are drawn."""
    frequent = files.genres.sum().sort_values(ascending=False, kind="stable").index[:MOST_GENRES]
    return files.genres[frequent]


# -- how many ----------------------------------------------------------------------------------------------------------


def counts(files: RunFiles) -> pd.DataFrame:
    """`movies` and `ratings` of each genre, the most frequent first."""
    shown = _shown(files)
    ratings = shown.to_numpy().T.astype(np.int64) @ files.stars.sum(axis=1).to_numpy()
    return pd.DataFrame({"movies": shown.sum(), "ratings": ratings}, index=shown.columns)


def draw_counts(files: RunFiles) -> Figure:
    rows = counts(files)
    made, panels = figure(1, 2, height=0.9 + 0.26 * len(rows))
    for axis, name in zip(panels, rows):
        axis.barh(np.arange(len(rows)), rows[name], 0.75, color=BLUE)
        axis.set(title=name.capitalize(), ylim=(len(rows) - 0.4, -0.6))
        axis.set_yticks(np.arange(len(rows)), rows.index if axis is panels[0] else [])
        axis.grid(False, axis="y")
        count_axis(axis.xaxis, 4)
    return made


def text_of_counts(files: RunFiles) -> str:
    rows = counts(files)
    every = len(files.genres.columns)
    without = int((~files.genres.any(axis=1)).sum())
    most = rows["ratings"].idxmax()
    none = f"{without:,} {'movie has' if without == 1 else 'movies have'} none" if without else "Every movie has one"
    cut = f" (the {len(rows)} most frequent of {every:,} are drawn)" if every > len(rows) else ""
    return (
        f"Movies and ratings of each genre{cut}; a movie may have several. Most movies: {rows.index[0]} "
        f"({rows['movies'][0]:,} of {len(files.movies):,}); most ratings: {most} "
        f"({percent(rows['ratings'][most] / files.stars.to_numpy().sum())} of all). "
        f"{none}."
    )


# -- stars -------------------------------------------------------------------------------------------------------------


def quantile(counts: np.ndarray, values: np.ndarray, share: float) -> float:
    """As `numpy.quantile` of every value as often as it occurs.

    Args:
        counts: int64 [n], how often each of the rising `values` [n] occurs.
    """
    place = share * (counts.sum() - 1)
    low, high = (
        values[np.searchsorted(np.cumsum(counts), at, side="right")] for at in (np.floor(place), np.ceil(place))
    )
    return float(low + (high - low) * (place % 1))


def boxes(files: RunFiles) -> list[dict]:
    """What matplotlib draws box plots from, the genre with the highest mean first, those without ratings left out.

    Whiskers reach as far as there are stars within 1.5 times the box's length. `fliers` are the stars beyond, each one
    once.
    """
    shown, values = _shown(files), files.stars.columns.to_numpy()
    found = []
    for name, row in zip(shown, shown.to_numpy().T.astype(np.int64) @ files.stars.to_numpy()):
        if row.sum():
            low, middle, high = (quantile(row, values, share) for share in (0.25, 0.5, 0.75))
            reach = 1.5 * (high - low)
            there = values[row > 0]
            inside = there[(there >= low - reach) & (there <= high + reach)]
            found.append(
                {
                    "label": name,
                    "mean": float(row @ values / row.sum()),
                    "q1": low,
                    "med": middle,
                    "q3": high,
                    "whislo": min(inside.min(), low),
                    "whishi": max(inside.max(), high),
                    "fliers": np.setdiff1d(there, inside),
                }
            )
    return sorted(found, key=lambda one: -one["mean"])


def draw_boxes(files: RunFiles) -> Figure:
    rows = boxes(files)
    made, (axis,) = figure(height=1.1 + 0.27 * len(rows))
    axis.bxp(
        rows,
        positions=np.arange(len(rows)),
        widths=0.6,
        **HORIZONTAL,
        patch_artist=True,
        showmeans=True,
        boxprops={"facecolor": SKY, "edgecolor": BLUE},
        medianprops={"color": NAVY, "linewidth": 2.2},
        meanprops={"marker": "D", "markerfacecolor": VERMILION, "markeredgecolor": VERMILION, "markersize": 5},
        whiskerprops={"color": BLUE},
        capprops={"color": BLUE},
        flierprops={"marker": "o", "markersize": 3, "markerfacecolor": BLUE, "markeredgecolor": BLUE},
    )
    axis.set(xlabel="stars", ylim=(len(rows) - 0.4, -0.6))
    axis.xaxis.set_major_locator(whole_numbers(5))
    axis.grid(False, axis="y")
    return made


def text_of_boxes(files: RunFiles) -> str:
    rows = boxes(files)
    best, worst = rows[0], rows[-1]
    means = (
        f"Only {best['label']} was rated, {best['mean']:.2f} stars on average"
        if len(rows) == 1
        else f"{best['label']} has the highest mean, {best['mean']:.2f} stars, and {worst['label']} the lowest, "
        f"{worst['mean']:.2f}"
    )
    return (
        f"{means}. Box: the middle half of the ratings; line: median; diamond: mean; whiskers: up to 1.5 box lengths; "
        "dots: stars beyond."
    )


# -- time --------------------------------------------------------------------------------------------------------------


def by_decade(files: RunFiles) -> tuple[pd.DataFrame, pd.Series]:
    """Movies by genre and decade, those of unknown year left out.

    Returns:
        Which share of a decade's movies has a genre [genres, decades], and how many movies a decade has [decades]. A
        decade is named by its first year; the first one may stand for all that are older, too.
    """
    shown, years = _shown(files), files.movies[YEAR].to_numpy()
    known = years > 0
    decades = years[known] // 10 * 10
    different = np.unique(decades)
    decades = np.maximum(decades, different[-MOST_DECADES:][0])
    movies = pd.Series(1, index=decades).groupby(level=0).sum()
    genres = shown[known].groupby(decades).sum()
    return genres.div(movies, axis=0).T, movies


def draw_decades(files: RunFiles) -> Figure:
    shares, movies = by_decade(files)
    older = (files.movies[YEAR].between(1, movies.index[0] - 1)).any()
    made, (axis,) = figure(height=1.2 + 0.27 * len(shares))
    axis.pcolormesh(shares.to_numpy(), cmap=SHADES, vmin=0, vmax=float(shares.to_numpy().max()))
    for (row, column), share in np.ndenumerate(shares.to_numpy()):
        axis.text(column + 0.5, row + 0.5, _whole(share), ha="center", va="center", fontsize=9.5)
    names = [f"{decade}s" for decade in shares]
    names[0] = f"to {shares.columns[0] + 9}" if older else names[0]
    names = [f"{name}: {count:,}" for name, count in zip(names, movies)]
    axis.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
    axis.set_yticks(np.arange(len(shares)) + 0.5, shares.index)
    axis.tick_params(length=0)
    axis.invert_yaxis()
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set(xlabel="decade of release: number of movies")
    return made


def _whole(share: float) -> str:
    """A share in per cent without its sign; blank for 0, and never 0 for less than half a per cent."""
    return "" if not share else "<1" if share < 0.005 else f"{100 * share:.0f}"


def text_of_decades(files: RunFiles) -> str:
    shares, movies = by_decade(files)
    unknown = len(files.movies) - int(movies.sum())
    busiest = movies.idxmax()
    top = shares[busiest].idxmax()
    return (
        f"Percentage of each decade's movies that have a genre; a movie may have several. Most movies are of the "
        f"{busiest}s ({movies[busiest]:,}), of which {percent(shares[busiest][top])} are {top}. "
        f"{f'{unknown:,}' if unknown else 'No'} {'movies are' if unknown > 1 else 'movie is'} of unknown year"
        f"{' and left out' if unknown else ''}."
    )


def no_decades(files: RunFiles) -> str:
    return lacking(files) or ("" if (files.movies[YEAR] > 0).any() else "No movie of this dataset has a known year.")


def no_boxes(files: RunFiles) -> str:
    rated = files.stars.sum(axis=1) > 0
    return lacking(files) or ("" if _shown(files)[rated].to_numpy().any() else "No movie that was rated has a genre.")


add(
    Picture(
        name="genre-counts",
        section=DATA,
        title="Movies and ratings by genre",
        draw=draw_counts,
        text=text_of_counts,
        lacking=lacking,
    ),
    20,
)
add(
    Picture(
        name="stars-by-genre",
        section=DATA,
        title="Stars by genre",
        draw=draw_boxes,
        text=text_of_boxes,
        lacking=no_boxes,
    ),
    21,
)
add(
    Picture(
        name="genre-by-decade",
        section=DATA,
        title="Genres by decade of release",
        draw=draw_decades,
        text=text_of_decades,
        lacking=no_decades,
    ),
    22,
)

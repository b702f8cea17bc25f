"""The ratings: how many of which stars, of whom, of what and when."""

from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from core.columns import RAW_USER, TIMESTAMP, TITLE, YEAR
from report.files import RunFiles
from report.picture import DATA, Picture, add
from report.style import (
    BLUE,
    GREY,
    SECONDS_A_DAY,
    VERMILION,
    count_axis,
    counted,
    figure,
    literal,
    percent,
    percent_axis,
)
from workflows.splits.base import LIKED_ABOVE

MOST = 5.0  # stars
TOP = 10  # movies
TAIL = (4, 5)  # the share of ratings that the long tail's point stands for: 80 %
POINTS = 400  # of a drawn curve, however many movies there are
LONGEST_SPAN = 48  # months that are shown one by one
LABELS = 7  # on an axis of time


# -- stars -------------------------------------------------------------------------------------------------------------


def draw_histogram(files: RunFiles) -> Figure:
    counts = files.stars.sum()
    values = counts.index.to_numpy()
    step = 1.0 if (values % 1 == 0).all() else 0.5
    made, (axis,) = figure()
    for chosen, color, label in (
        (values > LIKED_ABOVE, BLUE, f"liked: more than {LIKED_ABOVE:g} stars"),
        (values <= LIKED_ABOVE, GREY, f"{LIKED_ABOVE:g} stars or fewer"),
    ):
        bars = axis.bar(values[chosen], counts[chosen], 0.8 * step, color=color, label=label)
        axis.bar_label(bars, [f"{100 * count / counts.sum():.0f} %" for count in counts[chosen]], padding=2)
    axis.set_xticks(np.arange(min(values.min(), 1.0), max(values.max(), MOST) + step / 2, step))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="stars", ylabel="ratings")
    axis.margins(y=0.1)
    axis.grid(False, axis="x")
    count_axis(axis.yaxis)
    made.legend(loc="outside upper center", ncols=2)
    return made


def text_of_histogram(files: RunFiles) -> str:
    counts = files.stars.sum()
    ratings, values = int(counts.sum()), counts.index.to_numpy()
    liked = counts[values > LIKED_ABOVE].sum() / ratings
    return (
        f"{counted(ratings, 'rating')} by {counted(files.ratings[RAW_USER].nunique(), 'user')} of "
        f"{counted(int((files.stars.sum(axis=1) > 0).sum()), 'movie')}: {counts.idxmax():g} stars are given most often "
        f"({percent(counts.max() / ratings)}), the mean is {counts @ values / ratings:.2f}, and {percent(liked)} are "
        f"above {LIKED_ABOVE:g} stars, which random-split calls liked."
    )


# -- users -------------------------------------------------------------------------------------------------------------


def _ratings_per_user(files: RunFiles) -> np.ndarray:
    """int64 [users], the most active first."""
    code, _ = pd.factorize(files.ratings[RAW_USER].to_numpy())
    return np.sort(np.bincount(code))[::-1]


def edges_of(lowest: int, highest: int) -> np.ndarray:
    """Whole numbers that part counts into bins of about equal width on a logarithmic scale, the last one excluded."""
    ratio = 2.0 if lowest < 8 else 1.25  # small whole numbers cannot be parted finely
    steps = int(np.ceil(np.log((highest + 1) / lowest) / np.log(ratio))) + 1
    edges = np.unique(np.ceil(lowest * ratio ** np.arange(steps)).astype(np.int64))
    return edges[: np.searchsorted(edges, highest, side="right") + 1]


def draw_per_user(files: RunFiles) -> Figure:
    counts = _ratings_per_user(files)
    edges = edges_of(counts.min(), counts.max())
    users, _ = np.histogram(counts, edges)
    made, (axis,) = figure()
    axis.bar(edges[:-1], users, 0.95 * np.diff(edges), align="edge", color=BLUE)
    median = np.median(counts)
    axis.axvline(median, color=VERMILION, linestyle="--", linewidth=1.8, label=f"median: {median:,.0f}")
    axis.set_xscale("log")
    scale = np.multiply.outer(10 ** np.arange(8), [1, 2, 5]).ravel()
    axis.set_xticks(scale[(scale >= edges[0]) & (scale <= edges[-1])])
    axis.minorticks_off()
    axis.set(xlabel="ratings of a user (logarithmic scale)", ylabel="users", xlim=(edges[0] / 1.05, edges[-1] * 1.05))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.grid(False, axis="x")
    count_axis(axis.yaxis)
    axis.legend()
    return made


def text_of_per_user(files: RunFiles) -> str:
    counts = _ratings_per_user(files)
    if len(counts) == 1:
        return f"1 user gave {'the only rating' if counts[0] == 1 else f'all {counts[0]:,} ratings'}."
    tenth = -(-len(counts) // 10)
    return (
        f"{counted(len(counts), 'user')} gave {counts.min():,} to {counts.max():,} ratings each, "
        f"{np.median(counts):,.0f} at the median and {counts.mean():,.0f} on average. The most active tenth gave "
        f"{percent(counts[:tenth].sum() / counts.sum())} of all ratings."
    )


# -- time --------------------------------------------------------------------------------------------------------------


def activity(files: RunFiles) -> pd.Series:
    """Ratings per month, or per year where there are more than `LONGEST_SPAN` months, those without any included."""
    day = files.ratings[TIMESTAMP].to_numpy() // SECONDS_A_DAY
    first = day.min()
    per_day = np.bincount(day - first)
    days = (first + np.arange(len(per_day))).astype("datetime64[D]")
    months = np.ptp(days[[0, -1]].astype("datetime64[M]").astype(np.int64)) + 1
    unit = "M" if months <= LONGEST_SPAN else "Y"
    period = days.astype(f"datetime64[{unit}]").astype(np.int64)
    counts = np.bincount(period - period[0], per_day).astype(np.int64)
    return pd.Series(counts, index=pd.period_range(pd.Period(ordinal=period[0], freq=unit), periods=len(counts)))


def draw_activity(files: RunFiles) -> Figure:
    counts = activity(files)
    yearly = counts.index.freqstr.startswith("A")
    made, (axis,) = figure()
    axis.bar(np.arange(len(counts)), counts, 0.85, color=BLUE)
    ticks = np.arange(0, len(counts), -(-len(counts) // LABELS))
    axis.set_xticks(ticks, [period.strftime("%Y" if yearly else "%b\n%Y") for period in counts.index[ticks]])
    axis.set(xlabel="year" if yearly else "month", ylabel="ratings", xlim=(-0.7, max(len(counts), 2) - 0.3))
    axis.grid(False, axis="x")
    count_axis(axis.yaxis)
    return made


def text_of_activity(files: RunFiles) -> str:
    counts, times = activity(files), files.ratings[TIMESTAMP]
    first, last = (pd.Timestamp(second, unit="s") for second in (times.min(), times.max()))
    yearly = counts.index.freqstr.startswith("A")
    days = [f"{day.day} {day.month_name()} {day.year}" for day in (first, last)]
    most = counts.idxmax()
    return (
        f"Ratings per {'year' if yearly else 'month'} (UTC), from {days[0]} to {days[1]}: most in "
        f"{most.strftime('%Y' if yearly else '%B %Y')}, {counts.max():,} ({percent(counts.max() / counts.sum())}). "
        f"The first and the last {'year' if yearly else 'month'} may be incomplete."
    )


# -- movies ------------------------------------------------------------------------------------------------------------


def tail(files: RunFiles) -> tuple[np.ndarray, int]:
    """How the ratings add up over the movies, the most rated first.

    Returns:
        int64 [movies], the ratings of the first 1, 2, ... movies; and how many movies have 80 % of the ratings.
    """
    total = np.cumsum(np.sort(files.stars.sum(axis=1).to_numpy())[::-1])
    return total, int(np.searchsorted(total * TAIL[1], total[-1] * TAIL[0])) + 1


def draw_tail(files: RunFiles) -> Figure:
    total, point = tail(files)
    movies = len(total)
    chosen = np.unique(np.append(np.linspace(0, movies, min(POINTS, movies) + 1).astype(np.int64), point))
    made, (axis,) = figure()
    axis.plot(chosen / movies, np.append(0, total)[chosen] / total[-1], color=BLUE, linewidth=2)
    axis.fill_between(chosen / movies, np.append(0, total)[chosen] / total[-1], color=BLUE, alpha=0.12, linewidth=0)
    x, y = point / movies, total[point - 1] / total[-1]
    axis.plot([0, x, x], [y, y, 0], color=VERMILION, linestyle="--", linewidth=1.2)
    axis.plot([x], [y], "o", color=VERMILION, markersize=7)
    shift, side = (8, "left") if x <= 0.5 else (-8, "right")
    note = f"{counted(point, 'movie')} ({percent(x)})\n{'has' if point == 1 else 'have'} {percent(y)} of the ratings"
    axis.annotate(note, (x, 0), (shift, 8), textcoords="offset points", ha=side, va="bottom")  # below the curve
    axis.set(xlabel="movies, the most rated first", ylabel="share of the ratings", xlim=(0, 1), ylim=(0, 1.02))
    percent_axis(axis.xaxis)
    percent_axis(axis.yaxis)
    return made


def text_of_tail(files: RunFiles) -> str:
    total, point = tail(files)
    never = int((files.stars.sum(axis=1) == 0).sum())
    unrated = (
        f"{never:,} of them {'has' if never == 1 else 'have'} no rating at all" if never else "Every movie has a rating"
    )
    return (
        f"{percent(TAIL[0] / TAIL[1])} of the ratings fall on the {counted(point, 'movie')} that "
        f"{'is' if point == 1 else 'are'} rated most: {percent(point / len(total))} of the "
        f"{counted(len(total), 'movie')}. {unrated}."
    )


def favourites(files: RunFiles) -> pd.DataFrame:
    """The movies with most five-star ratings, at most ten: `title` with the year, `five`, `share` of their ratings."""
    five = files.stars.get(MOST, pd.Series(0, index=files.stars.index))
    chosen = five[five > 0].sort_values(ascending=False, kind="stable").index[:TOP]
    movies = files.movies.loc[chosen]
    title = [f"{title} ({year})" if year else title for title, year in zip(movies[TITLE], movies[YEAR])]
    share = five[chosen] / files.stars.loc[chosen].sum(axis=1)
    return pd.DataFrame({"title": title, "five": five[chosen], "share": share})


def draw_favourites(files: RunFiles) -> Figure:
    rows = favourites(files)
    made, (axis,) = figure(height=0.9 + 0.4 * len(rows))
    bars = axis.barh(np.arange(len(rows)), rows["five"], 0.7, color=BLUE)
    labels = [f"{count:,} ({100 * share:.0f} %)" for count, share in zip(rows["five"], rows["share"])]
    axis.bar_label(bars, labels, padding=3)
    titles = ["\n".join(wrap(title, 24, max_lines=2, placeholder="…")) for title in rows["title"]]
    axis.set_yticks(np.arange(len(rows)), titles)
    literal(axis.get_yticklabels())
    axis.invert_yaxis()
    axis.set(xlabel="five-star ratings (share of the movie's own)", xlim=(0, 1.38 * rows["five"].max()))
    axis.grid(False, axis="y")
    count_axis(axis.xaxis, 5)
    return made


def text_of_favourites(files: RunFiles) -> str:
    rows = favourites(files)
    first = rows.iloc[0]
    which = "The movie" if len(rows) == 1 else f"The {len(rows)} movies"
    most = "one" if first["five"] == 1 else f"{first['five']:,}"
    return (
        f"{which} with the most five-star ratings. {first['title']} comes first with {most}, "
        f"{percent(first['share'])} of its own ratings."
    )


def lacking(files: RunFiles) -> str:
    return "" if len(files.ratings) and len(files.movies) else "This dataset has no ratings."


def no_favourites(files: RunFiles) -> str:
    return "" if MOST in files.stars else "No rating has five stars."


for place, (name, title, draw, text) in enumerate(
    (
        ("rating-histogram", "How many stars users give", draw_histogram, text_of_histogram),
        ("ratings-per-user", "Ratings per user", draw_per_user, text_of_per_user),
        ("activity", "Ratings over time", draw_activity, text_of_activity),
        ("long-tail", "The long tail: how ratings spread over movies", draw_tail, text_of_tail),
    )
):
    add(Picture(name=name, section=DATA, title=title, draw=draw, text=text, lacking=lacking), 10 + place)
add(
    Picture(
        name="five-stars",
        section=DATA,
        title="The movies with the most five-star ratings",
        draw=draw_favourites,
        text=text_of_favourites,
        lacking=no_favourites,
    ),
    14,
)

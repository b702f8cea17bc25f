"""How far the compared networks' ten best movies agree, and both lists of one user."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.columns import RAW_MOVIE, RAW_USER, TITLE, YEAR
from models.evaluation.coverage import EMPTY
from models.evaluation.judgement import PerUser
from models.evaluation.kept import FULL_CATALOGUE, LISTS
from report.calculations.lists import in_common, jaccard
from report.drawing import SMALL
from report.files import RunFiles
from report.judged import (
    RANKING,
    REMEMBERED,
    Kind,
    add_for_each_protocol,
    compared_among,
    models_with,
    refuse_other_questions,
    without_kept,
)
from report.pictures.variety import lists_kept
from report.slicings import ratings_of
from report.style import (
    GREY,
    INK,
    color_of,
    figure,
    listed,
    literal,
    marker_of,
    percent,
    percent_axis,
    short_of,
    title_of,
)
from report.words import METHOD, asked, with_interval

ACROSS = 2  # lists
LETTERS = 31  # of a title beside its place


def networks(files: RunFiles, protocol: str) -> list[str]:
    """The compared networks whose lists were kept."""
    return compared_among(models_with(files, protocol, LISTS))


# -- overlap -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overlap:
    """How far two models' lists agree.

    Attributes:
        common: int64 [users], how many movies each user's two lists share.
        jaccard: its mean over users.
        ci95: the 95 % interval of that, by bootstrap over users; None with fewer than two.
    """

    common: np.ndarray
    jaccard: float
    ci95: list[float] | None


@lru_cache(maxsize=REMEMBERED)
def overlap(files: RunFiles, protocol: str, one: str, other: str) -> Overlap:
    """The overlap of two models' lists."""
    refuse_other_questions(files, protocol, FULL_CATALOGUE, (one, other))
    lists = [lists_kept(files, protocol, model).movie for model in (one, other)]
    each = PerUser({"jaccard": jaccard(*lists)})
    ci95 = each.intervals(files.result(protocol, one).seed)["jaccard"]
    return Overlap(in_common(*lists), float(each.values["jaccard"].mean()), ci95)


def draw_overlap(files: RunFiles, protocol: str) -> Figure:
    """For every two compared networks: how many users have so many movies in both lists."""
    pairs = list(combinations(networks(files, protocol), 2))
    places = lists_kept(files, protocol, pairs[0][0]).movie.shape[1]
    made, axes = figure(len(pairs), 1, height=0.2 + 2.6 * len(pairs))
    for panel, (one, other) in zip(axes, pairs):
        found = overlap(files, protocol, one, other)
        share = np.bincount(found.common, minlength=places + 1) / len(found.common)
        panel.bar(range(len(share)), share, width=0.8, color=GREY)
        for common, part in enumerate(share):
            if part:
                where: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": SMALL}
                words = percent(part) if part < 0.005 else f"{100 * part:.0f} %"
                panel.annotate(words, (common, part), (0, 2), **where)
        labels = [f"{common}\n{common / (2 * places - common):.2f}" for common in range(len(share))]
        panel.set_xticks(range(len(share)), labels)
        panel.set(title=f"{title_of(protocol, one)} and {title_of(protocol, other)}", ylabel="share of users")
        panel.set_xlabel(f"movies in both lists of {places}, and the Jaccard index")
        panel.grid(visible=False, axis="x")
        panel.margins(y=0.12)
        percent_axis(panel.yaxis)
    return made


def text_overlap(files: RunFiles, protocol: str) -> str:
    """The mean overlap of every two compared networks."""
    parts = []
    for one, other in combinations(networks(files, protocol), 2):
        found = overlap(files, protocol, one, other)
        parts.append(
            f"Of the ten best, {title_of(protocol, one)} and {title_of(protocol, other)} share "
            f"{found.common.mean():.1f} movies on average, Jaccard {with_interval(found.jaccard, found.ci95)}; "
            f"{percent(float((found.common == 0).mean()))} of the users have no movie in both lists."
        )
    result = files.result(protocol, networks(files, protocol)[0])
    return f"{' '.join(parts)} {METHOD}; {asked(result, 'full_catalogue_users')}."


def lacking(files: RunFiles, protocol: str) -> str:
    """Says so where there are no two lists; else empty."""
    for part in (LISTS, FULL_CATALOGUE):
        if reason := without_kept(files, protocol, part, networks=2):
            return reason
    kept = files.kept(protocol, networks(files, protocol)[0], LISTS)
    return "" if len(kept) else f"{protocol} asks about no user who has enough unseen movies for a list."


add_for_each_protocol(
    Kind(
        name="overlap",
        title="Overlap of the ten best",
        draw=draw_overlap,
        text=text_overlap,
        lacking=lacking,
        task=RANKING,
    ),
    place=70,
)


# -- one user ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """One user's lists.

    Attributes:
        user: their id.
        ratings: how many they gave.
        held_out: the movie that was to be found.
        rank: where each model had it, from 0, among all movies.
        lists: each model's movies, the best first.
    """

    user: int
    ratings: int
    held_out: int
    rank: dict[str, int]
    lists: dict[str, list[int]]


@lru_cache(maxsize=REMEMBERED)
def example(files: RunFiles, protocol: str) -> Example:
    """The user with the median number of ratings among those that were asked about; of several the lowest id."""
    models = networks(files, protocol)
    refuse_other_questions(files, protocol, FULL_CATALOGUE, tuple(models))
    asked_about = files.kept(protocol, models[0], FULL_CATALOGUE)
    users = np.sort(asked_about["user_id"].to_numpy())
    counts = ratings_of(files, RAW_USER).reindex(users).to_numpy()
    user = int(users[np.argsort(counts, kind="stable")[(len(users) - 1) // 2]])
    user = int(users[counts == counts[users == user]][0])
    tables = {model: files.kept(protocol, model, FULL_CATALOGUE).set_index("user_id").loc[user] for model in models}
    chosen = {model: lists_kept(files, protocol, model) for model in models}
    found = {model: one.movie[np.searchsorted(one.user, user)] for model, one in chosen.items()}
    return Example(
        user,
        int(counts[users == user][0]),
        int(tables[models[0]]["movie_id"]),
        {model: int(table["rank"]) for model, table in tables.items()},
        {model: [int(movie) for movie in movies if movie != EMPTY] for model, movies in found.items()},
    )


def name_of(files: RunFiles, movie: int, letters: int = 1_000) -> str:
    """A movie's title and year, the title cut to so many letters."""
    row = files.movies[files.movies[RAW_MOVIE] == movie].iloc[0]
    year = f" ({row[YEAR]})" if row[YEAR] else ""
    space = letters - len(year)
    title = row[TITLE]
    return (title if len(title) <= space else title[: space - 1].rstrip(" ,(") + "\u2026") + year


def draw_example(files: RunFiles, protocol: str) -> Figure:
    """The lists, two beside each other: bold is in several, and what the user watched next is framed."""
    found = example(files, protocol)
    longest = max(map(len, found.lists.values()))
    down = -(-len(found.lists) // ACROSS)
    made, axes = figure(down, min(ACROSS, len(found.lists)), height=0.4 + down * (0.7 + 0.27 * longest))
    for left_over in axes[len(found.lists) :]:
        left_over.remove()
    for panel, (model, movies) in zip(axes, found.lists.items()):
        others = [set(other) for name, other in found.lists.items() if name != model]
        panel.set_axis_off()
        panel.set(xlim=(0, 1), ylim=(longest - 0.4, -1.8))
        panel.plot([0.02], [-1.2], marker_of(model), color=color_of(model))
        panel.text(0.07, -1.2, short_of(protocol, model), va="center", weight="bold")
        place_of_it = f"at place {found.rank[model] + 1:,}"
        panel.text(0.98, -1.2, place_of_it, va="center", ha="right", color=GREY, fontsize=SMALL)
        panel.axhline(-0.65, color=color_of(model), linewidth=1.5)
        for place, movie in enumerate(movies):
            name, in_both = name_of(files, movie, LETTERS), any(movie in one for one in others)
            _entry(panel, place, name, in_both, movie == found.held_out, model)
    title = made.suptitle(f"Held-out movie of user {found.user}: {name_of(files, found.held_out, 45)}", fontsize=10.5)
    literal([title])
    return made


def _entry(panel: Axes, place: int, name: str, in_both: bool, is_hit: bool, model: str) -> None:
    panel.text(0.05, place, f"{place + 1}", ha="right", va="center", color=GREY, fontsize=SMALL)
    frame = {"boxstyle": "round,pad=0.2", "facecolor": "none", "edgecolor": color_of(model), "linewidth": 1.5}
    made = panel.text(
        0.08,
        place,
        name,
        va="center",
        fontsize=SMALL,
        weight="bold" if in_both else "normal",
        color=INK,
        bbox=frame if is_hit else None,
    )
    literal([made])


def text_example(files: RunFiles, protocol: str) -> str:
    """Who was chosen, and where each model had the movie that was watched next."""
    found = example(files, protocol)
    models = list(found.lists)
    ranks = listed([f"{title_of(protocol, model)} {found.rank[model] + 1:,}" for model in models])
    both = set.intersection(*map(set, found.lists.values()))
    which = "both lists (bold)." if len(models) == 2 else "all lists; bold: in more than one."
    shared = f"{len(both)} of ten movies {'is' if len(both) == 1 else 'are'} in {which}"
    return (
        f"User {found.user}, who has the median number of ratings ({found.ratings:,}) of those asked about, watched "
        f"{name_of(files, found.held_out)} next, which is held out; its place: {ranks}. {shared} "
        "The held-out movie is framed where it is in a list; "
        f"{asked(files.result(protocol, models[0]), 'full_catalogue_users')}."
    )


add_for_each_protocol(
    Kind(
        name="one-user",
        title="One user's lists",
        draw=draw_example,
        text=text_example,
        lacking=lacking,
        task=RANKING,
    ),
    place=80,
)

"""What the ten best movies of each model are like: how many different ones, how well known, how much alike."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib.figure import Figure

from core.columns import GENRES, RAW_MOVIE, RAW_USER
from models.evaluation.judgement import PerUser
from models.evaluation.kept import LISTS
from report.calculations.lists import EMPTY, Lists, coverage, diversity, lists_of, novelty
from report.drawing import SMALL, beside, dot, rows
from report.files import RunFiles
from report.judged import RANKING, REMEMBERED, Kind, add_for_each_protocol, compared_among, models_with, without_kept
from report.slicings import ratings_of
from report.style import GREY, figure, listed, percent_axis, title_of
from report.words import asked, with_interval

PANELS = {
    "coverage": ("Coverage", "share of movies"),
    "novelty": ("Novelty", "bits"),
    "diversity": ("Diversity", "distance of genres"),
}
DECIMALS = {"coverage": 3, "novelty": 2, "diversity": 3}


@dataclass(frozen=True)
class Variety:
    """What a model's lists are like: `coverage`, `novelty` and `diversity`.

    Attributes:
        values, ci95: by name; None where there is none.
    """

    values: dict[str, float | None]
    ci95: dict[str, list[float] | None]


@lru_cache(maxsize=REMEMBERED)
def lists_kept(files: RunFiles, protocol: str, model: str) -> Lists:
    """A model's lists."""
    return lists_of(files.kept(protocol, model, LISTS))


@lru_cache(maxsize=REMEMBERED)
def variety_of(files: RunFiles, protocol: str, model: str) -> Variety:
    """What a model's lists are like."""
    movie = lists_kept(files, protocol, model).movie
    counts = ratings_of(files, RAW_MOVIE)
    listed_movies = np.setdiff1d(movie, [EMPTY])
    users = files.ratings[RAW_USER].nunique()
    share = dict(zip(listed_movies.tolist(), (counts.reindex(listed_movies).to_numpy() / users).tolist()))
    names = files.movies.set_index(RAW_MOVIE)[GENRES].reindex(listed_movies)
    genres = {one: frozenset(found) for one, found in zip(listed_movies.tolist(), names)}
    covered, interval = coverage(movie, len(counts))
    spread = diversity(movie, genres)
    parts = [PerUser({"novelty": novelty(movie, share)}), PerUser({"diversity": spread[~np.isnan(spread)]})]
    seed = files.result(protocol, model).seed
    values: dict[str, float | None] = {"coverage": covered}
    ci95: dict[str, list[float] | None] = {"coverage": list(interval) if interval else None}
    for part in parts:
        values |= part.means()
        ci95 |= part.intervals(seed)
    return Variety(values, ci95)


def draw(files: RunFiles, protocol: str) -> Figure:
    """A panel for each of the three, a row for each model."""
    models = models_with(files, protocol, LISTS)
    made, axes = figure(1, len(PANELS), height=0.9 + 0.32 * len(models))
    for place, (panel, (name, (title, unit))) in enumerate(zip(axes, PANELS.items())):
        rows(panel, [title_of(protocol, model) for model in models], labelled=place == 0, ticks=2)
        panel.set_title(title)
        panel.set_xlabel(unit, color=GREY, fontsize=SMALL)
        for row, model in enumerate(models):
            found = variety_of(files, protocol, model)
            value = found.values[name]
            dot(panel, row, value, found.ci95[name], model)
            if value is not None:
                beside(
                    panel, row, value, f"{100 * value:.1f} %" if name == "coverage" else f"{value:.{DECIMALS[name]}f}"
                )
        panel.margins(x=0.2)
    percent_axis(axes[0].xaxis)
    return made


def text(files: RunFiles, protocol: str) -> str:
    """The three of the compared networks, and what they mean."""
    models = models_with(files, protocol, LISTS)
    parts = []
    for model in compared_among(models) or models:
        found = variety_of(files, protocol, model)
        shown = [with_interval(found.values[name], found.ci95[name], DECIMALS[name]) for name in PANELS]
        parts.append(f"{title_of(protocol, model)} covers {shown[0]}, novelty {shown[1]}, diversity {shown[2]}")
    result = files.result(protocol, models[0])
    return (
        f"{listed(parts)}. Of the ten best movies: the share of the catalogue that is in anyone's list (interval by "
        "jackknife over users), the mean of -log2(share of users who rated a movie), and the mean of 1 - Jaccard of "
        f"two movies' genres (intervals by bootstrap over users); {asked(result, 'full_catalogue_users')}."
    )


def lacking(files: RunFiles, protocol: str) -> str:
    """Says so where no lists were kept; else empty."""
    if reason := without_kept(files, protocol, LISTS):
        return reason
    kept = files.kept(protocol, models_with(files, protocol, LISTS)[0], LISTS)
    return "" if len(kept) else f"{protocol} asks about no user who has enough unseen movies for a list."


add_for_each_protocol(
    Kind(name="variety", title="Variety of the ten best", draw=draw, text=text, lacking=lacking, task=RANKING), place=60
)

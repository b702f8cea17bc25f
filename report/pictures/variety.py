"""What the ten best movies of each model are like: how many different ones, how well known, how much alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from core.columns import GENRES, RAW_MOVIE, RAW_USER
from models.evaluation.coverage import EMPTY, coverage
from models.evaluation.judgement import PerUser
from models.evaluation.kept import LISTS
from report.calculations.lists import Lists, diversity, lists_of, novelty
from report.drawing import SMALL, beside, dot, rows
from report.files import RunFiles
from report.judged import RANKING, REMEMBERED, Kind, add_for_each_protocol, compared_among, models_with, without_kept
from report.slicings import ratings_of
from report.style import GREY, figure, short_of, title_of
from report.words import asked, with_interval

PANELS = {
    "coverage": ("Coverage", "% of movies"),
    "novelty": ("Novelty", "bits"),
    "diversity": ("Diversity", "1 \u2212 Jaccard of genres"),
}
DECIMALS = {"novelty": 2, "diversity": 3}


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
        rows(panel, [short_of(protocol, model) for model in models], labelled=place == 0)
        panel.set_title(title)
        panel.set_xlabel(unit, color=GREY, fontsize=SMALL)
        for row, model in enumerate(models):
            found = variety_of(files, protocol, model)
            value = found.values[name]
            dot(panel, row, value, found.ci95[name], model)
            if value is not None:
                words = f"{100 * value:.1f} %" if name == "coverage" else f"{value:.{DECIMALS[name]}f}"
                beside(panel, row, value, words)
        panel.margins(x=0.2)
    axes[0].xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))  # little room for signs
    return made


def text(files: RunFiles, protocol: str) -> str:
    """The three of the compared networks, and what they mean."""
    models = models_with(files, protocol, LISTS)
    parts = []
    for model in compared_among(models) or models:
        found = variety_of(files, protocol, model)
        shown = [
            with_interval(found.values[name], found.ci95[name], DECIMALS[name]) for name in ("novelty", "diversity")
        ]
        parts.append(
            f"{title_of(protocol, model)}: coverage {_percentages(found.values['coverage'], found.ci95['coverage'])}, "
            f"novelty {shown[0]} bits, diversity {shown[1]}"
        )
    result = files.result(protocol, models[0])
    return (
        f"{'. '.join(parts)}. Coverage: the share of the catalogue that is in at least one user's ten best (95 % "
        "interval by jackknife over users). Novelty: the mean of \u2212log\u2082 of the share of users who rated a "
        "movie. Diversity: the mean of 1 \u2212 Jaccard index of two movies' genres. Both have 95 % intervals by "
        f"bootstrap over users; {asked(result, 'full_catalogue_users')}."
    )


def _percentages(value: float | None, pair: Sequence[float] | None) -> str:
    """A share and its interval as the picture has them."""
    if value is None:
        return "undefined"
    between = f" ({100 * pair[0]:.1f} % to {100 * pair[1]:.1f} %)" if pair else ""
    return f"{100 * value:.1f} %{between}"


def lacking(files: RunFiles, protocol: str) -> str:
    """Says so where no lists were kept; else empty."""
    if reason := without_kept(files, protocol, LISTS):
        return reason
    kept = files.kept(protocol, models_with(files, protocol, LISTS)[0], LISTS)
    return "" if len(kept) else f"{protocol} asks about no user who has enough unseen movies for a list."


add_for_each_protocol(
    Kind(name="variety", title="Variety of the ten best", draw=draw, text=text, lacking=lacking, task=RANKING), place=60
)

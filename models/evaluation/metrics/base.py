"""What a metric is: a function with a name, a direction, and a title.

A metric belongs to a task: `ranking` (where does the held-out movie stand among others?), `classification` (does a
score separate rows with label 1 from those with 0?) or `rating` (how far are the predicted stars off?). A protocol is
judged by every metric of its task.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.registry import LAST, Registry

METRICS: Registry["Metric"] = Registry("metric", "models.evaluation.metrics")  # by task/name
TASKS = ("ranking", "classification", "rating")
FULL = "full_"  # before the name of a ranking metric over the whole catalogue
KNOWN = "known_"  # before the name of a figure without the people who rated nothing before the test


@dataclass(frozen=True)
class Ranking:
    """Held-out movies beside others, a row per user.

    Attributes:
        rank: int64 [users], how many of the others score at least as high as the held-out movie.
        positive: float [users], the held-out movie's score.
        others: float [users, n], the others' scores.
        valid: bool [users, n], which of the others count.
    """

    rank: np.ndarray
    positive: np.ndarray
    others: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class RowStatistic:
    """A metric of rows, taken apart so that it can be resampled by users.

    Attributes:
        sums: float64 [rows, k], what is summed up over the rows.
        of_sums: float64 [k], the sums over the rows of a sample, to the metric but for `offset`.
        offset: added to that.
        undefined: why the metric has no value for these rows, as the end of a sentence; empty where it has one.
    """

    sums: np.ndarray
    of_sums: Callable[[np.ndarray], float]
    offset: float = 0.0
    undefined: str = ""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of some task.

    Attributes:
        task: `ranking`, `classification` or `rating`.
        title: how tables call it.
        higher_is_better: its direction.
        in_tables: whether the comparison tables have a column for it: of a ranking metric, among sampled movies.
        per_user: of a ranking metric: each user's value, float64 [users].
        full_catalogue: of a ranking metric: whether it is also taken over all movies, as `full_<name>`, which has a
            column of its own.
        per_row: of any other metric: of labels (or stars) [rows] and float scores [rows].
        needs_probability: whether it means something for probabilities only.
    """

    task: str
    title: str
    higher_is_better: bool = True
    in_tables: bool = True
    per_user: Callable[[Ranking], np.ndarray] | None = None
    full_catalogue: bool = False
    per_row: Callable[[np.ndarray, np.ndarray], RowStatistic] | None = None
    needs_probability: bool = False

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.higher_is_better else -1


def add(name: str, metric: Metric, position: int = LAST) -> Metric:
    """Registers a metric under its task and name.

    Raises:
        ValueError: it has not the one function that its task needs.
    """
    if (metric.per_user is None) == (metric.per_row is None) or (metric.task == "ranking") != bool(metric.per_user):
        raise ValueError(f"{name}: a ranking metric needs per_user, any other per_row")
    return METRICS.add(f"{metric.task}/{name}", metric, position)


def metrics_of(task: str) -> dict[str, Metric]:
    """The metrics of a task by name, in the order of the tables."""
    return {key.partition("/")[2]: metric for key, metric in METRICS.items() if metric.task == task}


def plain_name(name: str) -> str:
    """The name of the metric that a figure is of: `hr@10` of `hr@10`, `full_hr@10` and `known_full_hr@10`."""
    return name.removeprefix(KNOWN).removeprefix(FULL)


def metric_of(task: str, name: str) -> Metric:
    """A metric of a task by the name of a figure: `full_hr@10` is `hr@10` over the whole catalogue."""
    return metrics_of(task)[plain_name(name)]


def columns_of(task: str) -> list[tuple[str, str]]:
    """The tables' columns for a task: heading and name of a metric, those over the whole catalogue first.

    Metrics among sampled movies can order models wrongly (Krichene and Rendle, "On Sampled Metrics for Item
    Recommendation", 2020), so that those over all movies are the headline.
    """
    metrics = metrics_of(task)
    over_all = [FULL + name for name, one in metrics.items() if one.full_catalogue]
    others = [name for name, one in metrics.items() if one.in_tables]
    return [(heading(task, name), name) for name in (*over_all, *others)]


def headings_of(task: str) -> dict[str, str]:
    """Every figure of a task's results by name: its heading in one line, those over the whole catalogue first."""
    metrics = metrics_of(task)
    over_all = [FULL + name for name, one in metrics.items() if one.full_catalogue]
    names = (*over_all, *metrics, *(KNOWN + name for name in over_all))
    return {name: heading(task, name).replace("\n", ", ") for name in names}


def heading(task: str, name: str) -> str:
    """A metric's heading, in two lines where it says what movies are ranked among.

    >>> heading("ranking", "full_hr@10").split("\\n"), heading("rating", "rmse")
    (['HR@10', 'all movies'], 'RMSE')
    """
    title = metric_of(task, name).title
    if task != "ranking":
        return title
    among = "sampled" if name == plain_name(name) else "all movies"
    return f"{title}\n{among}" + ("\nknown people" if name.startswith(KNOWN) else "")


def spoken(task: str, name: str) -> str:
    """What sentences call a metric: `NDCG@10 among all movies`."""
    title = metric_of(task, name).title
    if task != "ranking":
        return title
    among = "sampled" if name == plain_name(name) else "all"
    return f"{title} among {among} movies" + (", known people" if name.startswith(KNOWN) else "")


def refuse_other_shapes(label: np.ndarray, score: np.ndarray) -> None:
    """Labels (or stars) and scores must be of the same rows: numpy would stretch a single value.

    Raises:
        ValueError: they have different shapes.
    """
    if label.shape != score.shape:
        raise ValueError(f"the shapes {label.shape} and {score.shape} differ")


def mean_of(values: np.ndarray) -> RowStatistic:
    """A metric that is the mean of float64 [rows] values."""
    return RowStatistic(np.stack([np.ones(len(values)), values], axis=1), lambda sums: sums[1] / sums[0])

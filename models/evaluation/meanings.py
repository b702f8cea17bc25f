"""What metrics and protocols mean, in a sentence or two for readers of a report.

In a file of its own, beside what it describes, as no figure depends on it. Another metric or protocol may add its own.
"""

from core.registry import Registry
from models.evaluation.metrics.base import KNOWN, metrics_of, plain_name
from models.protocols.rating_folds import FOLDS
from workflows.splits.base import LIKED_ABOVE

METRIC_MEANINGS: Registry[str] = Registry("meaning of a metric", __name__)  # by task/name
PROTOCOL_MEANINGS: Registry[str] = Registry("meaning of a protocol", __name__)
ALL_MOVIES = "Among all movies that the user has not rated."
SOME_MOVIES = "Among a sample of the movies that the user has not rated."
KNOWN_PEOPLE = "Without the people who had rated nothing before the test."


def meaning_of(task: str, metric: str) -> str:
    """What a metric of a table says, and whether more of it is better."""
    name = plain_name(metric)
    direction = "Higher is better." if metrics_of(task)[name].higher_is_better else "Lower is better."
    said = [METRIC_MEANINGS.get(f"{task}/{name}", "")]
    if task == "ranking":
        said.append(SOME_MOVIES if metric == name else ALL_MOVIES)
    if metric.startswith(KNOWN):
        said.append(KNOWN_PEOPLE)
    return " ".join(filter(None, (*said, direction)))


METRIC_MEANINGS.add("ranking/hr@10", "Hit rate: the share of users whose held-out movie is among the first 10.")
METRIC_MEANINGS.add(
    "ranking/ndcg@10",
    "As HR@10, but a hit counts less the lower it stands: 1 in the first place, 0.63 in the second, 0.29 in the tenth.",
)
METRIC_MEANINGS.add(
    "ranking/mrr@10", "The mean of 1 / place of the held-out movie, where it is among the first 10, else of 0."
)
METRIC_MEANINGS.add(
    "ranking/auc",
    "The share of the other movies that score below the held-out one, as a mean over users; 0.5 is chance.",
)
METRIC_MEANINGS.add(
    "classification/auc",
    "The chance that a movie which was liked scores above one which was not, over all test ratings; 0.5 is chance.",
)
METRIC_MEANINGS.add(
    "classification/log_loss",
    "The mean of minus the natural logarithm of the probability given to what happened: confident errors cost most; "
    "0.69 is a coin toss.",
)
METRIC_MEANINGS.add(
    "classification/ece",
    "Expected calibration error: how far mean probabilities and shares of liked movies lie apart, as a mean over 15 "
    "bins of equally many ratings (Naeini et al., 2015).",
)
METRIC_MEANINGS.add("rating/rmse", "The root of the mean squared error in stars: large errors count more.")
METRIC_MEANINGS.add("rating/mae", "The mean absolute error in stars.")

PROTOCOL_MEANINGS.add(
    "leave-one-out",
    "Each user's last rating by time is the test, the one before it is validation, and the rest trains. A rating of "
    "any value counts as a positive (He et al., Neural Collaborative Filtering, 2017). The held-out movie is ranked "
    "among all movies that the user has not rated, and among a sample of them, as published figures are. All movies "
    "decide, because sampled figures can mislead (Krichene and Rendle, 2020). Ties count against the model.",
)
PROTOCOL_MEANINGS.add(
    "random-split",
    "A random fifth of all ratings is the test, a tenth of the others is validation, and the rest trains. A movie is "
    f"liked with more than {LIKED_ABOVE:g} stars.",
)
PROTOCOL_MEANINGS.add(
    "rating", "The parts are those of the random split. The model predicts how many stars a user gives a movie."
)
PROTOCOL_MEANINGS.add(
    "temporal",
    "The same moments for everyone: the ratings of the test are the newest tenth of all, those of validation the tenth "
    "before, and the rest trains; ratings of one second are never parted. So no model knows what anyone rated later, "
    "as in leave-one-out it does. Of each user with a rating in the test the first movie there is ranked among sampled "
    "movies that the user has not rated, and among all that the user had not rated before. Many users of the test are "
    "new: the figures of known people leave them out. Ties count against the model.",
)
for fold in FOLDS:
    PROTOCOL_MEANINGS.add(
        f"rating-{fold}",
        f"The test is the published fold {fold} of MovieLens-100K: a fifth of the ratings, as a block of the file. A "
        "tenth of the others is validation, and the rest trains. The model predicts how many stars a user gives.",
    )

"""Rankings of made-up scores among all movies."""

from models.data.features import Features
from models.data.interactions import Candidates
from models.evaluation.judgement import Asked, PerUser, ScorePairs
from models.evaluation.ranking import catalogue_questions, full_catalogue_metrics


def among_all_movies(score: ScorePairs, features: Features, questions: Candidates, seed: int) -> PerUser:
    """The metrics of the test's questions."""
    return full_catalogue_metrics(Asked(score), catalogue_questions(features, questions, "test", seed))

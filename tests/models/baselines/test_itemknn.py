"""Item-kNN: against `implicit`, by hand, and the contract for each weighting."""

import numpy as np
import pytest

from models.baselines import neighbourhood
from models.baselines.itemknn import ItemKnn, ItemKnnSettings
from models.baselines.matrix import rated_matrix
from tests.models.baselines.contracts import ImplicitContract, TrainingData, training_data
from workflows.features.vocabulary import FIRST_INDEX


class TestBm25(ImplicitContract):
    key = "ranking/itemknn"
    blocks = ((neighbourhood, "USERS_AT_ONCE"), (neighbourhood, "CELLS_AT_ONCE"))


class TestCosine(TestBm25):
    settings = ItemKnnSettings(weighting="cosine")


class TestTfidf(TestBm25):
    settings = ItemKnnSettings(weighting="tfidf")


@pytest.mark.parametrize("weighting", ["cosine", "tfidf", "bm25"])
@pytest.mark.parametrize("kept", [5, 100])
@pytest.mark.filterwarnings("ignore:Method expects CSR input")  # of a matrix that `implicit` makes itself
def test_item_knn_scores_as_implicit_recommends(weighting, kept):
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

    contract = TestBm25()
    users, movies = contract.users, contract.movies
    data = TrainingData(contract.rows(), users, movies)
    knn = ItemKnn(data, ItemKnnSettings(kept, weighting, k1=2.0, b=0.5), 0)
    model = {
        "cosine": lambda: CosineRecommender(kept),
        "tfidf": lambda: TFIDFRecommender(kept),
        "bm25": lambda: BM25Recommender(kept, 2.0, 0.5),
    }[weighting]()
    ratings = rated_matrix(data)
    model.fit(ratings, show_progress=False)
    for user in range(FIRST_INDEX, users - 1):
        ids, theirs = model.recommend(user, ratings[user], N=movies)
        unseen = ~np.isin(ids, ratings[user].indices)  # it puts the seen ones last, with zeros
        ids, theirs = ids[unseen], theirs[unseen]
        ours = knn(np.full(len(ids), user), ids)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert (np.diff(ours) <= 0).all()
        # It leaves out what scores nothing.
        others = np.setdiff1d(np.arange(movies), np.append(ids, ratings[user].indices))
        assert not knn(np.full(len(others), user), others).any()


def test_cosine_by_hand():
    # Movies 3, 4, 5 were rated by {3, 4}, {3}, {4, 5}: cosines 1 / sqrt(2) of 3 and 4, 1 / 2 of 3 and 5.
    data = training_data([3, 4, 3, 4, 5], [3, 3, 4, 5, 5], 7, 7)
    knn = ItemKnn(data, ItemKnnSettings(weighting="cosine"), 0)
    scores = knn(np.array([3, 4, 5, 5]), np.array([5, 4, 3, 4]))
    np.testing.assert_allclose(scores, [1 / 2, 1 / np.sqrt(2), 1 / 2, 0], rtol=1e-6)

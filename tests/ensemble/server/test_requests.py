"""A real Triton on the exported repository, asked over gRPC: good requests and bad ones."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from core.errors import UserError
from ensemble import client
from ensemble.client import questions
from ensemble.server.process import Server
from ensemble.triton_models.limits import LARGEST_BATCH
from ensemble.triton_models.similar_movies import SimilarMovies
from tests.names import COMPARED, HANG_SECONDS

pytestmark = pytest.mark.slow


@pytest.fixture
def connection(server):
    with grpc.InferenceServerClient(server.url) as open_connection:
        yield open_connection


def tensor(name: str, values: list, kind: str) -> grpc.InferInput:
    types = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32, "BYTES": np.object_}
    array = np.array(values, types[kind])
    made = grpc.InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array)
    return made


def ids(name: str, *values: int) -> grpc.InferInput:
    return tensor(name, list(values), "INT64")


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", *COMPARED])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_scores_over_grpc_are_those_of_the_files(some_ids, server, scores, name, size):
    user, movie = some_ids(size, size)
    found, known = client.score(server.url, user, movie, name)
    expected, expected_known = scores.score(user, movie, name)
    assert found.dtype == np.float32
    assert known.dtype == bool
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(known, expected_known)


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_recommendations_over_grpc_are_those_of_the_files(server, recommendations, k):
    for user in (1, 59, 119):
        movies, found, known = client.recommend(server.url, user, k)
        expected, expected_scores, _ = recommendations.recommend(user, k)
        assert movies.tolist() == expected.tolist()
        assert known is True
        np.testing.assert_allclose(found, expected_scores, atol=1e-6, rtol=0)


def test_people_without_account_get_personal_or_popular_movies(server, recommendations):
    history = [30, 10, 500]
    movies, found, known = client.recommend(server.url, -1, 10, history)
    expected, expected_scores, _ = recommendations.recommend(-1, 10, np.array(history))
    assert known is True
    assert movies.tolist() == expected.tolist()
    assert not set(history) & set(movies.tolist())
    np.testing.assert_allclose(found, expected_scores, atol=1e-6, rtol=0)
    popular, _, known = client.recommend(server.url, -1)
    assert known is False
    assert popular.tolist() == recommendations.movies.ids[:10].tolist()
    assert popular.tolist() != movies.tolist()


@pytest.mark.parametrize("name", COMPARED)
def test_each_network_recommends_over_grpc_as_its_files_do(server, recommendations, name):
    for user, history in ((1, []), (None, [30, 10, 500]), (None, [])):
        movies, found, known = client.recommend(server.url, user, 20, history, name)
        expected, expected_scores, expected_known = recommendations.recommend(
            user, 20, np.array(history, int), "", name
        )
        assert movies.tolist() == expected.tolist()
        assert known is expected_known
        np.testing.assert_allclose(found, expected_scores, atol=1e-6, rtol=0)


def test_similar_movies_over_grpc_are_those_of_the_files(exported, version, server):
    similar = SimilarMovies(exported.repository / "similar" / version)
    for movie in (10, 500, 1200):
        movies, found = client.similar(server.url, movie, 7)
        expected, expected_scores = similar.similar(movie, 7)
        assert movies.tolist() == expected.tolist()
        np.testing.assert_allclose(found, expected_scores, atol=1e-6, rtol=0)


def test_more_pairs_than_a_request_may_have_are_asked_in_parts(server, scores, monkeypatch):
    user, movie = np.tile([1, 3, 5], 100), np.tile([10, 20, 30, 40], 75)
    whole, known = client.score(server.url, user, movie)
    monkeypatch.setattr(questions, "PAIRS_AT_ONCE", 7)
    parts, known_parts = client.score(server.url, user, movie)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    np.testing.assert_array_equal(known_parts, known)


def test_no_pairs_are_no_scores(server):
    found, known = client.score(server.url, [], [])
    assert found.shape == known.shape == (0,)


def test_model_and_k_may_be_left_out(connection, scores, recommendations):
    reply = connection.infer("score", [ids("user_id", 1, 3), ids("movie_id", 10, 20)])
    expected, _ = scores.score(np.array([1, 3]), np.array([10, 20]))
    np.testing.assert_allclose(reply.as_numpy("score"), expected, atol=1e-6)
    reply = connection.infer("recommend", [ids("user_id", 3)])
    assert reply.as_numpy("movie_id").tolist() == recommendations.recommend(3)[0].tolist()
    assert len(reply.as_numpy("score")) == 10


def test_concurrent_clients_all_get_right_answers(some_ids, server, scores, recommendations):
    def ask(thread: int) -> int:
        right = 0
        for request in range(20):
            user, movie = some_ids(100 * thread + request, 1 + request)
            name = ("", *COMPARED)[request % 3]
            found, _ = client.score(server.url, user, movie, name)
            right += np.allclose(found, scores.score(user, movie, name)[0], atol=1e-6, rtol=0)
            one = 1 + 2 * ((20 * thread + request) % 60)
            right += client.recommend(server.url, one, 5)[0].tolist() == recommendations.recommend(one, 5)[0].tolist()
        return right

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [40] * 8


# -- bad requests ------------------------------------------------------------------------------------------------------

BAD_REQUESTS = {
    "wrong type of user_id": ("score", [tensor("user_id", [1], "INT32"), ids("movie_id", 10)]),
    "wrong type of movie_id": ("score", [ids("user_id", 1), tensor("movie_id", [10.0], "FP32")]),
    "text for an id": ("score", [tensor("user_id", [b"1"], "BYTES"), ids("movie_id", 10)]),
    "number for the model": ("score", [ids("user_id", 1), ids("movie_id", 10), ids("model", 1)]),
    "no movie_id": ("score", [ids("user_id", 1)]),
    "no movie_id but a model": ("score", [ids("user_id", 1), tensor("model", [b"ncf"], "BYTES")]),
    "no tensors": ("score", []),
    "an extra tensor": ("score", [ids("user_id", 1), ids("movie_id", 10), ids("rating", 5)]),
    "fewer movies than users": ("score", [ids("user_id", 1, 3), ids("movie_id", 10)]),
    "two dimensions": ("score", [tensor("user_id", [[1]], "INT64"), tensor("movie_id", [[10]], "INT64")]),
    "an unknown model": ("score", [ids("user_id", 1), ids("movie_id", 10), tensor("model", [b"svd"], "BYTES")]),
    "a model that is no text": (
        "score", [ids("user_id", 1), ids("movie_id", 10), tensor("model", [b"\xff\xfe\x00"], "BYTES")],
    ),
    "two models": ("score", [ids("user_id", 1), ids("movie_id", 10), tensor("model", [b"ncf", b"ncf"], "BYTES")]),
    "no user": ("recommend", [tensor("k", [10], "INT32")]),
    "two users": ("recommend", [ids("user_id", 1, 3)]),
    "no users": ("recommend", [ids("user_id")]),
    "wrong type of k": ("recommend", [ids("user_id", 1), ids("k", 10)]),
    "two ks": ("recommend", [ids("user_id", 1), tensor("k", [1, 2], "INT32")]),
    "k of 0": ("recommend", [ids("user_id", 1), tensor("k", [0], "INT32")]),
    "k of a million": ("recommend", [ids("user_id", 1), tensor("k", [1_000_000], "INT32")]),
    "a negative k": ("recommend", [ids("user_id", 1), tensor("k", [-5], "INT32")]),
    "wrong type of history": ("recommend", [ids("user_id", -1), tensor("history", [10.0], "FP32")]),
    "a history of two dimensions": ("recommend", [ids("user_id", -1), tensor("history", [[10]], "INT64")]),
    "too long a history": ("recommend", [ids("user_id", -1), ids("history", *range(10_001))]),
    "an unknown network": ("recommend", [ids("user_id", 1), tensor("model", [b"svd"], "BYTES")]),
    "an unknown strategy": ("recommend", [ids("user_id", 1), tensor("strategy", [b"fast"], "BYTES")]),
    "no movie": ("similar", [tensor("k", [10], "INT32")]),
    "an unknown movie": ("similar", [ids("movie_id", 11)]),
    "k of 0 similar movies": ("similar", [ids("movie_id", 10), tensor("k", [0], "INT32")]),
    "more pairs than a request may have": (
        "score", [ids("user_id", *[1] * (LARGEST_BATCH + 1)), ids("movie_id", *[10] * (LARGEST_BATCH + 1))],
    ),
    "two million pairs": (
        "score", [tensor("user_id", np.ones(2_000_000), "INT64"), tensor("movie_id", np.ones(2_000_000), "INT64")],
    ),
    "not a number for an id": ("score", [tensor("user_id", [float("nan")], "FP32"), ids("movie_id", 10)]),
    "two rows behind score's back": (
        "scorer", [tensor("user_id", [[1], [3]], "INT64"), tensor("movie_id", [[10], [20]], "INT64")],
    ),
    "no such Triton model": ("train", [ids("user_id", 1)]),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_a_bad_request_is_refused_and_the_server_answers_on(server, connection, recommendations, what):
    model, inputs = BAD_REQUESTS[what]
    with pytest.raises(InferenceServerException) as refused:
        connection.infer(model, inputs, client_timeout=HANG_SECONDS)
    assert "INVALID_ARGUMENT" in str(refused.value.status()) or model == "train"
    assert "Traceback" not in str(refused.value)
    assert client.recommend(server.url, 1, 3)[0].tolist() == recommendations.recommend(1, 3)[0].tolist()
    assert client.score(server.url, [1], [10])[0].shape == (1,)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda url: client.recommend(url, 1, 0), "k is 0; it must be from 1 to 1000"),
        (lambda url: client.recommend(url, 1, 1_000_000), "k is 1000000; it must be from 1 to 1000"),
        (lambda url: client.recommend(url, 1, 2**40), "it must be from 1 to 1000"),
        (lambda url: client.similar(url, 11), "movie 11 is not in the data"),
        (lambda url: client.recommend(url, 1, strategy="fast"), "choose one of exact, two-stage"),
        (lambda url: client.recommend(url, 1, model="svd"), "choose one of dlrm, ncf"),
        (lambda url: client.recommend(url, 2**70), "does not fit in 64 bits"),
        (lambda url: client.score(url, [1], [10], "svd"), "choose one of dlrm, ncf"),
        (lambda url: client.score(url, [1, 3], [10]), "shape"),
    ],
)
def test_the_client_says_what_was_wrong_in_one_line(server, ask, words):
    with pytest.raises(UserError, match=words) as refused:
        ask(server.url)
    assert "\n" not in str(refused.value)


def test_models_can_neither_be_loaded_nor_unloaded(server, connection):
    with pytest.raises(InferenceServerException):
        connection.unload_model("score")
    with pytest.raises(InferenceServerException):
        connection.load_model("score")
    assert client.score(server.url, [1], [10])[0].shape == (1,)


def test_the_server_still_stands(server: Server):
    """After everything above."""
    server.check()
    assert client.score(server.url, [1], [10])[0].shape == (1,)

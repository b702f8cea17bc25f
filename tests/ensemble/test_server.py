"""A real Triton on the exported repository, asked over gRPC."""

import re
import shutil
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble import client
from ensemble.server import Ports, Server, free_port, running
from ensemble.serving.answers import Answers
from marquee.errors import UserError
from marquee.manifest import verify
from marquee.runs import MODELS

pytestmark = pytest.mark.slow

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


@pytest.fixture(scope="module")
def http_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(exported, http_port, tmp_path_factory):
    """One server for all tests; none of them may leave it unable to answer."""
    log = tmp_path_factory.mktemp("triton") / "triton.log"
    with running(exported.repository, log, Ports(free_port(), http_port)) as running_server:
        yield running_server


@pytest.fixture
def connection(server):
    with grpc.InferenceServerClient(server.url) as open_connection:
        yield open_connection


@pytest.fixture(scope="module")
def score_answers(exported) -> Answers:
    return Answers(exported.repository / "score" / "1")


@pytest.fixture(scope="module")
def recommend_answers(exported) -> Answers:
    return Answers(exported.repository / "recommend" / "1")


def random_ids(run, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Known and unknown ids, with repeats, in no order."""
    rng = np.random.default_rng(seed)
    users = np.append(pd.read_parquet(run.tables / "users.parquet")["userId"], [-1, 2, 2**40])
    movies = np.append(pd.read_parquet(run.tables / "movies.parquet")["movieId"], [-1, 2, 2**40])
    return rng.choice(users, size), rng.choice(movies, size)


def tensor(name: str, values: list, kind: str) -> grpc.InferInput:
    types = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32, "BYTES": np.object_}
    array = np.array(values, types[kind])
    made = grpc.InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array)
    return made


def ids(name: str, *values: int) -> grpc.InferInput:
    return tensor(name, list(values), "INT64")


def triton_processes() -> set[int]:
    """Everything that this process started and that still runs."""
    return {
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    }


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", *MODELS])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_scores_over_grpc_are_those_of_the_files(exported, server, score_answers, name, size):
    user, movie = random_ids(exported, size, size)
    found, known = client.score(server.url, user, movie, name)
    expected, expected_known = score_answers.score(user, movie, name)
    assert found.dtype == np.float32
    assert known.dtype == bool
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(known, expected_known)


@pytest.mark.parametrize("name", MODELS)
def test_scores_over_grpc_are_those_of_the_trained_network(exported, server, name):
    import torch

    from models.data import load_features
    from models.scoring import scorer
    from models.training import load

    features = load_features(exported, "leave-one-out")
    score = scorer(load(exported, features, name, torch.device("cpu"))[0], torch.device("cpu"))
    user, movie = random_ids(exported, 11, 500)
    index = {}
    for kind, raw in (("user", user), ("movie", movie)):
        table = pd.read_parquet(features.folder / "vocabulary" / f"{kind}_id.parquet")
        place = dict(zip(table[f"{kind}_id"].tolist(), table["index"].tolist()))
        index[kind] = np.array([place.get(one, 2) for one in raw.tolist()])
    found, _ = client.score(server.url, user, movie, name)
    np.testing.assert_allclose(found, score(index["user"], index["movie"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_recommendations_over_grpc_are_those_of_the_files(server, recommend_answers, k):
    for user in (1, 59, 119):
        movies, scores = client.recommend(server.url, user, k)
        expected, expected_scores = recommend_answers.recommend(user, k)
        assert movies.tolist() == expected.tolist()
        np.testing.assert_allclose(scores, expected_scores, atol=1e-6, rtol=0)


def test_no_pairs_are_no_scores(server):
    found, known = client.score(server.url, [], [])
    assert found.shape == known.shape == (0,)


def test_model_and_k_may_be_left_out(connection, score_answers, recommend_answers):
    reply = connection.infer("score", [ids("user_id", 1, 3), ids("movie_id", 10, 20)])
    expected, _ = score_answers.score(np.array([1, 3]), np.array([10, 20]))
    np.testing.assert_allclose(reply.as_numpy("score"), expected, atol=1e-6)
    reply = connection.infer("recommend", [ids("user_id", 3)])
    assert reply.as_numpy("movie_id").tolist() == recommend_answers.recommend(3)[0].tolist()
    assert len(reply.as_numpy("score")) == 10


def test_concurrent_clients_all_get_right_answers(exported, server, score_answers, recommend_answers):
    def ask(thread: int) -> int:
        right = 0
        for request in range(20):
            user, movie = random_ids(exported, 100 * thread + request, 1 + request)
            name = ("", *MODELS)[request % 3]
            found, _ = client.score(server.url, user, movie, name)
            right += np.allclose(found, score_answers.score(user, movie, name)[0], atol=1e-6, rtol=0)
            one = 1 + 2 * ((20 * thread + request) % 60)
            right += client.recommend(server.url, one, 5)[0].tolist() == recommend_answers.recommend(one, 5)[0].tolist()
        return right

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [40] * 8


def test_http_is_ready_where_it_was_asked_for(server, http_port):
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/v2/health/ready", timeout=10) as reply:
        assert reply.status == 200


# -- bad requests ------------------------------------------------------------------------------------------------------

BAD_REQUESTS = {
    "wrong type of user_id": ("score", [tensor("user_id", [1], "INT32"), ids("movie_id", 10)]),
    "wrong type of movie_id": ("score", [ids("user_id", 1), tensor("movie_id", [10.0], "FP32")]),
    "text for an id": ("score", [tensor("user_id", [b"1"], "BYTES"), ids("movie_id", 10)]),
    "number for the model": ("score", [ids("user_id", 1), ids("movie_id", 10), ids("model", 1)]),
    "no movie_id": ("score", [ids("user_id", 1)]),
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
    "an unknown user": ("recommend", [ids("user_id", 2)]),
    "a user far away": ("recommend", [ids("user_id", 2**62)]),
    "no such Triton model": ("train", [ids("user_id", 1)]),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_a_bad_request_is_refused_and_the_server_answers_on(server, connection, recommend_answers, what):
    model, inputs = BAD_REQUESTS[what]
    with pytest.raises(InferenceServerException) as refused:
        connection.infer(model, inputs, client_timeout=10)
    assert "DEADLINE" not in str(refused.value.status())
    assert "Traceback" not in str(refused.value)
    assert client.recommend(server.url, 1, 3)[0].tolist() == recommend_answers.recommend(1, 3)[0].tolist()
    assert client.score(server.url, [1], [10])[0].shape == (1,)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda url: client.recommend(url, 1, 0), "k is 0; it must be from 1 to 1000"),
        (lambda url: client.recommend(url, 1, 1_000_000), "k is 1000000; it must be from 1 to 1000"),
        (lambda url: client.recommend(url, 1, 2**40), "it must be from 1 to 1000"),
        (lambda url: client.recommend(url, 2), "user 2 is not in the data"),
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


# -- the process -------------------------------------------------------------------------------------------------------


def test_nothing_listens_but_on_loopback(server, http_port):
    process = psutil.Process(server.process.pid)
    listening = [
        connection.laddr
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} == {int(server.url.rpartition(":")[2]), http_port}
    assert {address.ip for address in listening} <= set(LOOPBACK)


def test_serving_does_not_change_the_repository(exported, server):
    client.score(server.url, [1], [10])
    verify(exported.repository)


def test_stopping_leaves_no_process_and_no_folder(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = triton_processes()
    with running(exported.repository, tmp_path / "triton.log", Ports(free_port())) as own:
        started = triton_processes() - before
        assert own.process.pid in started
        assert len(started) > 1  # the server and its stubs
        assert list(tmp_path.glob("marquee-triton-*"))
        assert client.score(own.url, [1], [10])[0].shape == (1,)
    assert own.process.poll() is not None
    deadline = time.monotonic() + 10
    while (left := [pid for pid in started if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    assert triton_processes() == before
    assert not list(tmp_path.glob("marquee-triton-*"))
    with pytest.raises(UserError, match="no Triton answers"):
        client.score(own.url, [1], [10])


def test_an_error_in_the_block_stops_the_server_too(exported, tmp_path):
    before = triton_processes()
    with pytest.raises(KeyError), running(exported.repository, tmp_path / "triton.log", Ports(free_port())):
        raise KeyError
    assert triton_processes() == before


def test_a_server_that_ended_is_noticed(exported, tmp_path):
    with running(exported.repository, tmp_path / "triton.log", Ports(free_port())) as own:
        own.check()
        own.process.terminate()
        own.process.wait(30)
        with pytest.raises(UserError, match=re.escape(str(tmp_path / "triton.log"))):
            own.check()


# -- what is refused before anything starts ----------------------------------------------------------------------------


def refusal(repository: Path, log: Path, ports: Ports) -> str:
    """The one line that says why no server was started."""
    before = triton_processes()
    with pytest.raises(UserError) as refused, running(repository, log, ports):
        pytest.fail("a server was started")
    assert triton_processes() == before
    assert not log.exists()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_port_in_use_is_refused(exported, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for ports in (Ports(port), Ports(free_port(), http=port), Ports(free_port(), metrics=port)):
            assert f"port {port}" in refusal(exported.repository, tmp_path / "triton.log", ports)


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        (Ports(-1), "-1 is no port"),
        (Ports(70_000), "70000 is no port"),
        (Ports(18_001, 18_001), "must differ"),
        (Ports(18_001, 18_002, 18_001), "must differ"),
    ],
)
def test_ports_that_make_no_sense_are_refused(exported, tmp_path, ports, words):
    assert words in refusal(exported.repository, tmp_path / "triton.log", ports)


@pytest.mark.parametrize(
    "name", ["score/1/model.py", "recommend/1/answers.py", "score/1/ncf.onnx", "recommend/config.pbtxt"]
)
def test_a_changed_file_is_refused(exported, tmp_path, name):
    repository = Path(shutil.copytree(exported.repository, tmp_path / "repository"))
    (repository / name).write_bytes((repository / name).read_bytes() + b"\n")
    message = refusal(repository, tmp_path / "triton.log", Ports(free_port()))
    assert name in message
    assert "changed" in message


@pytest.mark.parametrize("name", ["score/1/extra.py", "evil/1/model.py", "score/2/model.py", "score/1/.hidden"])
def test_an_extra_file_is_refused(exported, tmp_path, name):
    repository = Path(shutil.copytree(exported.repository, tmp_path / "repository"))
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("print('hello')\n")
    message = refusal(repository, tmp_path / "triton.log", Ports(free_port()))
    assert name in message
    assert "not listed" in message


@pytest.mark.parametrize("name", ["score/1/dlrm.onnx", "recommend/1/rated.parquet", "score/config.pbtxt"])
def test_a_missing_file_is_refused(exported, tmp_path, name):
    repository = Path(shutil.copytree(exported.repository, tmp_path / "repository"))
    (repository / name).unlink()
    message = refusal(repository, tmp_path / "triton.log", Ports(free_port()))
    assert name in message
    assert "missing" in message


def test_a_repository_without_manifest_is_refused(exported, tmp_path):
    repository = Path(shutil.copytree(exported.repository, tmp_path / "repository"))
    (repository / "manifest.json").unlink()
    assert str(repository) in refusal(repository, tmp_path / "triton.log", Ports(free_port()))


def test_a_log_that_cannot_be_written_is_refused(exported, tmp_path):
    before = triton_processes()
    with (
        pytest.raises((UserError, OSError)),
        running(exported.repository, tmp_path / "no folder" / "triton.log", Ports(free_port())),
    ):
        pytest.fail("a server was started")
    assert triton_processes() == before


def test_without_a_server_the_client_says_how_to_start_one():
    for ask in (
        lambda url: client.score(url, [1], [10]),
        lambda url: client.recommend(url, 1),
    ):
        with pytest.raises(UserError, match="python -m marquee serve") as refused:
            ask(f"127.0.0.1:{free_port()}")
        assert "\n" not in str(refused.value)


def test_the_server_still_stands(server: Server):
    """After everything above."""
    server.check()
    assert client.score(server.url, [1], [10])[0].shape == (1,)

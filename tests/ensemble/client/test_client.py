"""The client and its asyncio twin: one connection, what is asked again and for how long, results of one version."""

import asyncio
import dataclasses
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from core.errors import UserError
from ensemble import client
from ensemble.client import AsyncClient, AwayError, BusyError, Client, NoServerError, TimedOutError, questions
from ensemble.server.ports import free_port
from tests.ensemble.client.conftest import Refused, refuse
from tests.names import HANG_SECONDS

AMPLE = 60.0  # seconds that a question may take which the tests expect to be answered at once


def ask_sync(url: str, ask: Callable[[Any], Any], **options: Any) -> Any:
    with Client(url, **options) as kept:
        return ask(kept)


def ask_async(url: str, ask: Callable[[Any], Any], **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, **options) as kept:
            return await ask(kept)

    return asyncio.run(run())


@pytest.fixture(params=[ask_sync, ask_async], ids=["sync", "asyncio"])
def ask(request) -> Callable[..., Any]:
    """Asks one question by either client."""
    return request.param


def one_pair(kept: Any) -> Any:
    return kept.score([1], [10])


# -- questions and answers ---------------------------------------------------------------------------------------------


def test_score_is_typed(servers, ask):
    url, asked = servers.start(lambda _: 4)
    found = ask(url, lambda kept: kept.score([1, 0], [10, 20], "ncf"))
    assert isinstance(found, client.Scores)
    assert (found.score.tolist(), found.known.tolist(), found.version) == ([11.0, 20.0], [True, False], 4)
    assert asked.inputs(0) == {"user_id": [1, 0], "movie_id": [10, 20], "model": [b"ncf"]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.version = 5


def test_recommend_is_typed_and_names_model_and_strategy(servers, ask):
    url, asked = servers.start()
    found = ask(url, lambda kept: kept.recommend(3, 2, model="ncf", strategy="exact"))
    assert isinstance(found, client.Recommendations)
    assert (found.movie_id.tolist(), found.score.tolist(), found.known, found.version) == ([7, 8], [0.5, 0.25], True, 1)
    assert asked.inputs(0) == {"user_id": [3], "k": [2], "model": [b"ncf"], "strategy": [b"exact"]}


def test_someone_without_an_id_is_asked_for_by_history_alone(servers, ask):
    url, asked = servers.start()
    ask(url, lambda kept: kept.recommend(history=[50, 60]))
    ask(url, lambda kept: kept.recommend())
    assert asked.inputs(0) == {"k": [10], "history": [50, 60]}
    assert asked.inputs(1) == {"k": [10], "history": []}


def test_similar_is_typed(servers, ask):
    url, asked = servers.start()
    found = ask(url, lambda kept: kept.similar(50, 2))
    assert isinstance(found, client.Similar)
    assert (found.movie_id.tolist(), found.score.tolist(), found.version) == ([7, 8], [0.5, 0.25], 1)
    assert asked.inputs(0) == {"movie_id": [50], "k": [2]}


def test_readiness(servers, ask):
    url, _ = servers.start()
    assert ask(url, lambda kept: kept.is_ready()) is True
    servers.stop()
    assert ask(url, lambda kept: kept.is_ready()) is False


def test_the_functions_ask_once_and_take_a_timeout(servers):
    url, asked = servers.start()
    score, known = client.score(url, [1], [10], timeout=AMPLE)
    assert (score.tolist(), known.tolist()) == ([11.0], [True])
    movies, _, known = client.recommend(url, history=[50], timeout=AMPLE)
    assert (movies.tolist(), known) == ([7, 8], True)
    assert client.similar(url, 50, timeout=AMPLE)[0].tolist() == [7, 8]
    assert all(seconds > client.TIMEOUT for seconds in asked.deadlines)


def test_an_ipv6_address_in_brackets(servers, ask):
    url, _ = servers.start(url=f"[::1]:{free_port()}")
    assert ask(url, one_pair).score.tolist() == [11.0]


# -- parts -------------------------------------------------------------------------------------------------------------


def test_many_pairs_go_in_parts(servers, ask, monkeypatch):
    monkeypatch.setattr(questions, "PAIRS_AT_ONCE", 7)
    url, asked = servers.start()
    users, movies = np.arange(1, 51), np.arange(50) * 10
    found = ask(url, lambda kept: kept.score(users, movies))
    np.testing.assert_array_equal(found.score, users + movies)
    assert found.known.all()
    assert [len(asked.inputs(number)["user_id"]) for number in range(8)] == [7] * 7 + [1]


def test_all_parts_have_one_deadline(servers, ask, monkeypatch):
    """None of them takes a second, all of them take four."""
    monkeypatch.setattr(questions, "PAIRS_AT_ONCE", 1)
    url, asked = servers.start(lambda _: time.sleep(0.4))
    with pytest.raises(TimedOutError, match="did not answer within 1 s"):
        ask(url, lambda kept: kept.score([1] * 10, [10] * 10, timeout=1))
    assert len(asked.requests) < 5


def test_no_pairs_are_no_scores(servers, ask):
    url, _ = servers.start()
    assert ask(url, lambda kept: kept.score([], [])).score.shape == (0,)


def test_a_result_is_of_one_version(servers, ask, monkeypatch):
    """The server switches between the second part and the third: the first two are asked again."""
    monkeypatch.setattr(questions, "PAIRS_AT_ONCE", 1)
    url, asked = servers.start(lambda number: 1 if number < 2 else 2)
    found = ask(url, lambda kept: kept.score([1, 2, 3], [10, 20, 30]))
    assert (found.score.tolist(), found.version) == ([11.0, 22.0, 33.0], 2)
    assert [asked.inputs(number)["user_id"] for number in range(5)] == [[1], [2], [3], [1], [2]]


# -- asked again -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"wait": 0.0}])
def test_where_nobody_listens_is_known_at_once(ask, options):
    began = time.monotonic()
    with pytest.raises(NoServerError, match=r"no Triton answers .* start one with: serve it"):
        ask(f"127.0.0.1:{free_port()}", one_pair, timeout=HANG_SECONDS, command="serve it", **options)
    assert time.monotonic() - began < HANG_SECONDS / 2


def test_a_server_that_starts_is_waited_for_where_that_is_asked(servers, ask):
    url = f"127.0.0.1:{free_port()}"
    starting = threading.Timer(0.5, lambda: servers.start(url=url))
    starting.start()
    assert ask(url, one_pair, timeout=AMPLE, wait=AMPLE).score.tolist() == [11.0]
    starting.join()


def test_the_wait_for_a_first_answer_has_an_end(ask):
    began = time.monotonic()
    with pytest.raises(NoServerError):
        ask(f"127.0.0.1:{free_port()}", one_pair, timeout=HANG_SECONDS, wait=0.4)
    assert 0.05 < time.monotonic() - began < HANG_SECONDS / 2  # pauses are drawn: it ends before one that is too long


def test_a_restart_is_waited_for_on_the_kept_connection(servers):
    url, _ = servers.start()
    with Client(url, timeout=AMPLE) as kept:
        assert kept.score([1], [10]).version == 1
        servers.stop()
        starting = threading.Timer(0.5, lambda: servers.start(lambda _: 2, url))
        starting.start()
        assert kept.score([1], [10]).version == 2
        starting.join()


def test_a_restart_is_waited_for_in_asyncio(servers):
    url, _ = servers.start()

    async def run() -> int:
        async with AsyncClient(url, timeout=AMPLE) as kept:
            await kept.score([1], [10])
            servers.stop()
            starting = threading.Timer(0.5, lambda: servers.start(lambda _: 2, url))
            starting.start()
            return (await kept.score([1], [10])).version

    assert asyncio.run(run()) == 2


def test_a_server_that_does_not_come_back_is_given_up_in_time(servers):
    url, _ = servers.start()
    with Client(url, timeout=AMPLE) as kept:
        kept.score([1], [10])
        servers.stop()
        began = time.monotonic()
        with pytest.raises((NoServerError, TimedOutError)):
            kept.score([1], [10], timeout=0.8)
        assert 0.3 < time.monotonic() - began < HANG_SECONDS / 2


def test_a_server_that_says_that_it_is_away_is_asked_again(servers, ask):
    """Even by a client that it has never answered: it is there."""
    url, asked = servers.start(refuse("UNAVAILABLE", "Triton restarts", 3))
    assert ask(url, one_pair, timeout=AMPLE).score.tolist() == [11.0]
    assert len(asked.requests) == 4


def test_what_the_server_drops_is_asked_again(servers, ask):
    url, asked = servers.start(refuse("CANCELLED", "RST_STREAM", 3))
    assert ask(url, one_pair, timeout=AMPLE).score.tolist() == [11.0]
    assert len(asked.requests) == 4


def test_one_that_stays_away_says_why(servers, ask):
    url, _ = servers.start(refuse("UNAVAILABLE", "Triton restarts", 10**6))
    with pytest.raises(AwayError, match=f"^{url} cannot answer at the moment: Triton restarts$"):
        ask(url, one_pair, timeout=0.4)


def test_a_model_that_a_stranger_s_triton_does_not_have_is_not_waited_for(servers, ask):
    url, asked = servers.start(refuse("UNAVAILABLE", "Request for unknown model: 'score' is not found", 10**6))
    with pytest.raises(UserError, match="Triton refused: Request for unknown model"):
        ask(url, one_pair, timeout=HANG_SECONDS)
    assert len(asked.requests) == 1


def test_a_busy_server_is_asked_again_after_growing_pauses(servers, ask):
    url, asked = servers.start(refuse("RESOURCE_EXHAUSTED", "64 requests are under way; ask again", 4))
    assert ask(url, one_pair, timeout=AMPLE).score.tolist() == [11.0]
    assert len(asked.requests) == 5
    pauses = np.diff(asked.times)
    assert all(pause >= least for pause, least in zip(pauses, (0.025, 0.05, 0.1, 0.2)))


def test_one_that_stays_busy_says_so_in_time(servers, ask):
    url, asked = servers.start(refuse("RESOURCE_EXHAUSTED", "64 requests are under way; ask again", 10**6))
    began = time.monotonic()
    with pytest.raises(BusyError, match="is busy: 64 requests are under way"):
        ask(url, one_pair, timeout=0.6)
    assert time.monotonic() - began < HANG_SECONDS / 2
    assert 2 <= len(asked.requests) < 20
    assert min(asked.deadlines) > 0.02  # none is sent that could not be answered


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("INVALID_ARGUMENT", "k is 0; it must be from 1 to 1000"),
        ("UNAUTHENTICATED", "the secret is not right"),
        ("INTERNAL", "the model failed"),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5 vs. 4)"),
    ],
)
def test_a_refused_request_is_sent_once(servers, ask, code, sentence):
    url, asked = servers.start(refuse(code, sentence, 10**6))
    with pytest.raises(UserError) as refused:
        ask(url, one_pair, timeout=AMPLE)
    assert type(refused.value) is UserError
    assert str(refused.value) == f"Triton refused: {sentence}"
    assert len(asked.requests) == 1


def test_a_deadline_is_the_whole_question_s(servers, ask):
    url, asked = servers.start(lambda _: time.sleep(1))
    with pytest.raises(TimedOutError, match=r"did not answer within 0\.3 s"):
        ask(url, one_pair, timeout=0.3)
    assert len(asked.requests) == 1


def test_the_question_s_timeout_goes_before_the_client_s(servers, ask):
    url, asked = servers.start()
    ask(url, lambda kept: kept.score([1], [10], timeout=11), timeout=500)
    ask(url, one_pair, timeout=500)
    assert 5 < asked.deadlines[0] < 20 < 300 < asked.deadlines[1]  # gRPC rounds them up


# -- one connection ----------------------------------------------------------------------------------------------------


def test_threads_share_one_connection(servers):
    url, asked = servers.start()
    with Client(url, timeout=AMPLE) as kept, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: kept.score([number], [10]).score[0], range(200)))
    assert found == [number + 10 for number in range(200)]
    assert len(asked.peers) == 1


def test_tasks_are_answered_side_by_side(servers):
    gate = threading.Barrier(8)
    url, _ = servers.start(lambda _: gate.wait(HANG_SECONDS) and None)

    async def run() -> list[float]:
        async with AsyncClient(url, timeout=HANG_SECONDS) as kept:
            found = await asyncio.gather(*(kept.score([number], [10]) for number in range(8)))
        return [one.score[0] for one in found]

    assert asyncio.run(run()) == [10 + number for number in range(8)]


def test_a_cancelled_question_ends_at_once(servers):
    going_on, arrived = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        arrived.set()
        going_on.wait(HANG_SECONDS)

    url, asked = servers.start(hang)

    async def run() -> None:
        async with AsyncClient(url, timeout=HANG_SECONDS) as kept:
            task = asyncio.ensure_future(kept.score([1], [10]))
            await asyncio.to_thread(arrived.wait, HANG_SECONDS)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert asked.cancelled.wait(HANG_SECONDS)
    going_on.set()


def test_a_pause_is_cancelled_too(servers):
    url, _ = servers.start(refuse("RESOURCE_EXHAUSTED", "busy", 10**6))

    async def run() -> None:
        async with AsyncClient(url, timeout=HANG_SECONDS) as kept:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(kept.score([1], [10]), 0.5)

    asyncio.run(run())


def test_a_closed_client_says_so(servers):
    url, asked = servers.start()
    kept = Client(url)
    kept.close()
    kept.close()
    for question in (one_pair, lambda one: one.is_ready()):
        with pytest.raises(UserError, match="this client is closed"):
            question(kept)

    async def run() -> None:
        twin = AsyncClient(url)
        await twin.close()
        with pytest.raises(UserError, match="this client is closed"):
            await twin.score([1], [10])

    asyncio.run(run())
    assert not asked.requests


def test_closing_ends_what_other_threads_ask(servers):
    going_on, arrived = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        arrived.set()
        going_on.wait(HANG_SECONDS)

    url, _ = servers.start(hang)
    kept = Client(url, timeout=HANG_SECONDS)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(one_pair, kept)
        assert arrived.wait(HANG_SECONDS)
        kept.close()
        with pytest.raises(UserError, match="this client is closed"):
            answer.result(HANG_SECONDS)
        going_on.set()


def test_a_forked_process_is_sent_away(servers):
    """gRPC's connections do not survive a fork; a question there would hang."""
    url, asked = servers.start()
    with Client(url) as kept:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                kept.score([1], [10])
            except UserError as error:
                os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader) as pipe:
            assert "make one in each process" in pipe.read()
        os.waitpid(child, 0)
        assert kept.score([1], [10]).version == 1
    assert len(asked.requests) == 1


def test_refusals_of_other_kinds_do_not_end_the_waiting_for_a_busy_server(servers, ask):
    """Busy, away, busy: each is asked again."""
    codes = iter(["RESOURCE_EXHAUSTED", "UNAVAILABLE", "RESOURCE_EXHAUSTED"])

    def before(_: int) -> None:
        code = next(codes, None)
        if code:
            raise Refused(getattr(grpc.StatusCode, code), "not now")

    url, asked = servers.start(before)
    assert ask(url, one_pair, timeout=AMPLE).score.tolist() == [11.0]
    assert len(asked.requests) == 4

"""The door beside a small Triton of the test's own that hangs, fails, ends and changes its version."""

import asyncio
import time
from contextlib import suppress

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from ensemble.front_door.questions import QUESTIONS
from ensemble.front_door.refusal import Refusal
from ensemble.front_door.schedule import ROWS_AT_ONCE
from ensemble.front_door.settings import Limits
from tests.ensemble.front_door.models import recommend_request, score_request
from tests.ensemble.front_door.scenes import beside_triton, expected, refusal_of, refused, scores

SOON = 15.0  # seconds; without it these would take 30, or for ever
SHED, LATE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED


# -- answers -----------------------------------------------------------------------------------------------------------


def test_an_answer_is_tritons_with_the_clients_id():
    async def scene(both):
        answer = await both.door.infer(score_request([1, 2, 3], identity="mine"))
        assert (answer.id, answer.model_name, answer.model_version) == ("mine", "score", "1")
        assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [
            ("score", "FP32", [3]),
            ("known", "BOOL", [3]),
        ]
        assert scores(answer).tolist() == expected([1, 2, 3]).tolist()
        assert ("secret", "s") in [tuple(pair) for pair in both.triton.headers[0]]
        answer = await both.door.infer(recommend_request(7))
        assert answer.raw_output_contents[1] == b"\1\0\0\0" + b"7"

    beside_triton(scene)


@pytest.mark.parametrize("users", [[], [5], list(range(3 * ROWS_AT_ONCE + 5))], ids=len)
def test_any_number_of_rows_is_answered_in_order(users):
    async def scene(both):
        assert (await both.score(users) == expected(users)).all()
        assert all(len(one.raw_input_contents[0]) <= 8 * ROWS_AT_ONCE for one in both.triton.asked)

    beside_triton(scene)


def test_some_outputs_are_answered_where_some_are_asked_for():
    async def scene(both):
        request = score_request([1, 2])
        request.outputs.add(name="known")
        answer = await both.door.infer(request)
        assert [one.name for one in answer.outputs] == ["known"]
        assert answer.raw_output_contents[0] == b"\1\1"

    beside_triton(scene)


def test_many_requests_at_once_get_each_its_own_answer_from_few_calls():
    async def scene(both):
        both.triton.gate.clear()
        asked = [[place, place + 1] for place in range(100)]
        tasks = [both.later(both.score(users)) for users in asked]
        await both.until(lambda: both.triton.under_way and both.door.schedule.requests == 100)
        both.triton.gate.set()
        for users, answer in zip(asked, await asyncio.gather(*tasks)):
            assert (answer == expected(users)).all()
        assert len(both.triton.asked) < 10

    beside_triton(scene)


def test_a_small_request_is_answered_before_large_ones_that_came_first():
    async def scene(both):
        large = [both.later(both.score([1] * 100_000)) for _ in range(3)]
        await both.until(lambda: bool(both.triton.asked))
        await both.score([1])
        assert not any(one.done() for one in large)
        await asyncio.gather(*large)

    beside_triton(scene)


# -- clients that leave, and deadlines ---------------------------------------------------------------------------------


def test_no_cancellation_reaches_triton_and_what_has_not_begun_is_not_asked():
    async def scene(both):
        await both.score([1])
        both.triton.gate.clear()
        tasks = [both.later(both.score([place])) for place in range(50)]
        tasks += [both.later(both.door.infer(recommend_request(place))) for place in range(50)]
        await both.until(lambda: both.triton.under_way >= 3)
        under_way = len(both.triton.asked)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert (both.door.schedule.requests, both.door.schedule.rows) == (0, 0)
        both.triton.gate.set()
        await both.until(lambda: not both.door.tasks)
        assert len(both.triton.asked) == under_way
        assert (await both.score([5]) == expected([5])).all()

    beside_triton(scene)


def test_a_client_may_leave_before_the_model_is_known():
    async def scene(both):
        both.triton.talks.clear()
        tasks = [both.later(both.score([1])) for _ in range(20)]
        tasks.append(both.later(both.score([1], 0.1)))
        await both.until(lambda: bool(both.triton.questions))
        for task in tasks[:-1]:
            task.cancel()
        await asyncio.wait(tasks)
        assert refusal_of(tasks[-1]).code == LATE
        both.triton.talks.set()
        await both.score([1])
        assert both.triton.questions.count("ModelConfig") == 1

    beside_triton(scene)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.05, 0.3])
def test_a_deadline_is_kept_though_triton_hangs(seconds):
    async def scene(both):
        await both.score([1])
        both.triton.gate.clear()
        began = time.monotonic()
        found = await refused(both.score([1] * 10_000, seconds))
        assert (found.code, found.reason) == (LATE, "deadline")
        assert time.monotonic() - began < SOON

    beside_triton(scene)


def test_the_timeout_parameter_and_the_usual_limit_are_deadlines_too():
    async def scene(both):
        await both.score([1])
        both.triton.gate.clear()
        request = score_request([1])
        request.parameters["timeout"].int64_param = 50_000  # microseconds
        assert (await refused(both.door.infer(request))).sentence == "there was no answer within 0.05 s"
        request.parameters["timeout"].int64_param = -1
        assert (await refused(both.door.infer(request))).sentence == "there was no answer within 0.5 s"

    beside_triton(scene, Limits(seconds=0.5))


def test_what_nobody_waits_for_any_more_is_not_started():
    async def scene(both):
        await both.score([1])
        both.triton.gate.clear()
        tasks = [both.later(both.score([2], 0.1)) for _ in range(30)]
        await asyncio.wait(tasks)
        assert {refusal_of(task).code for task in tasks} == {LATE}
        before = len(both.triton.asked)
        both.triton.gate.set()
        await both.until(lambda: not both.door.tasks)
        assert len(both.triton.asked) == before

    beside_triton(scene)


def test_a_large_request_that_expires_is_not_asked_to_its_end():
    async def scene(both):
        await both.score([1])
        task = both.later(both.score([1] * 250_000))
        await both.until(lambda: len(both.triton.asked) >= 3)
        task.cancel()
        await asyncio.wait([task])
        asked = len(both.triton.asked)
        await both.until(lambda: not both.door.tasks)
        assert len(both.triton.asked) <= asked + 1 < 250_000 // ROWS_AT_ONCE

    beside_triton(scene)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_beyond_the_bounds_requests_are_shed_at_once():
    async def scene(both):
        await both.score([1])
        both.triton.gate.clear()
        waiting = [both.later(both.score([place])) for place in range(10)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        found = await refused(both.score([1]))
        assert (found.code, found.reason) == (SHED, "busy")
        assert "ask again later" in found.sentence
        assert time.monotonic() - began < SOON
        trusted = both.later(both.door.infer(score_request([7]), trusted=True))
        await asyncio.sleep(0.05)
        assert not trusted.done()
        both.triton.gate.set()
        await asyncio.gather(trusted, *waiting)
        await both.score([1])

    beside_triton(scene, Limits(requests=10))


def test_rows_are_bounded_and_one_request_of_more_rows_is_let_in():
    async def scene(both):
        await both.score([1])
        both.triton.gate.clear()
        large = both.later(both.score([1] * 5000))
        await asyncio.sleep(0.05)
        assert (await refused(both.score([1]))).code == SHED
        assert (await refused(both.door.infer(recommend_request(1)))).code == SHED
        both.triton.gate.set()
        await large
        await both.score([1])

    beside_triton(scene, Limits(rows=1000))


def test_calls_to_triton_are_few_however_much_waits():
    async def scene(both):
        await asyncio.gather(*(both.door.infer(recommend_request(user)) for user in range(200)))
        assert both.triton.most_under_way <= 2

    beside_triton(scene)


def test_questions_about_models_that_do_not_exist_are_bounded_and_harm_nobody():
    async def scene(both):
        await both.score([1])
        both.triton.talks.clear()

        def unknown(place: int) -> Message:
            request = score_request([1])
            request.model_name = f"unknown-{place}"
            return request

        tasks = [both.later(both.door.infer(unknown(place), 0.5)) for place in range(500)]
        await asyncio.sleep(0.1)
        assert len(both.triton.questions) < 100
        assert len(both.door.signatures.renewing) < 100
        assert (await both.score([2]) == expected([2])).all()
        await asyncio.wait(tasks)
        assert {refusal_of(task).code for task in tasks} == {SHED, LATE}

    beside_triton(scene)


def test_questions_about_the_server_are_bounded_also_where_nobody_waits_for_them():
    async def scene(both):
        both.triton.talks.clear()
        for _ in range(20):
            tasks = [both.later(both.door.model_ready("score")) for _ in range(20)]
            await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await asyncio.sleep(0.05)
        assert len(both.triton.questions) <= QUESTIONS
        assert (await refused(both.door.model_metadata("score"))).code == SHED
        both.triton.talks.set()
        await both.until(lambda: not both.door.tasks)
        assert await both.door.model_ready("score")

    beside_triton(scene)


# -- names and versions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nope", "", "x" * 5_000_000, "../score", "\n\0"])
def test_an_unknown_model_is_not_found(name):
    async def scene(both):
        request = score_request([1])
        request.model_name = name
        found = await refused(both.door.infer(request))
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "name")
        assert len(found.sentence) < 600
        assert not await both.door.model_ready(name)
        assert not both.triton.asked

    beside_triton(scene)


def test_a_private_model_is_refused_with_what_to_ask():
    async def scene(both):
        request = score_request([1])
        request.model_name = "scorer"
        found = await refused(both.door.infer(request))
        assert found.code == grpc.StatusCode.NOT_FOUND
        assert found.sentence == "scorer answers for score; ask score"

    beside_triton(scene)


def test_a_version_that_is_served_is_asked_and_another_is_refused():
    async def scene(both):
        answer = await both.door.infer(score_request([1], version="1"))
        assert answer.model_version == "1"
        assert both.triton.asked[-1].model_version == "1"
        for version in ("9", "x", "9" * 1000):
            found = await refused(both.score([1], version=version))
            assert found.code == grpc.StatusCode.NOT_FOUND
            assert "it serves 1" in found.sentence
        both.triton.versions = ["1", "2"]  # a release that has just come
        assert (await both.door.infer(score_request([1], version="2"))).model_version == "2"

    beside_triton(scene)


def test_who_waits_for_a_version_that_has_gone_is_refused_and_does_not_hold_up_the_others():
    async def scene(both):
        await both.score([1], version="1")
        both.triton.versions, both.triton.version = ["2"], "2"
        both.triton.fail = lambda request: (
            (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'score' version 1 is not found")
            if request.model_version == "1"
            else None
        )
        old = both.later(both.score([1], version="1"))
        began = time.monotonic()
        while not old.done():
            await both.score([1])
        found = refusal_of(old)
        assert found.code == grpc.StatusCode.NOT_FOUND
        assert "it serves 2" in found.sentence
        assert time.monotonic() - began < SOON
        assert not both.door.paused

    beside_triton(scene)


def test_a_version_that_is_just_being_loaded_is_waited_for():
    async def scene(both):
        await both.score([1], version="1")
        left = [3]

        def fail(_):
            left[0] -= 1
            return (
                (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'score' is not ready") if left[0] >= 0 else None
            )

        both.triton.fail = fail
        assert (await both.score([4], version="1") == expected([4])).all()

    beside_triton(scene)


def test_a_large_request_is_asked_again_where_the_version_changes_between_its_slices():
    async def scene(both):
        users = list(range(5 * ROWS_AT_ONCE))

        def spoil(answer):
            both.triton.version = "2" if len(both.triton.asked) >= 2 else "1"

        both.triton.spoil = spoil
        answer = await both.door.infer(score_request(users))
        assert answer.model_version == "2"
        assert (scores(answer) == expected(users)).all()
        assert len(both.triton.asked) == 10

    beside_triton(scene)


# -- what is counted, and the rest -------------------------------------------------------------------------------------


def test_each_outcome_is_counted():
    async def scene(both):
        door = both.door

        def count(outcome: str, model: str = "score", asker: str = "client") -> float:
            return both.metrics.requests.labels(model, "grpc", outcome, asker)._value.get()

        unknown = score_request([1])
        unknown.model_name = "nope"
        await refused(door.infer(unknown))
        assert count("refused", "unknown") == 1
        assert count("refused", "nope") == 0
        await both.score([1])
        await door.infer(score_request([1]), asker="canary")
        assert (count("answered"), count("answered", asker="canary")) == (1, 1)
        bad = score_request([1])
        bad.inputs[0].shape[0] = 2**61
        await refused(door.infer(bad))
        assert count("refused") == 1
        assert both.metrics.refusals.labels("score", "limit", "client")._value.get() == 1
        both.triton.gate.clear()
        await refused(both.score([1], 0.01))
        assert count("expired") == 1
        waiting = [both.later(both.score([1])) for _ in range(2)]
        await asyncio.sleep(0.05)
        door.count_waiting()
        assert both.metrics.waiting_requests._value.get() == 2
        await refused(both.score([1]))
        assert count("shed") == 1
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert count("cancelled") == 2
        both.triton.gate.set()
        both.triton.fail = lambda _: (grpc.StatusCode.INTERNAL, "no")
        await refused(both.score([1]))
        assert count("failed") == 1

    beside_triton(scene, Limits(requests=2))


def test_metadata_names_only_the_extensions_that_are_served():
    async def scene(both):
        found = await both.door.server_metadata()
        assert list(found.extensions) == ["statistics"]

    beside_triton(scene)


def test_closing_waits_for_what_is_under_way():
    async def scene(both):
        await both.score([1])
        both.triton.gate.clear()
        task = both.later(both.score([1]))
        await both.until(lambda: both.triton.under_way == 1)
        closing = both.later(both.door.close(SOON))
        await asyncio.sleep(0.05)
        assert not closing.done()
        both.triton.gate.set()
        await closing
        assert (await task == expected([1])).all()

    beside_triton(scene)


def test_a_storm_of_everything_leaves_nothing_behind():
    async def scene(both):
        rng = np.random.default_rng(0)

        async def client() -> None:
            for _ in range(40):
                kind = rng.integers(0, 4)
                rows = [1] * int(rng.choice([0, 1, 100, 9000]))
                work = both.later(
                    both.door.infer(recommend_request(1), 0.005 * rng.random())
                    if kind == 0
                    else both.score(rows, None if kind == 1 else 0.01 * rng.random())
                )
                await asyncio.sleep(0.004 * rng.random())
                if kind == 2:
                    work.cancel()
                with suppress(asyncio.CancelledError, Refusal):
                    await work

        await asyncio.gather(*(client() for _ in range(16)))
        assert (await both.score([3]) == expected([3])).all()

    beside_triton(scene)

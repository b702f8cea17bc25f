"""The door beside a small Triton that ends, moves, breaks and answers nonsense."""

import asyncio

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from ensemble.front_door import door as door_module
from ensemble.front_door.door import MOST_ENDS
from tests.ensemble.front_door.models import recommend_request
from tests.ensemble.front_door.scenes import beside_triton, expected, refusal_of, refused
from tests.ensemble.front_door.small_triton import SmallTriton

LATE = grpc.StatusCode.DEADLINE_EXCEEDED
DEAD_STUB = "in ensemble 'score', Stub process 'scorer_0_0' is not healthy."


@pytest.mark.parametrize("elsewhere", [False, True])
def test_requests_wait_while_triton_restarts(elsewhere):
    async def scene(both):
        users = list(range(20_000))
        await both.score([1])
        both.triton.gate.clear()
        tasks = [both.later(both.score(users)), both.later(both.door.infer(recommend_request(3)))]
        tasks += [both.later(both.score([place])) for place in range(20)]
        await both.until(lambda: both.triton.under_way >= 2)
        await both.triton.end()
        tasks += [both.later(both.score([place])) for place in range(20, 30)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in tasks)
        assert not await both.door.ready()
        assert await both.door.live()
        late = await refused(both.score([1], 0.1))
        assert late.code == LATE
        both.triton.gate.set()
        if elsewhere:
            port, both.triton.port = both.triton.port, 0
            await both.triton.start()
            assert both.triton.port != port
            both.door.upstream.move(both.triton.url)
        else:
            await both.triton.start()
        answers = await asyncio.gather(*tasks)
        assert (answers[0] == expected(users)).all()
        assert [float(answer[0]) for answer in answers[2:]] == expected(list(range(30))).tolist()
        assert await both.door.ready()

    beside_triton(scene)


def test_the_triton_before_a_move_may_finish_and_is_then_left():
    async def scene(both):
        await both.score([1])
        both.triton.gate.clear()
        old_link = both.door.upstream.link
        slow = both.later(both.score([5]))
        await both.until(lambda: both.triton.under_way == 1)
        new = SmallTriton()
        new.version = "2"
        await new.start()
        both.door.upstream.move(new.url)
        both.door.upstream.move(new.url)  # said twice
        assert both.door.upstream.link is not old_link
        await both.door.infer(recommend_request(1))
        assert new.asked
        assert not slow.done()
        both.triton.gate.set()
        assert (await slow == expected([5])).all()
        await both.until(lambda: not both.door.upstream.tasks)
        assert old_link.channel.get_state() == grpc.ChannelConnectivity.SHUTDOWN
        await both.triton.end()  # the old one's end is nobody's loss
        await both.score([1])
        assert both.door.upstream.is_up.is_set()
        await new.end()
        both.triton.asked.clear()
        await both.triton.start()
        both.door.upstream.move(both.triton.url)
        await both.score([1])

    beside_triton(scene)


def test_the_end_of_the_triton_before_is_no_loss_of_the_one_that_is_asked():
    async def scene(both):
        await both.score([1])
        both.triton.gate.clear()
        slow = both.later(both.score([5]))
        await both.until(lambda: both.triton.under_way == 1)
        new = SmallTriton()
        await new.start()
        both.door.upstream.move(new.url)
        await both.triton.end()
        await asyncio.sleep(0.05)
        assert both.door.upstream.is_up.is_set()
        assert (await slow == expected([5])).all()
        await new.end()
        await both.triton.start()
        both.triton.gate.set()
        both.door.upstream.move(both.triton.url)

    beside_triton(scene)


def test_a_new_triton_is_looked_for_though_the_one_before_hangs():
    """A hung Triton takes the question whether it lives, and never answers."""

    async def scene(both):
        deaf = asyncio.Event()

        async def accept(reader, writer):
            await deaf.wait()
            writer.close()

        await both.score([1])
        port = both.triton.port
        await both.triton.end()
        hung = await asyncio.start_server(accept, "127.0.0.1", port)
        waiting = both.later(both.score([2]))
        await both.until(lambda: not both.door.upstream.is_up.is_set() or both.door.upstream.link.under_way > 0)
        both.triton.port = 0
        await both.triton.start()
        new_port = both.triton.port
        both.door.upstream.move(both.triton.url)
        await both.triton.end()
        again = both.later(both.score([3]))
        await asyncio.sleep(0.2)
        await both.triton.start(new_port)
        assert (await again == expected([3])).all()
        deaf.set()
        hung.close()
        assert (await waiting == expected([2])).all()

    beside_triton(scene)


def test_a_request_that_makes_triton_end_is_given_up_and_its_company_is_not():
    async def scene(both):
        ends = 0
        await both.score([1])

        def fail(request):
            nonlocal ends
            if 666 in np.frombuffer(request.raw_input_contents[0], np.int64):
                ends += 1
                return grpc.StatusCode.UNAVAILABLE, "Socket closed"
            return None

        both.triton.fail = fail
        both.triton.gate.clear()
        users = [[place] for place in range(10)] + [[666]] + [[place] for place in range(10, 20)]
        first = both.later(both.score([1]))
        await both.until(lambda: both.triton.under_way == 1)
        tasks = [both.later(both.score(one)) for one in users]
        others = [both.later(both.door.infer(recommend_request(user))) for user in range(10)]
        await asyncio.sleep(0.05)
        both.triton.gate.set()
        await asyncio.wait([first, *tasks, *others])
        for one, task in zip(users, tasks):
            if one == [666]:
                found = refusal_of(task)
                assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "unavailable")
            else:
                assert (task.result() == expected(one)).all()
        assert all(not task.exception() for task in others)
        assert ends == MOST_ENDS + 1

    beside_triton(scene)


def test_a_dead_python_process_is_waited_for_as_long_as_its_repair_takes(monkeypatch):
    monkeypatch.setattr(door_module, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(door_module, "PAUSE", 0.02)

    async def scene(both):
        await both.score([1])
        dead = True
        both.triton.fail = lambda request: (
            (grpc.StatusCode.INTERNAL, DEAD_STUB) if dead and request.model_name == "score" else None
        )
        tasks = [both.later(both.score([place])) for place in range(100)]
        await asyncio.sleep(0.4)
        assert not any(task.done() for task in tasks)
        assert len(both.triton.asked) < 40
        await both.door.infer(recommend_request(1))  # another model goes on
        dead = False
        answers = await asyncio.gather(*tasks)
        assert [float(answer[0]) for answer in answers] == expected(list(range(100))).tolist()

    beside_triton(scene)


def test_a_request_that_always_breaks_its_model_is_given_up(monkeypatch):
    monkeypatch.setattr(door_module, "LONGEST_PAUSE", 0.001)

    async def scene(both):
        both.triton.fail = lambda request: (grpc.StatusCode.INTERNAL, DEAD_STUB)
        found = await refused(both.score([1]))
        assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "unavailable")

    beside_triton(scene)


CAUSES = [
    (grpc.StatusCode.INTERNAL, "Failed to process the request(s), message: ValueError: 666"),
    (grpc.StatusCode.UNKNOWN, "Exception"),
    (grpc.StatusCode.INVALID_ARGUMENT, "unexpected user 666"),
    (grpc.StatusCode.UNIMPLEMENTED, "no"),
]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause[0].name)
def test_what_a_model_refuses_is_refused_soon_and_alone(cause):
    """Others that were asked in the same call are answered, and nothing pauses."""

    async def scene(both):
        await both.score([1])
        both.triton.fail = lambda request: (
            cause if 666 in np.frombuffer(request.raw_input_contents[0], np.int64) else None
        )
        both.triton.gate.clear()
        first = both.later(both.score([1]))
        await both.until(lambda: both.triton.under_way == 1)
        users = [[1], [666], [2], [3]]
        tasks = [both.later(both.score(one)) for one in users]
        await asyncio.sleep(0.05)
        both.triton.gate.set()
        await asyncio.wait([first, *tasks])
        assert not both.door.paused
        for one, task in zip(users, tasks):
            if one == [666]:
                found = refusal_of(task)
                assert found.code == cause[0]
                assert found.reason == ("unavailable" if cause[0] in door_module.FAULTS else "triton")
                assert found.sentence == cause[1]
            else:
                assert (task.result() == expected(one)).all()

    beside_triton(scene)


def test_a_failure_that_passes_is_not_seen():
    async def scene(both):
        left = [1]

        def fail(_):
            left[0] -= 1
            return (grpc.StatusCode.INTERNAL, "Failed to allocate shared memory") if left[0] >= 0 else None

        both.triton.fail = fail
        assert (await both.score([1]) == expected([1])).all()

    beside_triton(scene)


def test_a_call_that_triton_gives_up_as_it_ends_is_made_again():
    async def scene(both):
        await both.score([1])
        failures = iter([(grpc.StatusCode.CANCELLED, "CANCELLED")])
        both.triton.fail = lambda _: next(failures, None)
        assert (await both.score([1]) == expected([1])).all()

    beside_triton(scene)


def test_a_triton_that_stops_gracefully_is_waited_for():
    """It first says of all models that they are unknown, and answers that it lives."""

    async def scene(both):
        await both.score([1])
        both.triton.fail = lambda _: (
            grpc.StatusCode.NOT_FOUND,
            "Request for unknown model: 'score' has no available versions",
        )
        task = both.later(both.score([1]))
        await asyncio.sleep(0.5)
        await both.triton.end()
        await asyncio.sleep(0.2)
        both.triton.fail = lambda _: None
        await both.triton.start()
        assert (await task == expected([1])).all()

    beside_triton(scene)


def less_bytes(answer: Message) -> None:
    answer.raw_output_contents[0] = answer.raw_output_contents[0][:-1]


def no_bytes(answer: Message) -> None:
    del answer.raw_output_contents[:]


def another_type(answer: Message) -> None:
    answer.outputs[0].datatype = "INT8"


def no_outputs(answer: Message) -> None:
    del answer.outputs[:]
    del answer.raw_output_contents[:]


@pytest.mark.parametrize("spoil", [less_bytes, no_bytes, another_type, no_outputs])
def test_an_answer_that_cannot_be_right_is_an_error_of_the_server(spoil):
    async def scene(both):
        await both.score([1])
        both.triton.spoil = spoil
        tasks = [both.later(both.score([1] * size)) for size in (1, 2, 20_000)]
        await asyncio.wait(tasks)
        tasks.append(both.later(both.door.infer(recommend_request(1))))
        await asyncio.wait(tasks)
        for task in tasks:
            found = refusal_of(task)
            assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "unavailable")
        both.triton.spoil = lambda _: None
        assert (await both.score([2]) == expected([2])).all()

    beside_triton(scene)

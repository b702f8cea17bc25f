"""Bounds, fairness, slices and joining, without a server."""

import time
from collections import Counter

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.front_door.joining import joined
from ensemble.front_door.refusal import Refusal
from ensemble.front_door.schedule import CALLS_AT_ONCE, ROWS_AT_ONCE, TOGETHER, Schedule, Waiting
from ensemble.front_door.settings import Limits
from ensemble.front_door.signature import Checked
from tests.ensemble.front_door.models import SIGNATURES, recommend_request, score_request

MANY = Limits(requests=10_000, rows=1 << 40)


def waiting(rows: int, version: str = "", model: str = "score") -> Waiting:
    """A request; its bytes do not matter to the schedule."""
    signature = SIGNATURES[model]
    return Waiting(signature, Checked((), (), rows if signature.rows else 1, 0), version)


def question(user: int) -> Waiting:
    """A request to a model without rows; its key is its bytes."""
    signature = SIGNATURES["recommend"]
    return Waiting(signature, signature.check(recommend_request(user)))


def finish(schedule: Schedule, slices: list) -> None:
    """Answers one call."""
    for one in slices:
        if one.is_wanted:
            one.of.answered += one.stop - one.start
            if one.of.answered == one.of.checked.rows:
                schedule.leave(one.of)
    schedule.done(slices)


def answer_all(schedule: Schedule, model: str = "score") -> list[list]:
    """Answers until nothing waits."""
    calls = []
    while slices := schedule.take(model):
        calls.append(slices)
        finish(schedule, slices)
    return calls


REQUESTS = st.tuples(
    st.one_of(st.integers(0, 3), st.integers(0, 100_000)),  # rows
    st.sampled_from(["", "", "", "1", "2"]),  # version, which makes another key
    st.one_of(st.none(), st.none(), st.integers(0, 30)),  # the step at which its client leaves
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_each_row_of_each_request_that_stays_is_asked_once_in_each_attempt(data):
    """Requests arrive, leave and fail in any order, with up to two calls under way that end in any order."""
    schedule = Schedule(MANY)
    requests = [
        (waiting(rows, version), leaves, place)
        for place, (rows, version, leaves) in enumerate(data.draw(st.lists(REQUESTS, max_size=25)))
    ]
    arrivals = {place: data.draw(st.integers(0, 10)) for _, _, place in requests}
    asked: Counter = Counter()
    under_way: list[list] = []
    failures = data.draw(st.lists(st.booleans(), max_size=8))
    for step in range(500):
        for request, leaves, place in requests:
            if arrivals[place] == step:
                schedule.admit(request)
            if leaves is not None and max(leaves, arrivals[place]) == step:
                schedule.leave(request)
        while slices := schedule.take("score"):
            assert len({one.of.key for one in slices}) == 1
            assert len(slices) <= TOGETHER
            assert sum(one.stop - one.start for one in slices) <= ROWS_AT_ONCE
            for one in slices:
                assert not one.of.is_over
                assert one.attempt == one.of.attempt
                asked[one.of, one.attempt, one.start, one.stop] += 1
            under_way.append(slices)
        assert len(under_way) <= CALLS_AT_ONCE
        if not under_way:
            if step > 31:
                break
            continue
        slices = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
        if failures and failures.pop():
            for one in slices:
                if one.is_wanted:
                    one.of.failures += 1
                    schedule.put_back(one.of)
            schedule.done(slices)
        else:
            finish(schedule, slices)
    for request, leaves, _ in requests:
        if leaves is not None:
            continue
        assert request.answered == request.checked.rows
        assert request.is_over
        spans = sorted(
            (start, stop) for one, attempt, start, stop in asked if (one, attempt) == (request, request.attempt)
        )
        starts = [start for start, _ in spans]
        assert [*starts, request.checked.rows] == [0, *(stop for _, stop in spans)]
    assert set(asked.values()) <= {1}
    assert (schedule.requests, schedule.rows) == (0, 0)
    assert schedule.calls.get("score", 0) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 100), max_size=40), st.integers(1, 10), st.integers(1, 300))
def test_what_is_under_way_stays_within_the_limits(rows, most_requests, most_rows):
    schedule = Schedule(Limits(requests=most_requests, rows=most_rows))
    admitted = []
    for count in rows:
        request = waiting(count)
        before = schedule.requests, schedule.rows
        if before[0] == most_requests or (before[1] and before[1] + max(1, count) > most_rows):
            with pytest.raises(Refusal) as raised:
                schedule.admit(request)
            assert (raised.value.code, raised.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        else:
            schedule.admit(request)
            admitted.append(request)
        assert schedule.requests == len(admitted) <= most_requests
        assert schedule.rows == sum(max(1, one.checked.rows) for one in admitted)
        assert schedule.rows <= most_rows or len(admitted) == 1
    for request in admitted:
        schedule.leave(request)
        schedule.leave(request)  # counted once
    assert (schedule.requests, schedule.rows) == (0, 0)
    assert not schedule.take("score")


def test_a_question_after_health_has_spare_places_beyond_the_bounds():
    schedule = Schedule(Limits(requests=2, rows=10))
    for rows in (5, 5):
        schedule.admit(waiting(rows))
    with pytest.raises(Refusal, match="busy"):
        schedule.admit(waiting(1))
    for _ in range(3):
        schedule.admit(waiting(1), spare=3)
    with pytest.raises(Refusal, match="busy"):
        schedule.admit(waiting(1), spare=3)
    with pytest.raises(Refusal, match="busy"):
        schedule.admit(waiting(2), spare=30)


def test_a_trusted_request_is_admitted_however_much_is_under_way():
    schedule = Schedule(Limits(requests=1, rows=1))
    schedule.admit(waiting(1))
    with pytest.raises(Refusal):
        schedule.admit(waiting(1))
    schedule.admit(waiting(5), trusted=True)
    assert schedule.requests == 2


@pytest.mark.parametrize("make", [question, lambda user: waiting(1, version=str(user % 3))])
def test_a_trusted_request_is_asked_before_all_that_wait(make):
    schedule = Schedule(MANY)
    for user in range(1000):
        schedule.admit(make(user))
    trusted = make(7)
    schedule.admit(trusted, trusted=True)
    assert schedule.take(trusted.signature.model)[0].of is trusted


def test_a_request_of_no_rows_is_asked():
    schedule = Schedule(MANY)
    request = waiting(0)
    schedule.admit(request)
    [[only]] = answer_all(schedule)
    assert (only.of, only.start, only.stop) == (request, 0, 0)


@pytest.mark.parametrize("count", [1, 12, 60])
def test_a_small_request_passes_between_the_slices_of_large_ones(count):
    schedule = Schedule(MANY)
    for _ in range(count):
        schedule.admit(waiting(100_000))
    for _ in range(3):
        finish(schedule, schedule.take("score"))
    small = waiting(1)
    schedule.admit(small)
    finish(schedule, schedule.take("score"))
    assert small.is_over


def test_requests_of_one_kind_do_not_keep_another_kind_waiting():
    schedule = Schedule(MANY)
    for _ in range(200):
        schedule.admit(waiting(100_000))
    other = waiting(1, version="2")
    schedule.admit(other)
    finish(schedule, schedule.take("score"))
    finish(schedule, schedule.take("score"))
    assert other.is_over


def test_one_that_failed_is_asked_alone_and_keeps_no_place_for_ever():
    """What makes Triton fail may be any of the requests that were asked together."""
    schedule = Schedule(MANY)
    requests = [waiting(1) for _ in range(10)]
    for request in requests:
        schedule.admit(request)
    slices = schedule.take("score")
    assert len(slices) == 10
    for one in slices:
        one.of.failures += 1
        schedule.put_back(one.of)
    schedule.done(slices)
    calls = answer_all(schedule)
    assert [len(slices) for slices in calls] == [1] * 10
    assert all(request.is_over for request in requests)


def test_what_an_earlier_attempt_brings_is_not_used():
    schedule = Schedule(MANY)
    request = waiting(2 * ROWS_AT_ONCE)
    schedule.admit(request)
    first = schedule.take("score")
    schedule.put_back(request)
    assert not first[0].is_wanted
    schedule.done(first)
    calls = answer_all(schedule)
    assert [(one.attempt, one.start) for slices in calls for one in slices] == [(1, 0), (1, ROWS_AT_ONCE)]


@pytest.mark.parametrize("failures", [0, 1])
def test_a_large_request_is_answered_beside_any_number_of_small_ones(failures):
    schedule = Schedule(MANY)
    large = waiting(10 * ROWS_AT_ONCE)
    large.failures = failures
    schedule.admit(large)
    calls = 0
    while not large.is_over and calls < 100:
        while schedule.requests < 200:
            schedule.admit(waiting(1))
        finish(schedule, schedule.take("score"))
        calls += 1
    assert calls <= 40


def test_of_those_during_which_triton_ended_one_is_asked_at_a_time_whatever_its_model():
    """Else the one that makes Triton end would always have the same company, and all would be given up."""
    schedule = Schedule(MANY)
    suspects = [waiting(1), question(1), question(2), waiting(1)]
    for one in suspects:
        one.failures = one.ends = 1
        schedule.admit(one)
    other = question(3)
    schedule.admit(other)
    first = schedule.take("score")
    assert [one.of for one in first] == [suspects[0]]
    assert not schedule.take("score")
    beside = schedule.take("recommend")
    assert [one.of for one in beside] == [other]
    assert not schedule.take("recommend")
    finish(schedule, beside)
    assert not schedule.take("recommend")
    assert sorted(schedule.done(first)) == ["recommend", "score"]
    second = schedule.take("recommend")
    assert [one.of for one in second] == [suspects[1]]
    assert not schedule.take("recommend")
    assert not schedule.take("score")


def test_requests_without_rows_are_asked_each_by_itself():
    schedule = Schedule(MANY)
    for user in (1, 1, 2):
        schedule.admit(question(user))
    calls = answer_all(schedule, "recommend")
    assert [len(slices) for slices in calls] == [1, 1, 1]


def test_joined_requests_are_asked_with_each_ones_rows():
    schedule, signature = Schedule(MANY), SIGNATURES["score"]
    for users in ([1, 2], [], [3]):
        schedule.admit(Waiting(signature, signature.check(score_request(users))))
    [slices] = answer_all(schedule)
    request = joined(slices)
    assert [list(one.shape) for one in request.inputs] == [[3], [3]]
    assert request.raw_input_contents[0] == score_request([1, 2, 3]).raw_input_contents[0]


@pytest.mark.parametrize("make", [lambda place: waiting(1), lambda place: waiting(1, str(place)), question])
def test_a_long_queue_costs_little(make):
    """1,000 is as many as may wait; a queue of them is put back and answered in much less than a call takes each."""

    def seconds(count: int) -> float:
        schedule = Schedule(MANY)
        requests = [make(place) for place in range(count)]
        began = time.process_time()
        for request in requests:
            schedule.admit(request)
        model = requests[0].signature.model
        for request in requests:
            schedule.put_back(request)
        answer_all(schedule, model)
        assert schedule.requests == 0
        return time.process_time() - began

    assert min(seconds(1000) for _ in range(3)) < 0.5

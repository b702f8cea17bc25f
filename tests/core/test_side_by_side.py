"""Calls in processes of their own: their results in order, what they say, and how they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import UserError
from core.side_by_side import side_by_side
from tests.names import HANG_SECONDS
from tests.processes import take_interrupts


def double(number: int, say) -> int:
    say("begins", number)
    return 2 * number


def mark() -> None:
    os.environ["MARKED"] = "yes"


def marked(_: int, say) -> str:
    return os.environ.get("MARKED", "")


def process_id(_: int, say) -> int:
    time.sleep(0.2)
    return os.getpid()


def fails(number: int, say) -> None:
    if number == 1:
        raise UserError("one is refused")
    time.sleep(HANG_SECONDS)


class Unsendable(Exception):
    def __init__(self, first, second):
        super().__init__(first)


def fails_oddly(number: int, say) -> None:
    raise Unsendable("odd", number)


def no_space(number: int, say) -> None:
    raise OSError(28, "No space left on device", "some/file")


def is_killed(number: int, say) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleeps(number: int, say) -> None:
    say(os.getpid())
    time.sleep(HANG_SECONDS)


def test_results_are_in_the_order_of_the_calls_and_what_is_said_has_their_number():
    heard = []
    found = side_by_side(double, [(7,), (5,), (6,)], 2, lambda *said: heard.append(said))
    assert found.values == [14, 10, 12]
    assert sorted(heard) == [(0, "begins", 7), (1, "begins", 5), (2, "begins", 6)]
    assert found.peak_mb > 5


def test_each_process_takes_the_next_call():
    found = side_by_side(process_id, [(0,)] * 4, 2, print).values
    assert len(set(found)) == 2
    assert os.getpid() not in found


def test_something_is_done_first_in_each_process_and_not_here():
    assert side_by_side(marked, [(0,), (1,), (2,)], 2, print, first=mark).values == ["yes"] * 3
    assert marked(0, print) == ""


def test_no_more_processes_than_calls():
    assert side_by_side(double, [(1,)], 8, lambda *_: None).values == [2]
    assert side_by_side(double, [], 8, print).values == []


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        (fails, UserError, "one is refused"),
        (no_space, OSError, "No space left on device: 'some/file'"),
        (is_killed, UserError, r"was ended \(exit code -9\); where memory ran out, run again with --threads 1"),
        (fails_oddly, Exception, r"Unsendable: odd"),
    ],
)
def test_what_a_call_raises_is_raised_here_and_ends_the_others(function, error, said):
    began = time.monotonic()
    with pytest.raises(error, match=said):
        side_by_side(function, [(0,), (1,)], 2, print)
    assert time.monotonic() - began < HANG_SECONDS


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(tmp_path, number):
    script = tmp_path / "script.py"
    script.write_text(
        "from core.side_by_side import side_by_side\n"
        "from tests.core.test_side_by_side import sleeps\n"
        "if __name__ == '__main__':\n"
        "    side_by_side(sleeps, [(0,), (1,)], 2, lambda _, process: print(process, flush=True))\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, script],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=take_interrupts,
    ) as parent:
        processes = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(number)
        parent.wait(timeout=HANG_SECONDS)
    deadline = time.monotonic() + HANG_SECONDS
    while any(Path("/proc", str(process)).exists() for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)

"""Attacks in processes of their own, so that they take no time from the clients whose answers are measured."""

import multiprocessing
import queue
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from attacks import GRPC, Attack, Target, largest_batches
from attacks_http import HTTP
from attacks_raw import RAW

LARGEST_BATCHES = "gRPC: largest batches"  # what a server may be asked for, and heavy
ATTACKS: dict[str, Attack] = {
    **{f"gRPC: {name}": attack for name, attack in GRPC.items()},
    **{f"HTTP: {name}": attack for name, attack in HTTP.items()},
    **{f"connections: {name}": attack for name, attack in RAW.items()},
    LARGEST_BATCHES: largest_batches,
}
CANCEL_STORM = "gRPC: cancel storm"
# Each lane is a process, whose attacks take turns.
LANES = (
    (CANCEL_STORM,),
    tuple(
        name
        for name in ATTACKS
        if name.startswith(("gRPC", "connections")) and name not in (CANCEL_STORM, LARGEST_BATCHES)
    ),
    tuple(name for name in ATTACKS if name.startswith("HTTP")),
)
TURN = 4.0  # seconds of an attack
WITHOUT = ", without the secret"
AFTER = 180.0  # seconds after its time in which an attacker must have ended

Outcomes = dict[str, Counter[str]]  # by attack, with or without the secret


def schedule(names: Sequence[str], has_secret: bool, rng: random.Random) -> Iterator[tuple[str, bool]]:
    """Attacks without end, and whether each is made with the secret: all of them once before one comes again."""
    every = [(name, secret) for name in names for secret in ((True, False) if has_secret else (True,))]
    while True:
        yield from rng.sample(every, len(every))


def _lane(
    names: Sequence[str], target: Target, seconds: float, turn: float, whole_round: bool, seed: int, out: Any
) -> None:
    rng, outcomes = random.Random(seed), dict[str, Counter[str]]()
    until = time.monotonic() + seconds
    needed = len(names) * (2 if target.secret else 1) if whole_round else 0
    for number, (name, with_secret) in enumerate(schedule(names, bool(target.secret), rng)):
        left = until - time.monotonic()
        if left <= 0 and number < needed:
            left = turn
        if left <= 0:
            break
        attacker = target if with_secret else replace(target, secret="")
        label = name if with_secret else name + WITHOUT
        found = ATTACKS[name](attacker, min(turn, left), seed + number)
        outcomes.setdefault(label, Counter()).update(found)
    out.put(outcomes)


class Attackers:
    """Running attackers.

    Attributes:
        outcomes: of each attack, once the block has ended.
    """

    def __init__(self) -> None:
        self.outcomes: Outcomes = {}


@contextmanager
def attacking(
    target: Target,
    seconds: float,
    lanes: Sequence[Sequence[str]] = LANES,
    turn: float = TURN,
    *,
    whole_round: bool = False,
    seed: int = 0,
) -> Iterator[Attackers]:
    """Attacks while the block runs, and for no longer than `seconds`; waits for the end of them.

    Args:
        lanes: names in `ATTACKS`, for each process.
        turn: seconds of an attack, before the next of its lane comes.
        whole_round: whether each is made once whatever time that takes, as on a slow machine.

    Raises:
        SystemExit: an attacker broke, or did not end.
    """
    context = multiprocessing.get_context("spawn")
    out, attackers = context.Queue(), Attackers()
    processes = [
        context.Process(
            target=_lane, args=(lane, target, seconds, turn, whole_round, seed + 1000 * number, out), daemon=True
        )
        for number, lane in enumerate(lanes)
    ]
    for process in processes:
        process.start()
    until = time.monotonic() + seconds + AFTER
    try:
        yield attackers
        waiting = len(processes)
        while waiting:
            try:
                found = out.get(timeout=1)
            except queue.Empty:
                if any(process.exitcode for process in processes) or time.monotonic() > until:
                    sys.exit("an attacker broke, or did not end")
                continue
            waiting -= 1
            for label, counts in found.items():
                attackers.outcomes.setdefault(label, Counter()).update(counts)
    finally:
        for process in processes:
            process.join(5)
            process.kill()


def attack(target: Target, seconds: float, *names: str) -> Outcomes:
    """Makes attacks at the same time, and waits until they are over."""
    with attacking(target, seconds, [[name] for name in names], turn=seconds) as attackers:
        pass
    return attackers.outcomes


def table(outcomes: Outcomes) -> dict[str, dict[str, int]]:
    """Outcomes in an order that stays the same, the most frequent first."""
    return {label: dict(outcomes[label].most_common()) for label in sorted(outcomes)}

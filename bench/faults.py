"""What clients see while things break: faults are made under load, every answer is held against the files'.

Four clients ask `score`, `recommend` and `similar` without pause: three through the gRPC client that Marquee ships, one
over HTTP. Each waits ten seconds for an answer. Whatever is done to the server meanwhile, each of their requests ends
as right, wrong or failed. A fault is over when no request has failed for five seconds, and none waits for longer than
a second; the seconds to recover go from the fault to the last failure.
"""

import argparse
import json
import multiprocessing
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attackers
import inputs
import numpy as np
import psutil
import records
from good_clients import Clients, Seen
from served import Served, served

from core.errors import UserError

QUIET = 5.0  # seconds without a failure, after which a fault is over
SHORT_WAIT = 1.0  # seconds that every client waits at most, once a fault is over
LONGEST = 90.0
RECOVERED = 30.0  # seconds that a fault may last
GROWTH = 1.2  # times what the server held before a minute of load
MINUTE = 60.0
ATTACK_SECONDS = 8.0
VANISHING = 10  # clients
REPLACED = ("scorer", "recommend")  # models whose folders a new version changes

BACK = ("reloaded in", "Triton was started again")
DOOR_BACK = ("the front door was started again",)
SWITCHED, REFUSED = ("is served, after a rehearsal",), ("is not served",)

Make = Callable[[Served, Path], None]


@dataclass(frozen=True)
class Fault:
    """
    Attributes:
        name: in words.
        make: what is done, with a running server and its repository.
        is_safe: no request of any good client may fail.
        told: it is not over before `serve` has said one of these.
    """

    name: str
    make: Make
    is_safe: bool = False
    told: tuple[str, ...] = ()

    def is_told(self, lines: list[str]) -> bool:
        """Whether `serve` has said what it must."""
        return not self.told or any(words in line for line in lines for words in self.told)


# -- attacks -----------------------------------------------------------------------------------------------------------


def _attack(*names: str) -> Make:
    def make(running: Served, _: Path) -> None:
        attackers.attack(running.target, ATTACK_SECONDS, *names)

    return make


def _all_of(kind: str, *but: str) -> tuple[str, ...]:
    return tuple(name for name in attackers.ATTACKS if name.startswith(kind) and name not in but)


def _vanish(running: Served, _: Path) -> None:
    """Ten clients that are killed while they wait for the scores of 200,000 pairs."""
    context = multiprocessing.get_context("spawn")
    asked = [context.Process(target=_ask_much, args=(running.target.grpc,), daemon=True) for _ in range(VANISHING)]
    for process in asked:
        process.start()
    time.sleep(4)  # they import, connect and ask, again and again
    for process in asked:
        process.kill()
        process.join()


def _ask_much(url: str) -> None:
    from ensemble import client

    while True:
        with suppress(UserError):
            client.infer(url, "score", [client.tensor(n, np.ones(200_000), np.int64) for n in ("user_id", "movie_id")])


def _nothing(_: Served, __: Path) -> None:
    time.sleep(MINUTE)


# -- processes and folders ---------------------------------------------------------------------------------------------


def _signal_stub(model: str, number: signal.Signals) -> Make:
    return lambda running, _: running.stub(model).send_signal(number)


def _kill_server(running: Served, _: Path) -> None:
    running.triton().kill()


def _kill_loaded_server(running: Served, _: Path) -> None:
    """Twelve clients ask for the largest batches meanwhile."""
    lanes = [[attackers.LARGEST_BATCHES]]
    with attackers.attacking(running.target, ATTACK_SECONDS, lanes, turn=ATTACK_SECONDS):
        time.sleep(ATTACK_SECONDS / 2)
        running.triton().kill()


def _signal_front_door(number: signal.Signals) -> Make:
    def make(running: Served, _: Path) -> None:
        for worker in running.front_doors():
            worker.send_signal(number)

    return make


def _empty_temporary(running: Served, _: Path) -> None:
    """As cleaners of temporary folders do; then something breaks that a repair needs those files for."""
    stub = running.stub("scorer")
    for path in running.temporary.glob("*/*"):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    with suppress(psutil.Error):  # it was ended by the supervisor already
        stub.kill()


def _delete_run(running: Served, repository: Path) -> None:
    """The run's folder, with the repository and the log in it, is gone while Triton is killed."""
    run = repository.parent
    aside = run.rename(run.with_name("aside"))
    before = running.triton()
    before.kill()
    until = time.monotonic() + RECOVERED
    while time.monotonic() < until:
        with suppress(Exception):
            if running.triton() != before and running.answers():
                break
        time.sleep(0.5)
    if run.exists():  # a log that was made there again
        shutil.rmtree(run)
    aside.rename(run)


# -- versions ----------------------------------------------------------------------------------------------------------


def _replace(repository: Path, change: Callable[[Path], None]) -> None:
    """Puts a new version of the same files, changed, in the place of the one that serves."""
    from core.json_files import read_json
    from ensemble.repository.versions import models_of, new_version

    manifest = read_json(repository / "manifest.json")
    served_version = str(manifest["version"])
    details = dict(manifest["releases"][served_version])
    with new_version(repository, details.pop("fingerprint"), None, details) as (out, version):
        for model in models_of(repository):
            shutil.copytree(repository / model / served_version, out / model / str(version))
            text = (repository / model / "config.pbtxt").read_text()
            text = text.replace(f"versions: [ {served_version} ]", f"versions: [ {version} ]")
            for config in (out / model / "config.pbtxt", out / model / str(version) / "config.pbtxt"):
                config.write_text(text)
        for folder in (out / model / str(version) for model in REPLACED):
            change(folder)


def _new_version(_: Served, repository: Path) -> None:
    _replace(repository, lambda folder: None)


def _wrong_version(running: Served, repository: Path) -> None:
    def spoil(folder: Path) -> None:
        for path in folder.glob("*.user.npy"):
            np.save(path, np.load(path) * 1.01)

    _refused(running, repository, lambda: _replace(repository, spoil))


def _tampered_version(running: Served, repository: Path) -> None:
    """The file is changed before the version can be seen: one that `serve` has copied already is served as it was."""
    changed, old = repository.with_name("changed"), repository.with_name("old")
    shutil.copytree(repository, changed)
    _replace(changed, lambda folder: None)
    version = json.loads((changed / "manifest.json").read_text())["version"]
    with open(changed / "scorer" / str(version) / "model.py", "a") as file:
        file.write("\n")

    def put() -> None:
        repository.rename(old)
        changed.rename(repository)
        shutil.rmtree(old)

    _refused(running, repository, put)


def _refused(running: Served, repository: Path, change: Callable[[], None]) -> None:
    """Makes a version that must be refused, and puts the repository back once it was."""
    kept = Path(shutil.copytree(repository, repository.with_name("kept")))
    said = len(running.lines)
    change()
    until = time.monotonic() + RECOVERED
    while len(running.lines) == said and time.monotonic() < until:
        time.sleep(0.2)
    shutil.rmtree(repository)
    kept.rename(repository)


def _rollback(_: Served, repository: Path) -> None:
    from ensemble.repository.versions import rollback

    rollback(repository)


FAULTS = [
    Fault("nothing, for a minute", _nothing, is_safe=True),
    Fault("clients that ask nonsense, over gRPC and HTTP", _attack("gRPC: nonsense", "HTTP: nonsense"), is_safe=True),
    Fault("ten clients that vanish while they wait for 200,000 scores each", _vanish, is_safe=True),
    Fault("eight clients that cancel, or wait 0 to 8 ms", _attack(attackers.CANCEL_STORM), is_safe=True),
    Fault("shapes that overflow, gRPC", _attack("gRPC: overflow shapes"), is_safe=True),
    Fault("shapes that overflow, HTTP", _attack("HTTP: overflow shapes"), is_safe=True),
    Fault("two million pairs", _attack("gRPC: two million pairs"), is_safe=True),
    Fault("JSON nested 100,000 deep", _attack("HTTP: deep JSON"), is_safe=True),
    Fault("a body of 3.6 MB in chunks of one byte", _attack("HTTP: one-byte chunks"), is_safe=True),
    Fault("a gigabyte, compressed", _attack("HTTP: gzip bomb"), is_safe=True),
    Fault("malformed strings beside good ones", _attack("gRPC: malformed strings"), is_safe=True),
    Fault(
        "connections dropped, idle, half open, unread, and HTTP/2 garbage",
        _attack(*_all_of("connections")),
        is_safe=True,
    ),
    Fault("twelve clients that ask for the largest batches", _attack(attackers.LARGEST_BATCHES), is_safe=True),
    Fault("`score`'s Python process killed (SIGKILL)", _signal_stub("scorer", signal.SIGKILL), told=BACK),
    Fault("`recommend`'s Python process killed (SIGKILL)", _signal_stub("recommend", signal.SIGKILL), told=BACK),
    Fault("`score`'s Python process hangs (SIGSTOP)", _signal_stub("scorer", signal.SIGSTOP), told=BACK),
    Fault("Triton killed (SIGKILL)", _kill_server, is_safe=True, told=BACK),
    Fault("Triton killed beside twelve clients with the largest batches", _kill_loaded_server, told=BACK),
    Fault("the front door killed (SIGKILL)", _signal_front_door(signal.SIGKILL), told=DOOR_BACK),
    Fault("the front door hangs (SIGSTOP)", _signal_front_door(signal.SIGSTOP), told=DOOR_BACK),
    Fault("the temporary folder emptied, then `score`'s Python process killed", _empty_temporary, told=BACK),
    Fault("a new version", _new_version, is_safe=True, told=SWITCHED),
    Fault("rollback", _rollback, is_safe=True, told=SWITCHED),
    Fault("a new version whose scores are wrong", _wrong_version, is_safe=True, told=REFUSED),
    Fault("a new version with a changed file", _tampered_version, is_safe=True, told=REFUSED),
    Fault("the run's folder deleted, then Triton killed", _delete_run, told=BACK),
]
BY_NAME = {fault.name: fault for fault in FAULTS}
SAFE = {fault.name for fault in FAULTS if fault.is_safe}


def measure(run_folder: Path) -> list[dict[str, Any]]:
    """Every fault in turn, on one server."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        repository = Path(shutil.copytree(run_folder / "repository", folder / "run" / "repository"))
        with served(repository, folder) as running, Clients(running.target, repository) as clients:
            for fault in FAULTS:
                found.append(one(fault, running, repository, clients)[0])
                print(json.dumps(found[-1]), flush=True)
    return found


def one(fault: Fault, running: Served, repository: Path, clients: Clients) -> tuple[dict[str, Any], Seen]:
    """Makes a fault and waits until it is over; the row of its table, and all that the clients saw."""
    running.wait()
    time.sleep(2)
    clients.take()
    said = len(running.told())
    before = _memory(running)
    began = time.monotonic()
    fault.make(running, repository)
    time.sleep(QUIET)
    seen = clients.take()
    while time.monotonic() < began + LONGEST:
        last = max((when for when, _ in seen.failures), default=began)
        waiting = clients.longest_wait() > SHORT_WAIT or not fault.is_told(running.told()[said:])
        if time.monotonic() > last + QUIET and not waiting:
            break
        time.sleep(1)
        seen.add(clients.take())
    last = max((when for when, _ in seen.failures), default=began)
    latencies = [seconds for of_one in seen.seconds.values() for seconds in of_one]
    row = {
        "fault": fault.name,
        "seen": next(iter(seen.reasons), "nothing"),
        "right": seen.right,
        "failed": len(seen.failures),
        "wrong": seen.wrong,
        "slowest_seconds": round(max(latencies, default=0.0), 1),
        "seconds_to_recover": round(last - began, 1),
        "told": running.told()[said:],
        "memory_before_mb": before,
        "memory_after_mb": _memory(running),
    }
    return row, seen


def _memory(running: Served) -> int | None:
    """None while there is no server."""
    try:
        return round(running.memory())
    except (psutil.Error, UserError):
        return None


def troubles(found: list[dict[str, Any]]) -> list[str]:
    """Wrong answers, faults that lasted too long or were not mended, failures where none may be, and lost memory."""
    return records.memory_troubles(found[0], GROWTH) + [
        json.dumps(row)
        for row in found
        if row["wrong"]
        or row["seconds_to_recover"] > RECOVERED
        or (row["failed"] and row["fault"] in SAFE)
        or not BY_NAME[row["fault"]].is_told(row["told"])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=inputs.ROOT / "runs" / "ml-100k", help="a run folder")
    parser.add_argument("--out", type=Path, default=records.FAULTS)
    given = parser.parse_args()
    found = {"machine": records.machine(), "faults": measure(given.run)}
    records.save(given.out, found)
    records.stop_on(troubles(found["faults"]))


if __name__ == "__main__":
    main()

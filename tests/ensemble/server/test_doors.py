"""The front door's processes are started, asked and replaced: with a stand-in that does what it is ordered to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from core.errors import UserError
from ensemble.client import NoServerError, TimedOutError
from ensemble.server import doors, worker
from ensemble.server.access import Inside, ServerAccess
from ensemble.server.doors import FrontDoor, default_workers
from ensemble.server.events import EventLog
from ensemble.server.ports import Ports
from ensemble.server.workspace import Workspace
from tests.names import HANG_SECONDS

# Keeps its settings and notes in a file, says that it listens, and ends with its input.
STAND_IN = """
import json, os, pathlib, signal, socket, sys
settings = json.loads(sys.stdin.readline())
folder = pathlib.Path({folder!r})
kept = folder / f"worker-{{settings['worker']}}-{{os.getpid()}}"
kept.write_text(json.dumps(settings) + "\\n")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
{trouble}
private = socket.socket(socket.AF_UNIX)
private.bind(settings["private"])
print("ready", json.dumps({{"grpc": settings["grpc"] or 4711, "http": None, "metrics": None}}), flush=True)
for line in sys.stdin:
    with open(kept, "a") as file:
        file.write(line)
"""


ANY, OPEN = Ports(0), ServerAccess()


class Doors:
    """A front door of stand-ins, and what they were given."""

    def __init__(self, folder: Path):
        self.folder, self.made = folder, []
        self.history = EventLog(lambda _: None)

    def command(self, trouble: str = "") -> tuple[str, ...]:
        return sys.executable, "-c", STAND_IN.format(folder=str(self.folder), trouble=trouble)

    def start(self, workers: int = 1, trouble: str = "", ports: Ports = ANY, access: ServerAccess = OPEN):
        door = FrontDoor(
            lambda: self.folder / "work", self.folder / "door.log", ports, access,
            workers=workers, history=self.history, command=self.command(trouble),
        )  # fmt: skip
        self.made.append(door)
        door.start("127.0.0.1:1", {"secret": "s"})
        return door

    def given(self, door: FrontDoor, number: int = 0, pid: int = 0) -> list[dict]:
        """The settings and notes of a process: the one that runs, where none is named."""
        pid = pid or door.places[number].worker.process.pid
        return [json.loads(line) for line in (self.folder / f"worker-{number}-{pid}").read_text().splitlines()]

    def until(self, door: FrontDoor, words: str, ask=lambda *_: None) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while not any(words in event.what for event in self.history.events):
            assert time.monotonic() < deadline, [event.what for event in self.history.events]
            door.step(ask)
            time.sleep(0.01)


@pytest.fixture
def made(tmp_path):
    doors_made = Doors(tmp_path)
    yield doors_made
    for door in doors_made.made:
        for place in door.places:
            if place.worker:  # what hangs need not be waited for
                place.worker.kill()
                place.worker = None
        door.close()


def wait_for(condition) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_settings_come_first_and_notes_after_them(made):
    door = made.start(access=ServerAccess("open-sesame"), ports=Ports(0, 0, 8002))
    settings = made.given(door)[0]  # a note may have come by now
    assert settings["triton"] == "127.0.0.1:1"
    assert settings["triton_headers"] == {"secret": "s"}
    assert settings["secret"] == "open-sesame"
    assert settings["http"] is None
    assert settings["metrics"] == 8002
    assert settings["private_secret"] != "open-sesame"
    door.count("model_reloads", model="scorer")
    door.set("served_version", 3)
    door.move("127.0.0.1:2", "127.0.0.1:3")
    wait_for(lambda: len(made.given(door)) == 5)
    assert made.given(door)[1:] == [
        {"triton": "127.0.0.1:1", "http": ""},
        {"count": "model_reloads", "model": "scorer"},
        {"set": "served_version", "value": 3},
        {"triton": "127.0.0.1:2", "http": "127.0.0.1:3"},
    ]


def test_the_port_that_the_first_process_chose_is_that_of_all(made):
    door = made.start(workers=3)
    assert door.ports.grpc == 4711
    assert door.ports.url == "127.0.0.1:4711"
    settings = [made.given(door, number)[0] for number in range(3)]
    assert [one["grpc"] for one in settings] == [0, 4711, 4711]
    assert [one["worker"] for one in settings] == [0, 1, 2]
    assert {one["workers"] for one in settings} == {3}
    assert len({one["private"] for one in settings}) == 3
    door.count("triton_restarts")
    wait_for(lambda: {"count": "triton_restarts"} in made.given(door, 0))
    assert {"count": "triton_restarts"} not in made.given(door, 1)  # one counts for all


def test_one_that_does_not_listen_is_refused_with_its_last_error(made):
    with pytest.raises(UserError, match=r"exit code 3.*the disk is on fire.*door\.log") as refused:
        made.start(trouble="print('error: the disk is on fire', file=sys.stderr, flush=True); os._exit(3)")
    assert "\n" not in str(refused.value)


def test_one_that_says_nothing_is_refused(made, monkeypatch):
    monkeypatch.setattr(worker, "START_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"did not listen after 0\.5 s"):
        made.start(trouble="import time; time.sleep(600)")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_one_that_died_is_started_again_and_counted(made, number):
    door = made.start(workers=2)
    door.set("served_version", 7)
    before = door.pids()
    os.kill(before[0], number)
    made.until(door, "was started again in")
    assert f"exit code {-number}" in made.history.events[0].what
    assert door.pids()[0] != before[0]
    assert door.pids()[1] == before[1]
    wait_for(lambda: {"count": "front_door_restarts"} in made.given(door))
    assert {"set": "served_version", "value": 7} in made.given(door)
    assert made.given(door)[0]["grpc"] == 4711


@pytest.mark.parametrize("error", [TimedOutError("too late"), NoServerError("nothing there")])
def test_one_that_hangs_is_replaced_after_three_misses(made, error):
    door = made.start()
    (before,) = door.pids()
    asked: list[tuple] = []

    def ask(url, access, seconds):
        asked.append((url, access, seconds))
        if len(asked) <= doors.MISSES_IN_A_ROW:
            raise error

    for _ in range(doors.MISSES_IN_A_ROW - 1):
        door.step(ask)
    assert door.pids() == [before]
    made.until(door, "was started again in", ask)
    assert "does not answer" in made.history.events[0].what
    assert door.pids() != [before]
    assert not psutil.pid_exists(before)
    url, access, _ = asked[0]
    assert url == f"unix:{made.folder}/work/door-0-1"
    assert access.headers["marquee-canary"] == "1"
    assert isinstance(access, Inside)


def test_one_that_refuses_answers(made):
    door = made.start()
    before = door.pids()

    def ask(*_):
        raise UserError("too much is under way")

    for _ in range(2 * doors.MISSES_IN_A_ROW):
        door.step(ask)
    assert door.pids() == before
    assert made.history.events == []


def test_without_triton_nothing_is_asked(made):
    door = made.start()
    for _ in range(2 * doors.MISSES_IN_A_ROW):
        door.step(None)
    assert made.history.events == []


def test_where_its_socket_is_gone_another_one_listens_before_it_ends(made):
    door = made.start()
    (before,) = door.pids()
    for path in (made.folder / "work").iterdir():
        path.unlink()
    (made.folder / "work").rmdir()
    door.step(None)
    door.step(None)
    assert "socket is gone" in made.history.events[0].what
    assert door.pids() != [before]
    assert psutil.Process(before).status() != psutil.STATUS_ZOMBIE
    made.until(door, "was started again in")
    wait_for(lambda: door.step(lambda *_: None) or not psutil.pid_exists(before))


def test_one_that_has_grown_is_replaced_by_one_that_listens_before_it_ends(made):
    door = made.start(trouble="for held in (50e6, 71e6, 71e6, 71e6): print('holds', held, flush=True)")
    (before,) = door.pids()
    door.command = made.command()
    door.step(None)
    assert "holds 21 MB more than at its start" in made.history.events[0].what
    made.until(door, "was started again in")
    assert door.pids() != [before]
    wait_for(lambda: door.step(lambda *_: None) or not psutil.pid_exists(before))
    assert made.given(door, pid=before)[-1] == {"grace": door.settings.limits.seconds}


def test_one_that_has_grown_and_missed_a_question_is_replaced_once_it_answers(made):
    door = made.start(trouble="for held in (50e6, 71e6, 71e6, 71e6): print('holds', held, flush=True)")
    before = door.pids()
    door.places[0].worker.misses = 1
    door.step(None)
    assert door.pids() == before  # it would be killed, and its clients' requests with it
    door.step(lambda *_: None)
    door.step(None)
    assert "holds 21 MB more than at its start" in made.history.events[0].what
    assert psutil.Process(before[0]).status() != psutil.STATUS_ZOMBIE


def test_one_that_holds_much_for_a_moment_stays(made):
    door = made.start(trouble="for held in (50e6, 999e6, 69e6, 999e6): print('holds', held, flush=True)")
    before = door.pids()
    door.step(lambda *_: None)
    assert door.pids() == before
    assert made.history.events == []


def test_it_gives_up_loudly(made, monkeypatch):
    monkeypatch.setattr(doors, "TRIES_IN_A_ROW", 2)
    door = made.start()
    door.command = (sys.executable, "-c", "import os, sys; sys.stderr.write('no way\\n'); os._exit(1)")
    for place in door.places:
        place.backoff.longest = 0.0
    os.kill(door.pids()[0], signal.SIGKILL)
    with pytest.raises(UserError, match=r"was started 2 times and never answered: .*no way"):
        made.until(door, "this is never said")


def test_a_full_pipe_does_not_block(made):
    door = made.start()
    os.kill(door.pids()[0], signal.SIGSTOP)
    for _ in range(10_000):
        door.count("triton_restarts")
    os.kill(door.pids()[0], signal.SIGCONT)


def test_closing_lets_it_end_by_itself(made):
    door = made.start(trouble="import atexit; atexit.register((folder / 'ended').touch)")
    (pid,) = door.pids()
    door.close()
    assert (made.folder / "ended").exists()
    assert not psutil.pid_exists(pid)
    assert not list((made.folder / "work").glob("door-*"))


def test_closing_ends_one_that_does_not_end(made, monkeypatch):
    monkeypatch.setattr(doors, "STOP_SECONDS", 0.2)
    door = made.start(trouble="import atexit, time; atexit.register(time.sleep, 600)")
    (pid,) = door.pids()
    door.close()
    assert not psutil.pid_exists(pid)


def test_it_ends_with_the_process_that_started_it_also_where_it_hangs(tmp_path):
    stand_in = STAND_IN.format(folder=str(tmp_path), trouble="")
    program = f"""
import os, signal, sys, time, pathlib
from ensemble.server.access import ServerAccess
from ensemble.server.doors import FrontDoor
from ensemble.server.events import EventLog
from ensemble.server.ports import Ports
from ensemble.server.workspace import Workspace
folder = pathlib.Path({str(tmp_path)!r})
door = FrontDoor(lambda: folder / "work", folder / "log", Ports(0), ServerAccess(), workers=2,
                 history=EventLog(print), command=({sys.executable!r}, "-c", {stand_in!r}))
door.start("127.0.0.1:1", {{}})
os.kill(door.pids()[1], signal.SIGSTOP)
print(*door.pids(), flush=True)
time.sleep(600)
"""
    root = Path(doors.__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root, text=True) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        process.kill()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_a_path_too_long_for_a_socket_is_refused(made, tmp_path):
    made.folder = tmp_path / ("x" * 100)
    made.folder.mkdir()
    with pytest.raises(UserError, match="shorter --work-dir"):
        made.start()


def test_a_long_work_dir_has_its_sockets_elsewhere(tmp_path):
    """Which are removed with it."""
    place = tmp_path / ("x" * 100)
    place.mkdir()
    workspace = Workspace(place)
    sockets = workspace.sockets
    assert workspace.folder.parent == place
    assert len(str(sockets / "door-63-1000")) < doors.LONGEST_SOCKET
    assert sockets.stat().st_mode & 0o777 == 0o700
    workspace.close()
    assert not sockets.exists()
    assert not workspace.folder.exists()
    short = Workspace(Path("/tmp"))
    assert short.sockets == short.folder
    short.close()


def test_the_processors_decide_how_many_there_are(monkeypatch):
    for cores, workers in ((1, 1), (2, 1), (7, 1), (8, 2), (16, 4), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert default_workers() == workers

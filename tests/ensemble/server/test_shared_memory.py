"""The shared memory of a server: held while one of its processes lives, removed by the next server after that."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ensemble.server.shared_memory import release, reserved

ROOT = Path(__file__).resolve().parents[3]
# A command that starts a server, which has a Python process of its own; it ends, or is killed, before they do.
COMMAND = """
import subprocess, sys
from pathlib import Path
from ensemble.server.shared_memory import reserved
with reserved(Path(sys.argv[1])) as (prefix, inherited):
    server = ["sh", "-c", "sleep 600 & echo $! && exec sleep 600"]
    stub = subprocess.Popen(server, pass_fds=inherited, stdout=subprocess.PIPE, text=True).stdout.readline().strip()
    (Path(sys.argv[1]) / f"{prefix}region").write_text("shared")
    if sys.argv[2] == "starting":
        print(f"{prefix} {stub}", flush=True)
        sys.stdin.readline()
print(f"{prefix} {stub}", flush=True)
sys.stdin.readline()
"""


def present(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


@pytest.fixture(params=["starting", "serving"])
def killed(request, tmp_path):
    """The ids of a killed command's server and its Python process, which live on."""
    command = [sys.executable, "-c", COMMAND, str(tmp_path), request.param]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        prefix, stub = process.stdout.readline().split()
        process.kill()
        process.wait(60)
        yield prefix, process.pid, int(stub)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def use(place: Path) -> None:
    with reserved(place) as (prefix, _):
        pass
    release(prefix, place)


def test_what_a_server_leaves_is_removed_by_the_next_once_none_of_its_processes_lives(tmp_path, killed):
    prefix, group, _ = killed
    theirs = {f"{prefix}region", f"{prefix.removesuffix('-')}.lock"}
    use(tmp_path)
    assert present(tmp_path) == theirs
    os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while present(tmp_path) and time.monotonic() < deadline:  # the kernel takes a moment to end them
        use(tmp_path)
    assert present(tmp_path) == set()


def test_a_python_process_alone_holds_the_memory(tmp_path, killed):
    prefix, group, stub = killed
    for pid in {int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal()}:
        try:
            ours = os.getpgid(pid) == group
        except ProcessLookupError:
            continue
        if ours and pid != stub:
            os.kill(pid, signal.SIGKILL)
    use(tmp_path)
    assert f"{prefix}region" in present(tmp_path)


def test_other_files_stay(tmp_path):
    names = {"marquee-0123456789abcdef-region", "marquee-xyz.lock", "other.lock", "marquee-0123456789abcdef-lock"}
    for name in names:
        (tmp_path / name).write_text("")
    use(tmp_path)
    assert present(tmp_path) == names


def test_without_shared_memory_there_is_a_prefix(tmp_path):
    with reserved(tmp_path / "nowhere") as (prefix, inherited):
        assert prefix.startswith("marquee-")
        assert inherited == ()


def test_released_memory_is_gone(tmp_path):
    with reserved(tmp_path) as (prefix, _), reserved(tmp_path) as (other, _):
        for one in (prefix, other):
            (tmp_path / f"{one}region").write_text("")
        release(prefix, tmp_path)
        assert present(tmp_path) == {f"{other}region", f"{other.removesuffix('-')}.lock"}

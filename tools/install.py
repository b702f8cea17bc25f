"""Installs a lock into the environment whose Python runs this: `python tools/install.py requirements.txt`."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import uv_settings

TOOLS = Path(__file__).resolve().parent
REQUIREMENT = re.compile(r"^[A-Za-z0-9].*?(?=^[A-Za-z0-9#]|\Z)", re.MULTILINE | re.DOTALL)
HASH = re.compile(r"\s*\\?\s+--hash=\S+")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
PYTORCH_SECONDS = 20  # for PyTorch's own index to say what it has, before it counts as out of reach
IMPORT_TORCH = "import torch; print(torch.__version__, torch.version.cuda or '')"


def main(lock: Path) -> int:
    """The exit code: 0 once all of the lock is there and torch can be imported; else the installer's own."""
    uv = uv_itself()
    failed = with_uv(uv, lock) if uv else with_pip(lock)
    return failed or check_torch(lock)


def uv_itself() -> Path | None:
    """uv, installed into the environment; None where pip cannot find it."""
    done = subprocess.run(
        [*PIP, "install", "--quiet", "--no-color", "--require-hashes", "-r", TOOLS / "uv.txt"],
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return Path(sys.executable).parent / "uv"
    print(
        f"uv cannot be had here ({last_line(done.stderr)[:200]}); pip installs instead, which takes minutes", flush=True
    )
    return None


def with_uv(uv: Path, lock: Path) -> int:
    settings = uv_settings.of_pip(uv_settings.pips_own(PIP))
    install = [uv, "pip", "install", "--python", sys.executable, *settings.flags]
    quiet = () if sys.stderr.isatty() else ("--quiet",)
    backend = torch_backend(install, settings, lock)
    # Python compiles what it imports once, unless it may not write: then each start would compile all of it again.
    compiled = ("--compile-bytecode",) if sys.dont_write_bytecode else ()
    return subprocess.run(
        [*install, *quiet, *backend, *compiled, "--exact", "-r", lock], env=settings.environment
    ).returncode


def torch_backend(install: list[str | Path], settings: uv_settings.Settings, lock: Path) -> tuple[str, ...]:
    """`--torch-backend=auto`, the build for this machine's driver or its lack, where PyTorch's index has it.

    Nothing where that index cannot be reached, or UV_TORCH_BACKEND or pip's `no-index` says otherwise: then the build
    is the one that the configured indexes offer.
    """
    torch = pinned_torch(lock)
    if torch is None or not settings.may_ask_pytorch:
        return ()
    ask = [*install, "--quiet", "--dry-run", "--no-deps", "--reinstall-package=torch", "--torch-backend=auto", torch]
    once = {**settings.environment, "UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "10", "UV_HTTP_CONNECT_TIMEOUT": "5"}
    try:
        found = subprocess.run(ask, env=once, capture_output=True, timeout=PYTORCH_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        found = False
    return ("--torch-backend=auto",) if found else ()


def pinned_torch(lock: Path) -> str | None:
    found = re.search(r"^torch==[^\s;\\]+", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return found[0] if found else None


def with_pip(lock: Path) -> int:
    """The same with pip, which checks hashes only where every package has one: those that have one go first."""
    requirements = [entry.strip() for entry in REQUIREMENT.findall(lock.read_text(encoding="utf-8"))]
    hashed = [entry for entry in requirements if "--hash" in entry]
    plain = [HASH.sub("", entry) for entry in requirements]
    output = () if sys.stdout.isatty() else ("--quiet",)
    with tempfile.TemporaryDirectory() as folder:
        for name, entries, more in (("hashed.txt", hashed, ["--no-deps"]), ("plain.txt", plain, [])):
            file = Path(folder, name)
            file.write_text("\n".join(entries) + "\n", encoding="utf-8")
            if entries and (failed := subprocess.run([*PIP, "install", *output, *more, "-r", file]).returncode):
                return failed
    return 0


def check_torch(lock: Path) -> int:
    """Prints which build of torch it is; fails if that build lacks a library of its own."""
    if pinned_torch(lock) is None:
        return 0
    done = subprocess.run([sys.executable, "-c", IMPORT_TORCH], capture_output=True, text=True)
    if done.returncode:
        print(f"error: PyTorch is installed but cannot be imported: {last_line(done.stderr)}", file=sys.stderr)
        return 1
    version, _, cuda = done.stdout.strip().partition(" ")
    print(f"PyTorch {version}: the {f'build for CUDA {cuda}' if cuda else 'CPU build'}")
    return 0


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing was said"])[-1]


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except KeyboardInterrupt:
        print("stopped; the next set-up goes on with what was fetched", file=sys.stderr)
        sys.exit(130)

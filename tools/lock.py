"""Writes an exact lock with hashes: `python tools/lock.py requirements.in requirements.txt [uv's options]`.

The lock is for every machine, so it is made from the registry alone (pip's `index-url`), not from the further indexes,
folders and ceilings in the configuration of this machine's pip: their files may be builds that others cannot have.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import uv_settings
from install import PIP, TOOLS

OF_THIS_MACHINE = ("extra-index-url", "find-links", "constraint", "no-index")
USABLE = re.compile(
    r"-(py2\.py3|py3|cp310|cp311|cp3\d-abi3|cp3\d)(\.[a-z0-9.]+)?-(none|abi3|cp310|cp311)-(any|.*x86_64)\.whl$"
)
UNHASHED = ("torch",)  # its build varies with the machine
# What pyproject.toml's `environments` says already is not repeated on every line.
PLAIN = (
    (re.compile(r" and implementation_name .*"), ""),
    (re.compile(r"^(python_full_version >= '3\.10' and )?python_full_version < '3\.12'$"), ""),
    (re.compile(r"== '3\.10\.\*'"), "< '3.11'"),
    (re.compile(r"== '3\.11\.\*'"), ">= '3.11'"),
)


def main(asked: Path, lock: Path, *options: str) -> int:
    """Replaces the lock, but for the comments at its head, once all is resolved; else returns uv's exit code."""
    configured = {name: value for name, value in uv_settings.pips_own(PIP).items() if name not in OF_THIS_MACHINE}
    settings = uv_settings.of_pip(configured)
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "pylock.toml")
        compile_ = [Path(sys.executable).parent / "uv", "pip", "compile", "--quiet", "--universal", *settings.flags]
        where = ["--project", TOOLS / "lock", "--python-version", "3.10", "--format", "pylock.toml", "-o", found]
        done = subprocess.run([*compile_, *where, *options, asked], env=settings.environment)
        if done.returncode:
            return done.returncode
        packages = read_toml(found)["packages"]
    head = (
        [line for line in lock.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        if lock.exists()
        else []
    )
    new = lock.with_name(f"{lock.name}.new")
    new.write_text("\n".join([*head, *map(entry, packages)]) + "\n", encoding="utf-8")
    new.replace(lock)
    return 0


def entry(package: dict[str, Any]) -> str:
    """A package's lines: version, marker, and the hashes of its source and of the wheels that the lock is for."""
    marker = package.get("marker", "")
    for pattern, instead in PLAIN:
        marker = pattern.sub(instead, marker)
    first = f"{package['name']}=={package['version']}" + (f" ; {marker}" if marker else "")
    if package["name"] in UNHASHED:
        return first
    wheels = [wheel for wheel in package.get("wheels", []) if USABLE.search(wheel["url"])]
    files = [*wheels, *([package["sdist"]] if "sdist" in package else [])]
    hashes = sorted({f"--hash=sha256:{file['hashes']['sha256']}" for file in files})
    return " \\\n    ".join([first, *hashes])


def read_toml(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))

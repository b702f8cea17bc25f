"""Set-up with uv: the configuration of pip holds for uv too, and what is installed is whole or not called ready.

Wheels are made here and really installed, in an environment in a folder with a space and brackets in its name.
"""

import base64
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))

import install  # noqa: E402  (tools/install.py)
import lock as locks  # noqa: E402  (tools/lock.py)
import uv_settings  # noqa: E402  (tools/uv_settings.py)

PIP = (sys.executable, "-m", "pip")
STRATEGY = "--index-strategy=unsafe-best-match"


def flags(configured, given=()):
    return [flag for flag in uv_settings.of_pip(configured, dict(given)).flags if flag != STRATEGY]


def environment(configured, given=()):
    return uv_settings.of_pip(configured, dict(given)).environment


# The configuration of pip, in uv's words


def test_settings_come_from_pips_files_and_variables_and_the_narrower_wins(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://a.example/simple\ntimeout = 7\n"
        "extra-index-url =\n    https://b.example/simple\n    https://c.example/simple\n"
        "[install]\nindex-url = https://d.example/simple\n[download]\nindex-url = https://e.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_TIMEOUT", "9.5")
    settings = uv_settings.of_pip(uv_settings.pips_own(PIP), {})
    assert "--default-index=https://d.example/simple" in settings.flags
    assert "--index=https://b.example/simple" in settings.flags
    assert "--index=https://c.example/simple" in settings.flags
    assert STRATEGY in settings.flags
    assert settings.environment["UV_HTTP_TIMEOUT"] == "10"
    assert not [flag for flag in settings.flags if "a.example" in flag or "e.example" in flag]


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ({"trusted-host": "a.b c.d:80"}, ["--allow-insecure-host=a.b", "--allow-insecure-host=c.d:80"]),
        ({"no-index": "1"}, ["--no-index"]),
        ({"no-index": "false"}, []),
        ({"only-binary": "numpy,pandas"}, ["--only-binary=numpy", "--only-binary=pandas"]),
        ({"no-cache-dir": "true"}, ["--no-cache"]),
        ({"keyring-provider": "subprocess"}, ["--keyring-provider=subprocess"]),
        ({"require-hashes": "yes"}, ["--require-hashes"]),
        ({"constraint": "https://a.example/c.txt"}, ["--constraints=https://a.example/c.txt"]),
    ],
)  # fmt: skip
def test_a_setting_of_pip_becomes_a_flag_of_uv(configured, expected):
    assert flags(configured) == expected


def test_paths_are_taken_as_pip_takes_them(tmp_path, monkeypatch):
    """Relative to the working directory, with a comma or as a file URL; a folder that is not there is no error."""
    monkeypatch.chdir(tmp_path)
    for folder in ("wheels", "more,wheels"):
        (tmp_path / folder).mkdir()
    found = flags({"find-links": "wheels more,wheels missing file:///missing https://a.example/links.html"})
    assert found == [
        f"--find-links={(tmp_path / 'wheels').as_uri()}",
        f"--find-links={tmp_path.as_uri()}/more%2Cwheels",
        "--find-links=https://a.example/links.html",
    ]
    assert flags({"constraint": "one.txt file:///two%20words.txt"}) == [
        f"--constraints={tmp_path}/one.txt",
        "--constraints=/two words.txt",
    ]


def test_connections_are_made_as_pip_makes_them():
    found = environment(
        {"cert": "/c.pem", "client-cert": "/k.pem", "proxy": "http://p:1", "retries": "2", "default-timeout": "180"},
        {"SSL_CERT_FILE": "/other.pem", "HTTPS_PROXY": "http://q:1"},
    )
    assert found["SSL_CERT_FILE"] == "/c.pem"
    assert found["SSL_CLIENT_CERT"] == "/k.pem"
    assert found["HTTPS_PROXY"] == found["HTTP_PROXY"] == found["https_proxy"] == "http://p:1"
    assert found["UV_HTTP_TIMEOUT"] == "180"
    assert found["UV_HTTP_RETRIES"] == "2"
    assert environment({}, {"REQUESTS_CA_BUNDLE": "/r.pem"})["SSL_CERT_FILE"] == "/r.pem"
    assert environment({"use-feature": "truststore"})["UV_SYSTEM_CERTS"] == "true"


def test_variables_of_uv_stand():
    configured = {
        **{"index-url": "https://a.example", "extra-index-url": "https://b.example", "find-links": "https://c.example"},
        **{"constraint": "/d.txt", "timeout": "5", "retries": "5", "trusted-host": "e.example"},
    }
    given = {
        **{"UV_INDEX_URL": "https://u.example", "UV_INDEX": "https://v.example", "UV_FIND_LINKS": "https://w.example"},
        **{"UV_CONSTRAINT": "/x.txt", "UV_HTTP_TIMEOUT": "1", "UV_HTTP_RETRIES": "0", "UV_INSECURE_HOST": "y.example"},
        "UV_INDEX_STRATEGY": "first-index",
    }
    settings = uv_settings.of_pip(configured, given)
    assert settings.flags == ()
    assert settings.environment == given


def test_pytorchs_own_index_is_asked_unless_the_user_chose():
    assert uv_settings.of_pip({}, {}).may_ask_pytorch
    assert not uv_settings.of_pip({"no-index": "true"}, {}).may_ask_pytorch
    assert not uv_settings.of_pip({}, {"UV_TORCH_BACKEND": "cu130"}).may_ask_pytorch
    assert not uv_settings.of_pip({}, {"UV_OFFLINE": "1"}).may_ask_pytorch
    as_configured = uv_settings.of_pip({}, {"UV_TORCH_BACKEND": ""})
    assert not as_configured.may_ask_pytorch
    assert "UV_TORCH_BACKEND" not in as_configured.environment  # uv refuses it empty


@pytest.mark.parametrize(
    ("answer", "expected"), [("exit 0", ("--torch-backend=auto",)), ("exit 2", ()), ("exec sleep 60", ())]
)
def test_pytorchs_index_is_asked_once_and_not_for_long(tmp_path, monkeypatch, answer, expected):
    """By a stand-in for uv that finds the build, cannot reach the index, or waits for it."""
    if "sleep" in answer:
        monkeypatch.setattr(install, "PYTORCH_SECONDS", 1)
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\necho "$UV_HTTP_RETRIES $*" > "{tmp_path}/asked"\n{answer}\n')
    uv.chmod(0o755)
    (tmp_path / "lock.txt").write_text("numpy==1.0 \\\n    --hash=sha256:00\ntorch==99.1\n")
    settings = uv_settings.of_pip({}, dict(os.environ))
    assert install.torch_backend([uv], settings, tmp_path / "lock.txt") == expected
    if "sleep" not in answer:
        asked = (tmp_path / "asked").read_text().split()
        assert asked[0] == "0"
        assert {"--dry-run", "--torch-backend=auto", "torch==99.1"} <= set(asked)


# The lock


def test_every_package_of_the_lock_has_hashes_but_torch():
    entries = re.findall(r"^([a-z0-9.-]+)==\S+(.*\n(?: +--hash=sha256:[0-9a-f]{64}.*\n)*)", lock_text(), re.MULTILINE)
    assert len(entries) > 200
    assert [name for name, rest in entries if "--hash" not in rest] == ["torch"]


def test_the_lock_is_plain_by_the_command_at_its_head(tmp_path):
    """What its comment gives to those who want pip alone: the same pins, in a form that pip takes."""
    (command,) = re.findall(r"(sed .*? > plain\.txt);", lock_text())
    (tmp_path / "requirements.txt").write_text(lock_text())
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    lines = [line for line in (tmp_path / "plain.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[^ ]+( ; python_full_version (<|>=) '3\.11')?", line) for line in lines)
    assert len(lines) == len(re.findall(r"^[a-z].*==", lock_text(), re.MULTILINE))


def lock_text():
    return (ROOT / "requirements.txt").read_text()


def test_a_locked_package_keeps_the_hashes_of_files_that_can_be_installed():
    def file(name):
        digest = hashlib.sha256(name.encode()).hexdigest()
        return {"url": f"https://a.example/{name}", "hashes": {"sha256": digest}}

    usable = ("a-1-py3-none-any.whl", "a-1-cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
              "a-1-cp39-abi3-musllinux_1_2_x86_64.whl", "a-1-py2.py3-none-manylinux1_x86_64.whl")  # fmt: skip
    others = ("a-1-cp312-cp312-manylinux_2_17_x86_64.whl", "a-1-cp310-cp310-win_amd64.whl",
              "a-1-cp311-cp311-macosx_11_0_arm64.whl", "a-1-pp310-pypy310_pp73-manylinux_2_17_x86_64.whl")  # fmt: skip
    package = {
        **{"name": "a", "version": "1", "sdist": file("a-1.tar.gz"), "wheels": [*map(file, usable + others)]},
        "marker": "python_full_version == '3.11.*' and implementation_name == 'cpython' and sys_platform == 'linux'",
    }
    first, *hashes = locks.entry(package).replace(" \\", "").splitlines()
    assert first == "a==1 ; python_full_version >= '3.11'"
    digests = sorted(file(name)["hashes"]["sha256"] for name in (*usable, "a-1.tar.gz"))
    assert [line.strip() for line in hashes] == [f"--hash=sha256:{digest}" for digest in digests]
    assert locks.entry({**package, "name": "torch"}) == "torch==1 ; python_full_version >= '3.11'"


@pytest.mark.parametrize(
    ("resolved", "written"),
    [
        ("python_full_version < '3.12'", ""),
        ("python_full_version >= '3.10' and python_full_version < '3.12'", ""),
        ("python_full_version == '3.10.*'", " ; python_full_version < '3.11'"),
        ("python_full_version < '3.11' and implementation_name == 'cpython'", " ; python_full_version < '3.11'"),
    ],
)
def test_the_lock_says_only_what_differs_between_the_pythons(resolved, written):
    assert locks.entry({"name": "torch", "version": "1", "marker": resolved}) == f"torch==1{written}"


def test_uv_sees_torchs_own_requirements_where_it_installs():
    assert "dependency-metadata" not in (ROOT / "pyproject.toml").read_text()


# Real environments


def wheel(folder, name, version, needs=(), **modules):
    """A wheel of a few modules, as a pip or uv would build it; its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needed = "".join(f"Requires-Dist: {requirement}\n" for requirement in needs)
    files = {
        **{f"{module}.py": source for module, source in modules.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for path, text in files.items()}
    record = "".join(f"{path},sha256={digest.rstrip(b'=').decode()},\n" for path, digest in digests.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(member, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def index(folder, name, *wheels):
    """A package's page in a simple index of this folder."""
    page = folder / "simple" / name / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("".join(f'<a href="{wheel.as_uri()}">{wheel.name}</a>\n' for wheel in wheels))
    return (folder / "simple").as_uri()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with wheels, an index, pip's configuration for them, and a lock; named to break careless quoting."""
    folder = tmp_path_factory.mktemp("set up [x] 'y'")
    links = tmp_path_factory.mktemp("links")
    tiny = wheel(links, "marquee_tiny", "1.0", marquee_tiny="VALUE = 1")
    wheel(links, "marquee_other", "1.0", marquee_other="")
    wheel(links, "marquee_cudnn", "9.1", marquee_cudnn="")
    torch = "import marquee_cudnn, types\n__version__ = '99.1'\nversion = types.SimpleNamespace(cuda='13.0')"
    wheel(links, "torch", "99.1", needs=["marquee-cudnn"], torch=torch)
    hosted = tmp_path_factory.mktemp("hosted")
    for version in ("1.0", "2.0", "3.0"):
        wheel(hosted, "marquee_hosted", version, marquee_hosted=f"VERSION = '{version}'")
    first = index(tmp_path_factory.mktemp("one"), "marquee-hosted", hosted / "marquee_hosted-1.0-py3-none-any.whl")
    second = index(tmp_path_factory.mktemp("two"), "marquee-hosted", *sorted(hosted.glob("*-[23].0-*")))
    ceiling = links / "ceiling.txt"
    ceiling.write_text("marquee-hosted<3\n")
    (folder / "pip.conf").write_text(
        f"[global]\nfind-links = {links} {links}/missing\nextra-index-url = {first} {second}\nconstraint = {ceiling}\n"
    )
    (folder / "lock.txt").write_text(f"marquee-tiny==1.0 \\\n    --hash=sha256:{tiny}\nmarquee-hosted\ntorch==99.1\n")
    return folder


def start(place, lock="lock.txt", **variables):
    """`tools/setup.sh` in that folder, configured by its pip.conf alone beside where the machine's registry is."""
    configured = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_FIND", "PIP_EXTRA", "UV_"))
    }
    configured |= {"PIP_CONFIG_FILE": str(place / "pip.conf"), "UV_CACHE_DIR": str(place.parent / "cache")} | variables
    command = ["bash", str(TOOLS / "setup.sh"), sys.executable, "a venv", lock]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=place, env=configured, start_new_session=True, **pipes)


def set_up(place, lock="lock.txt", **variables):
    process = start(place, lock, **variables)
    out, err = process.communicate(timeout=250)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def says(place, code):
    python = place / "a venv" / "bin" / "python"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def installed(place):
    result = set_up(place)
    assert result.returncode == 0, result.stderr
    assert (place / "a venv" / ".ready").is_file()
    assert not (place / "a venv" / ".unfinished").exists()
    return place, result


@pytest.mark.slow
def test_it_is_uv_that_installs_and_it_takes_what_pip_is_told(installed):
    """From a folder of wheels and the second of two extra indexes, under a ceiling."""
    place, result = installed
    assert "uv cannot be had" not in result.stdout
    record = "import importlib.metadata as m; print(m.distribution('marquee-tiny').read_text('INSTALLER').strip())"
    assert says(place, record) == "uv"
    assert says(place, "import marquee_hosted; print(marquee_hosted.VERSION)") == "2.0"


@pytest.mark.slow
def test_a_build_of_torch_that_needs_libraries_of_its_own_gets_them_and_is_named(installed):
    place, result = installed
    assert "PyTorch 99.1: the build for CUDA 13.0" in result.stdout
    assert says(place, "import marquee_cudnn, torch; print('imported')") == "imported"


@pytest.mark.slow
def test_piped_output_is_a_few_lines(installed):
    _, result = installed
    assert len(result.stdout.splitlines()) <= 4
    assert result.stderr == ""


@pytest.mark.slow
def test_a_whole_environment_is_left_as_it_is(installed):
    place, _ = installed
    before = (place / "a venv" / ".ready").stat().st_mtime_ns
    assert set_up(place).returncode == 0
    assert (place / "a venv" / ".ready").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_half_made_environment_is_made_again(installed):
    """As after a kill: half a package, which looks installed, and no `.ready`."""
    place, _ = installed
    (module,) = (place / "a venv" / "lib").glob("python*/site-packages/marquee_tiny.py")
    module.unlink()
    (place / "a venv" / ".ready").unlink()
    result = set_up(place)
    assert result.returncode == 0, result.stderr
    assert says(place, "import marquee_tiny; print(marquee_tiny.VALUE)") == "1"


@pytest.mark.slow
@pytest.mark.parametrize("reached", ["bin/python", "bin/uv"])
def test_a_killed_set_up_is_not_ready_and_the_next_one_makes_it_whole(installed, reached):
    place, _ = installed
    (place / "a venv" / ".ready").unlink()
    (place / "a venv" / reached).unlink()
    process = start(place)
    while not (place / "a venv" / reached).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (place / "a venv" / ".ready").exists()
    result = set_up(place)
    assert result.returncode == 0, result.stderr
    assert says(place, "import marquee_tiny, torch; print('imported')") == "imported"


@pytest.mark.slow
def test_a_file_with_another_hash_is_refused_in_uvs_words_and_nothing_is_ready(installed):
    place, _ = installed
    (place / "wrong.txt").write_text(f"marquee-other==1.0 \\\n    --hash=sha256:{'0' * 64}\ntorch==99.1\n")
    result = set_up(place, "wrong.txt")
    assert result.returncode != 0
    assert "marquee-other" in result.stderr
    assert "hash" in result.stderr.lower()
    assert not (place / "a venv" / ".ready").exists()
    assert set_up(place).returncode == 0
    assert (place / "a venv" / ".ready").exists()


@pytest.mark.slow
def test_a_torch_that_cannot_be_imported_is_not_ready(place, installed):
    links = place.parent / "broken torch"
    wheel(links, "torch", "99.2", torch="raise ImportError('libcudnn.so.9: cannot open shared object file')")
    (place / "broken.txt").write_text(f"{(links / 'torch-99.2-py3-none-any.whl').as_uri()}\ntorch==99.2\n")
    result = set_up(place, "broken.txt")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: PyTorch is installed but cannot be imported: ")
    assert "libcudnn.so.9" in result.stderr
    assert not (place / "a venv" / ".ready").exists()


@pytest.mark.slow
def test_without_uv_pip_installs_and_still_checks_the_hashes(place, tmp_path):
    """Behind a mirror that has no uv."""
    for name in ("pip.conf", "lock.txt"):
        (tmp_path / name).write_text((place / name).read_text())
    result = set_up(tmp_path, PIP_INDEX_URL=(tmp_path / "no index").as_uri())
    assert result.returncode == 0, result.stderr
    assert "uv cannot be had here" in result.stdout
    assert says(tmp_path, "import marquee_tiny, torch, marquee_hosted; print(marquee_hosted.VERSION)") == "2.0"
    (tmp_path / "a venv" / ".ready").unlink()
    (tmp_path / "lock.txt").write_text(f"marquee-tiny==1.0 --hash=sha256:{'0' * 64}\ntorch==99.1\n")
    result = set_up(tmp_path, PIP_INDEX_URL=(tmp_path / "no index").as_uri())
    assert result.returncode != 0
    assert "DO NOT MATCH THE HASHES" in result.stderr
    assert not (tmp_path / "a venv" / ".ready").exists()


@pytest.mark.slow
def test_a_folder_that_is_no_environment_is_not_deleted(place, tmp_path):
    (tmp_path / "lock.txt").write_text("")
    (tmp_path / "a venv").mkdir()
    (tmp_path / "a venv" / "letter.txt").write_text("dear")
    result = set_up(tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "VENV=" in result.stderr
    assert (tmp_path / "a venv" / "letter.txt").read_text() == "dear"

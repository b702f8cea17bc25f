"""The configuration of this machine's pip in uv's words, as uv reads neither pip's files nor its PIP_* variables.

Where a UV_* variable says the same thing already, that variable stands.
"""

import ast
import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

SECTIONS = ("global", "install", ":env:")  # the later one wins, as in pip
# pip's setting, uv's flag, and the variables of uv that stand in its stead. Each value is given a flag of its own.
FLAGS = (
    ("index-url", "--default-index", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    ("extra-index-url", "--index", ("UV_INDEX", "UV_EXTRA_INDEX_URL")),
    ("find-links", "--find-links", ("UV_FIND_LINKS",)),
    ("constraint", "--constraints", ("UV_CONSTRAINT",)),
    ("trusted-host", "--allow-insecure-host", ("UV_INSECURE_HOST",)),
    ("only-binary", "--only-binary", ("UV_NO_BUILD", "UV_NO_BUILD_PACKAGE")),
    ("no-binary", "--no-binary", ("UV_NO_BINARY", "UV_NO_BINARY_PACKAGE")),
)
SWITCHES = (
    ("no-index", "--no-index", ("UV_NO_INDEX",)),
    ("no-cache-dir", "--no-cache", ("UV_NO_CACHE",)),
    ("require-hashes", "--require-hashes", ("UV_REQUIRE_HASHES",)),
)
# Of the variables, those that are not uv's own are overruled, as pip does not read them or reads them last.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
PLACES = ("index-url", "extra-index-url", "find-links", "constraint")  # each an URL, or a path
COMMAS = ("only-binary", "no-binary")
TRUE = ("1", "true", "yes", "on", "y", "t")


@dataclass(frozen=True)
class Settings:
    """Flags for `uv pip install` and `uv pip compile`, and the environment to run them in."""

    flags: tuple[str, ...]
    environment: dict[str, str]
    may_ask_pytorch: bool  # False where the user has chosen a build or forbidden every index


def pips_own(pip: Sequence[str]) -> dict[str, str]:
    """What pip is configured with for `pip install`, by files and PIP_* variables: name to value.

    Args:
        pip: the command that starts it.
    """
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=True).stdout
    entries = [line.partition("=") for line in listed.splitlines() if "=" in line]
    found: dict[str, str] = {}
    for section in SECTIONS:
        found |= {
            key[len(section) + 1 :]: ast.literal_eval(value)
            for key, _, value in entries
            if key.startswith(section + ".")
        }
    return found


def of_pip(configured: Mapping[str, str], given: Mapping[str, str] = os.environ) -> Settings:
    """uv's settings for pip's configuration, beside the environment `given`."""
    environment = {name: value for name, value in given.items() if not (name == "UV_TORCH_BACKEND" and not value)}
    flags = []
    for name, flag, variables in FLAGS:
        if not any(map(given.get, variables)):
            flags += [f"{flag}={value}" for value in _values(name, configured)]
    for name, flag, variables in SWITCHES:
        if _true(configured.get(name)) and not any(map(given.get, variables)):
            flags.append(flag)
    if "UV_INDEX_STRATEGY" not in given:
        flags.append("--index-strategy=unsafe-best-match")  # pip's own: the best version of all indexes
    if configured.get("keyring-provider") == "subprocess" and "UV_KEYRING_PROVIDER" not in given:
        flags.append("--keyring-provider=subprocess")
    environment |= _connection(configured, given)
    chosen = "UV_TORCH_BACKEND" in given or _true(given.get("UV_OFFLINE"))
    return Settings(tuple(flags), environment, may_ask_pytorch=not chosen and not _true(configured.get("no-index")))


def _connection(configured: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The variables for certificates, proxy and patience."""
    found = {}
    certificates = configured.get("cert") or given.get("REQUESTS_CA_BUNDLE") or given.get("CURL_CA_BUNDLE")
    if certificates and ("cert" in configured or "SSL_CERT_FILE" not in given):
        found["SSL_CERT_FILE"] = os.path.abspath(certificates)
    if "client-cert" in configured:
        found["SSL_CLIENT_CERT"] = os.path.abspath(configured["client-cert"])
    if "truststore" in configured.get("use-feature", "").split() and "UV_SYSTEM_CERTS" not in given:
        found["UV_SYSTEM_CERTS"] = "true"
    if "proxy" in configured:
        found |= dict.fromkeys(PROXIES, configured["proxy"])
    timeout = configured.get("timeout") or configured.get("default-timeout")
    if timeout and "UV_HTTP_TIMEOUT" not in given:
        found["UV_HTTP_TIMEOUT"] = str(max(1, math.ceil(float(timeout))))
    if "retries" in configured and "UV_HTTP_RETRIES" not in given:
        found["UV_HTTP_RETRIES"] = configured["retries"]
    return found


def _values(name: str, configured: Mapping[str, str]) -> list[str]:
    """A setting's values in a form that uv takes as pip does."""
    values = configured.get(name, "").replace(",", " " if name in COMMAS else ",").split()
    if name not in PLACES:
        return values
    files = {value: _local(value) for value in values}
    # pip only warns of a folder of wheels that is not there; uv would fail.
    return [
        value if file is None else str(file) if name == "constraint" else file.as_uri().replace(",", "%2C")
        for value, file in files.items()
        if file is None or name != "find-links" or file.exists()
    ]


def _local(value: str) -> Path | None:
    """The file or folder that is meant, where it is one of this machine; None for the URL of another."""
    if value.startswith("file:"):
        return Path(url2pathname(urlsplit(value).path))
    return None if "://" in value else Path(os.path.abspath(os.path.expanduser(value)))


def _true(value: str | None) -> bool:
    return (value or "").strip().lower() in TRUE

"""Repositories of synthetic versions, and keys to sign them with."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from core.artifacts import SIGNATURE, read_manifest, seal, verify
from core.errors import UserError
from ensemble.repository.versions import new_version

MODELS = ("recommend", "score")


def add(repository: Path, made_from: str, key: Path | None = None, models: tuple[str, ...] = MODELS) -> int:
    """Exports a synthetic version, whose every file says which one it is of."""
    with new_version(repository, made_from, key, {"default_model": f"of {made_from}"}) as (out, version):
        for model in models:
            folder = out / model / str(version)
            folder.mkdir(parents=True)
            (folder / "weights").write_text(f"weights of {made_from}")
            for config in (folder / "config.pbtxt", out / model / "config.pbtxt"):
                config.write_text(f"{model} serves {version}")
    return version


def refusal(check, *arguments: object, **named: object) -> str:
    with pytest.raises(UserError) as caught:
        check(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def repository(tmp_path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def keys(tmp_path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "own")


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    private = Ed25519PrivateKey.generate()
    files = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    files[0].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files[1].write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return files


def evil(repository: Path) -> None:
    """Someone who can write there changes a file, and the manifest with it."""
    (repository / "score" / "1" / "weights").write_text("evil")
    (repository / SIGNATURE).unlink(missing_ok=True)
    details = read_manifest(repository)
    made_from = details.pop("fingerprint")
    for name in ("format", "files"):
        del details[name]
    seal(repository, made_from, **details)
    verify(repository)

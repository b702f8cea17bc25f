"""Signatures of manifests: the right key, and everything that is not it."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from core import signing
from core.artifacts import SIGNATURE, new_folder, read_manifest, seal, verify
from core.errors import UserError


def write_keys(folder: Path, name: str, private, password: bytes | None = None) -> tuple[Path, Path]:
    """`<name>.pem` and `<name>.pub.pem`, as openssl writes them."""
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    files = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    files[0].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files[1].write_bytes(public)
    return files


@pytest.fixture
def keys(tmp_path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "own", ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "manifest.json"
    path.write_bytes(b'{"files": {}}')
    return path


def sign(file: Path, signature: Path, key: Path) -> None:
    signature.write_bytes(signing.sign(file.read_bytes(), key))


def read(signature: Path) -> bytes | None:
    return signature.read_bytes() if signature.is_file() else None


def is_signed(file: Path, signature: Path, key: Path) -> bool:
    return signing.is_signed(file.read_bytes(), read(signature), key)


def check(file: Path, signature: Path, key: Path) -> None:
    signing.check(file.read_bytes(), read(signature), key, file)


def refusal(call, *arguments: object, **named: object) -> str:
    """What is said, which must be one line."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_signature_is_checked_with_the_key_that_belongs_to_it(file, keys, tmp_path):
    signature = tmp_path / "manifest.sig"
    sign(file, signature, keys[0])
    assert len(signature.read_bytes()) == 64
    check(file, signature, keys[1])


def test_it_is_openssl_s_own_format(file, keys, tmp_path):
    """RFC 8032, test 2: the key, the message of one byte, and the signature that must come out."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    private, public = write_keys(tmp_path, "rfc", ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    file.write_bytes(b"\x72")
    sign(file, tmp_path / "manifest.sig", private)
    assert (tmp_path / "manifest.sig").read_bytes().hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    check(file, tmp_path / "manifest.sig", public)


def test_a_file_is_signed_with_the_key_that_signed_it_as_it_is(file, keys, tmp_path):
    signature = tmp_path / "manifest.sig"
    assert not is_signed(file, signature, keys[0])
    sign(file, signature, keys[0])
    assert is_signed(file, signature, keys[0])
    other, _ = write_keys(tmp_path, "other", ed25519.Ed25519PrivateKey.generate())
    assert not is_signed(file, signature, other)
    assert "not an Ed25519 private key" in refusal(is_signed, file, signature, keys[1])
    file.write_bytes(b"changed")
    assert not is_signed(file, signature, keys[0])


def test_another_key_is_refused(file, keys, tmp_path):
    sign(file, tmp_path / "manifest.sig", keys[0])
    _, other = write_keys(tmp_path, "other", ed25519.Ed25519PrivateKey.generate())
    message = refusal(check, file, tmp_path / "manifest.sig", other)
    assert str(file) in message
    assert str(other) in message
    assert "do not serve it" in message


@pytest.mark.parametrize("content", [b'{"files": {} }', b"", b'{"files": {}}\n'])
def test_a_changed_file_is_refused(file, keys, tmp_path, content):
    sign(file, tmp_path / "manifest.sig", keys[0])
    file.write_bytes(content)
    assert "do not serve it" in refusal(check, file, tmp_path / "manifest.sig", keys[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda signature: bytes([signature[0] ^ 1]) + signature[1:],
        lambda signature: signature[:-1],
        lambda signature: signature + b"\x00",
        lambda signature: b"",
        lambda signature: bytes(64),
    ],
    ids=["one bit", "too short", "too long", "empty", "zeros"],
)
def test_a_changed_signature_is_refused(file, keys, tmp_path, change):
    signature = tmp_path / "manifest.sig"
    sign(file, signature, keys[0])
    signature.write_bytes(change(signature.read_bytes()))
    assert "do not serve it" in refusal(check, file, signature, keys[1])


def test_a_missing_signature_is_refused(file, keys, tmp_path):
    message = refusal(check, file, tmp_path / "manifest.sig", keys[1])
    assert "is not signed; export it with --sign-key" in message
    (tmp_path / "manifest.sig").mkdir()
    assert "is not signed" in refusal(check, file, tmp_path / "manifest.sig", keys[1])


def wrong_keys(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Private and public files that are not Ed25519 keys, by kind."""
    made = {
        "rsa": write_keys(folder, "rsa", rsa.generate_private_key(65537, 2048)),
        "ec": write_keys(folder, "ec", ec.generate_private_key(ec.SECP256R1())),
        "missing": (folder / "none.pem", folder / "none.pub.pem"),
        "folder": (folder, folder),
    }
    for name, content in (
        ("empty", b""),
        ("garbage", b"\x00\xff not a key"),
        ("cut off", b"-----BEGIN PRIVATE KEY-----\nMC4CAQ\n"),
        ("no base64", b"-----BEGIN PUBLIC KEY-----\n????\n-----END PUBLIC KEY-----\n"),
    ):
        path = folder / f"{name}.pem"
        path.write_bytes(content)
        made[name] = path, path
    return made


@pytest.mark.parametrize("kind", ["rsa", "ec", "missing", "folder", "empty", "garbage", "cut off", "no base64"])
def test_a_file_that_is_not_an_ed25519_key_is_refused(file, keys, tmp_path, kind):
    private, public = wrong_keys(tmp_path)[kind]
    signature = tmp_path / "manifest.sig"
    message = refusal(sign, file, signature, private)
    assert f"{private} is not an Ed25519 private key; make one with: openssl genpkey -algorithm ed25519" in message
    assert not signature.exists()
    sign(file, signature, keys[0])
    message = refusal(check, file, signature, public)
    assert f"{public} is not an Ed25519 public key; get it with: openssl pkey" in message


def test_the_two_halves_of_a_key_are_not_taken_for_each_other(file, keys, tmp_path):
    private, public = keys
    assert "not an Ed25519 private key" in refusal(sign, file, tmp_path / "manifest.sig", public)
    sign(file, tmp_path / "manifest.sig", private)
    assert "not an Ed25519 public key" in refusal(check, file, tmp_path / "manifest.sig", private)


def test_a_key_with_a_password_is_refused(file, tmp_path):
    private, _ = write_keys(tmp_path, "locked", ed25519.Ed25519PrivateKey.generate(), b"secret")
    assert "not an Ed25519 private key" in refusal(sign, file, tmp_path / "manifest.sig", private)


# -- sealed folders ----------------------------------------------------------------------------------------------------


@pytest.fixture
def signed(tmp_path, keys) -> Path:
    folder = tmp_path / "stage"
    with new_folder(folder, "made-from-1", keys[0], seed=7) as out:
        (out / "a.txt").write_text("first")
    return folder


def test_a_signed_folder_verifies_with_and_without_the_key(signed, keys):
    assert verify(signed, public_key=keys[1]) == verify(signed) == read_manifest(signed)
    assert verify(signed)["seed"] == 7
    assert list(verify(signed)["files"]) == ["a.txt"]  # the signature is of the manifest, so not in it


def test_a_signed_folder_refuses_another_key_before_anything_is_read(signed, tmp_path):
    _, other = write_keys(tmp_path, "other", ed25519.Ed25519PrivateKey.generate())
    (signed / "a.txt").write_text("changed")
    assert "do not serve it" in refusal(verify, signed, public_key=other)


def test_a_signed_folder_whose_file_has_changed_is_refused(signed, keys):
    (signed / "a.txt").write_text("changed")
    assert str(signed / "a.txt") in refusal(verify, signed, public_key=keys[1])


def test_a_file_that_was_changed_together_with_its_sum_is_refused_by_the_signature_alone(signed, keys):
    (signed / "a.txt").write_text("changed")
    seal(signed, "made-from-1", seed=7)  # an attacker who can write there can write a manifest
    assert verify(signed)["seed"] == 7
    assert "do not serve it" in refusal(verify, signed, public_key=keys[1])
    (signed / SIGNATURE).unlink()
    assert "is not signed" in refusal(verify, signed, public_key=keys[1])


def test_a_folder_that_was_never_signed_is_refused_where_a_key_is_asked_for(tmp_path, keys):
    with new_folder(tmp_path / "plain", "made-from-1") as out:
        (out / "a.txt").write_text("first")
    assert not (tmp_path / "plain" / SIGNATURE).exists()
    assert "is not signed" in refusal(verify, tmp_path / "plain", public_key=keys[1])


def test_a_signature_deeper_down_is_a_file_like_any_other(signed, keys):
    (signed / "part").mkdir()
    (signed / "part" / SIGNATURE).write_bytes(b"")
    assert "not listed" in refusal(verify, signed, public_key=keys[1])


def sealed_with(folder: Path, key: Path) -> None:
    with new_folder(folder, "made-from-2", key) as out:
        (out / "b.txt").write_text("second")


def test_a_key_that_cannot_sign_leaves_the_earlier_folder_as_it_was(signed, keys, tmp_path):
    before = {path.name: path.read_bytes() for path in signed.iterdir()}
    assert "not an Ed25519 private key" in refusal(sealed_with, signed, keys[1])
    assert {path.name: path.read_bytes() for path in signed.iterdir()} == before
    assert not list(tmp_path.glob(".stage*"))


def test_linked_folders_do_not_bypass_the_manifest(signed, keys, tmp_path):
    """What is in a folder behind a symbolic link is not in the manifest, and what looks for models would find it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.pbtxt").write_text("")
    (signed / "model").symlink_to(tmp_path / "elsewhere")
    assert list(signed.glob("*/config.pbtxt"))
    assert "not listed" in refusal(verify, signed, public_key=keys[1])
    (signed / "model").unlink()
    (signed / "b.txt").symlink_to(tmp_path / "nowhere")
    assert "not listed" in refusal(verify, signed, public_key=keys[1])

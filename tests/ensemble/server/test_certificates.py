"""Each file of TLS that gRPC could not use is refused before anything starts, with what is wrong with which."""

import ipaddress
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from core.errors import UserError
from ensemble.server.access import ServerAccess
from tests.ensemble.server.authority import Authority

NAME = x509.DNSName("triton.example.org")


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def files(authority) -> tuple[Path, Path]:
    return authority.issue("server", NAME, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


def refusal(*files: Path | None) -> str:
    with pytest.raises(UserError) as refused:
        ServerAccess("", *files).check()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def joined(folder: Path, name: str, *parts: Path) -> Path:
    path = folder / name
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "key",
    [ec.SECP256R1(), ec.SECP384R1(), 2048],
    ids=["P-256", "P-384", "RSA"],
)
def test_good_files_are_taken(authority, tmp_path, key):
    made = ec.generate_private_key(key) if not isinstance(key, int) else rsa.generate_private_key(65537, key)
    certificate, key_file = authority.issue("good", NAME, key=made)
    other = Authority(tmp_path, "clients").certificate
    ServerAccess("", certificate, key_file).check()
    ServerAccess("", certificate, key_file, authority.certificate).check()
    ServerAccess("", certificate, key_file, other).check()  # clients may come from another authority
    ServerAccess("", joined(tmp_path, "chain.pem", certificate, authority.certificate), key_file).check()
    traditional = tmp_path / "traditional.key"
    traditional.write_bytes(
        made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    traditional.chmod(0o600)
    ServerAccess("", certificate, traditional).check()
    ServerAccess("", certificate, joined(tmp_path, "both.pem", certificate, key_file)).check()


def test_one_without_the_other(files, authority):
    certificate, key = files
    assert "needs its key" in refusal(certificate)
    assert "needs its key" in refusal(None, key)
    assert "only with TLS" in refusal(None, None, authority.certificate)


def test_files_that_cannot_be_read(files, tmp_path):
    certificate, key = files
    nothing = tmp_path / "none.pem"
    assert refusal(nothing, key) == f"cannot read {nothing}: no such file or directory"
    assert refusal(certificate, nothing) == f"cannot read {nothing}: no such file or directory"
    assert refusal(certificate, key, tmp_path) == f"cannot read {tmp_path}: is a directory"


def test_empty_files(files, tmp_path):
    certificate, key = files
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert refusal(empty, key) == f"{empty} is empty; it must have a CERTIFICATE block"
    assert refusal(certificate, empty) == f"{empty} is empty; it must have a PRIVATE KEY block"
    assert refusal(certificate, key, empty) == f"{empty} is empty; it must have a CERTIFICATE block"


def test_text(files, tmp_path):
    certificate, key = files
    text = tmp_path / "text.pem"
    text.write_text("no certificate\n")
    for files in ((text, key), (certificate, text), (certificate, key, text)):
        assert f"{text} is not in PEM format" in refusal(*files)


def test_swapped_files(files):
    certificate, key = files
    message = refusal(key, certificate)
    assert f"{key} holds PRIVATE KEY only" in message
    assert "swapped?" in message
    assert "CERTIFICATE block" in message


def test_a_key_for_the_clients_authority(files):
    certificate, key = files
    assert f"{key} holds PRIVATE KEY only" in refusal(certificate, key, key)


def test_der(files, tmp_path):
    certificate, key = files
    binary = tmp_path / "certificate.der"
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    binary.write_bytes(loaded.public_bytes(serialization.Encoding.DER))
    assert refusal(binary, key) == f"{binary} is in DER format, not PEM; it must have a CERTIFICATE block"
    binary_key = tmp_path / "key.der"
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    binary_key.write_bytes(
        private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    assert (
        refusal(certificate, binary_key) == f"{binary_key} is in DER format, not PEM; it must have a PRIVATE KEY block"
    )


@pytest.mark.parametrize("style", ["PKCS8", "TraditionalOpenSSL"])
def test_a_key_with_a_password(files, tmp_path, style):
    certificate, key = files
    locked = tmp_path / "locked.key"
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            getattr(serialization.PrivateFormat, style),
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    locked.chmod(0o600)
    assert refusal(certificate, locked) == f"the key {locked} has a password; give one without"


def test_broken_blocks(files, tmp_path):
    certificate, key = files
    for file, words in ((certificate, "CERTIFICATE block that cannot be read"), (key, "PRIVATE KEY block that cannot")):
        lines = file.read_text().splitlines(keepends=True)
        broken = tmp_path / f"broken-{file.name}"
        broken.write_text("".join([lines[0], *lines[2:]]))
        broken.chmod(0o600)
        assert words in (refusal(broken, key) if file is certificate else refusal(certificate, broken))
        broken.write_text("".join(lines[:-1]))  # its end is missing
        assert words in (refusal(broken, key) if file is certificate else refusal(certificate, broken))


def test_the_key_of_another_certificate(files, authority):
    certificate, _ = files
    _, other = authority.issue("other", NAME)
    assert refusal(certificate, other) == f"{other} is not the key of the certificate in {certificate}"


def test_a_chain_in_the_wrong_order(files, authority, tmp_path):
    certificate, key = files
    chain = joined(tmp_path, "chain.pem", authority.certificate, certificate)
    assert refusal(chain, key) == f"{chain}: the certificate of {key} is number 2 in it; it must be the first"


@pytest.mark.parametrize(
    "make",
    [
        ed25519.Ed25519PrivateKey.generate,
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["Ed25519", "P-521", "secp256k1"],
)
def test_kinds_of_keys_that_grpc_cannot_use(authority, make):
    certificate, key = authority.issue("kind", NAME, key=make())
    assert f"{key} is of a kind that gRPC cannot use" in refusal(certificate, key)


def test_a_key_that_is_too_small(authority):
    certificate, key = authority.issue("small", NAME, key=rsa.generate_private_key(65537, 1024))
    assert "key too small" in refusal(certificate, key)


def test_a_certificate_out_of_its_time(authority):
    assert "has expired (" in refusal(*authority.issue("old", NAME, days=(-9, -2)))
    assert "is not valid before " in refusal(*authority.issue("young", NAME, days=(2, 9)))


def test_a_certificate_without_a_name(authority):
    assert "no subjectAltName" in refusal(*authority.issue("nameless"))


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_key_that_others_may_change(files, mode):
    certificate, key = files
    key.chmod(mode)
    assert refusal(certificate, key) == f"the key {key} can be changed by other users; run: chmod 600 {key}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o444])
def test_a_key_that_others_may_read(files, mode, monkeypatch):
    certificate, key = files
    key.chmod(mode)
    assert refusal(certificate, key) == f"the key {key} can be read by other users; run: chmod 600 {key}"
    monkeypatch.setattr(
        "os.getuid", lambda: key.stat().st_uid + 1
    )  # given to this user by another, as a mounted secret
    ServerAccess("", certificate, key).check()


def test_links_to_the_files_are_followed(files, tmp_path):
    """As certbot and Kubernetes keep them."""
    certificate, key = (tmp_path / f"link-{file.name}" for file in files)
    for link, file in zip((certificate, key), files):
        link.symlink_to(file)
    ServerAccess("", certificate, key).check()
    shutil.copy(files[0], tmp_path / "copy.pem")
    ServerAccess("", tmp_path / "copy.pem", key).check()

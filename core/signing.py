"""Signatures of manifests with the user's own key: Ed25519, in PEM files as `openssl genpkey` makes them."""

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from core.errors import UserError


def sign(file: Path, signature: Path, key: Path) -> None:
    """Writes the signature of a file.

    Raises:
        UserError: `key` is not an Ed25519 private key, or has a password.
    """
    signature.write_bytes(_private(key).sign(file.read_bytes()))


def is_signed(file: Path, signature: Path, key: Path) -> bool:
    """Whether a file has the signature that this private key gives it; Ed25519 always gives the same.

    Raises:
        UserError: as `sign`.
    """
    expected = _private(key).sign(file.read_bytes())
    return signature.is_file() and signature.read_bytes() == expected


def _private(key: Path) -> Ed25519PrivateKey:
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm, OSError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise UserError(
            f"{key} is not an Ed25519 private key; make one with: openssl genpkey -algorithm ed25519 -out {key}"
        )
    return private


def check(file: Path, signature: Path, key: Path) -> None:
    """Checks the signature of a file.

    Raises:
        UserError: there is no signature, it was made with another key, or `key` is not an Ed25519 public key.
    """
    try:
        public = load_pem_public_key(key.read_bytes())
    except (ValueError, UnsupportedAlgorithm, OSError):
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise UserError(
            f"{key} is not an Ed25519 public key; get it with: openssl pkey -in PRIVATE_KEY -pubout -out {key}"
        )
    if not signature.is_file():
        raise UserError(f"{file} is not signed; export it with --sign-key")
    try:
        public.verify(signature.read_bytes(), file.read_bytes())
    except InvalidSignature:
        raise UserError(f"{file} was not signed with the key that belongs to {key}; do not serve it") from None

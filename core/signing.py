"""Signatures of manifests with the user's own key: Ed25519, in PEM files as `openssl genpkey` makes them.

What is signed and checked are bytes that the caller has read: a file that is read again may have other ones.
"""

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from core.errors import UserError


def sign(content: bytes, key: Path) -> bytes:
    """The signature of bytes, 64 bytes.

    Raises:
        UserError: `key` is not an Ed25519 private key, or has a password.
    """
    return private_key(key).sign(content)


def is_signed(content: bytes, signature: bytes | None, key: Path) -> bool:
    """Whether bytes have the signature that this private key gives them; Ed25519 always gives the same.

    Raises:
        UserError: as `sign`.
    """
    return signature == private_key(key).sign(content)


def private_key(path: Path) -> Ed25519PrivateKey:
    """Reads a private key.

    Raises:
        UserError: the file is not an Ed25519 private key, or has a password.
    """
    try:
        private = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm, OSError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise UserError(
            f"{path} is not an Ed25519 private key; make one with: openssl genpkey -algorithm ed25519 -out {path}"
        )
    return private


def public_key(path: Path) -> Ed25519PublicKey:
    """Reads a public key.

    Raises:
        UserError: the file is not an Ed25519 public key.
    """
    try:
        public = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm, OSError):
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise UserError(
            f"{path} is not an Ed25519 public key; get it with: openssl pkey -in PRIVATE_KEY -pubout -out {path}"
        )
    return public


def key_id(path: Path) -> str:
    """A name for a public key: the SHA-256 of its 32 bytes, in hexadecimal.

    Raises:
        UserError: as `public_key`.
    """
    return hashlib.sha256(public_key(path).public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def check(content: bytes, signature: bytes | None, key: Path, where: Path) -> None:
    """Checks the signature of bytes.

    Args:
        signature: None where there is none.
        key: the public key.
        where: the file that the bytes were read from, for the message.

    Raises:
        UserError: there is no signature, it was made with another key, or `key` is not an Ed25519 public key.
    """
    public = public_key(key)
    if signature is None:
        raise UserError(f"{where} is not signed; export it with --sign-key")
    try:
        public.verify(signature, content)
    except InvalidSignature:
        raise UserError(f"{where} was not signed with the key that belongs to {key}; do not serve it") from None

"""Makes certificates, for tests."""

import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates with its own."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._write(name, self.key, self.name, x509.BasicConstraints(True, None))[0]

    def issue(
        self, name: str, *names: x509.GeneralName, key: Any = None, days: tuple[int, int] = (-1, 1)
    ) -> tuple[Path, Path]:
        """The files of a certificate and its key.

        Args:
            names: for subjectAltName.
            key: a private key; None for a new one of the curve P-256.
            days: from when to when it is valid, from now.
        """
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        extension = x509.SubjectAlternativeName(names) if names else x509.BasicConstraints(False, None)
        return self._write(name, key or ec.generate_private_key(ec.SECP256R1()), subject, extension, days)

    def _write(self, name, key, subject, extension, days=(-1, 1)) -> tuple[Path, Path]:
        now = datetime.datetime.now(datetime.timezone.utc)
        made = x509.CertificateBuilder(
            self.name, subject, key.public_key(), x509.random_serial_number(), now + days[0] * DAY, now + days[1] * DAY
        ).add_extension(extension, critical=False).sign(self.key, hashes.SHA256())  # fmt: skip
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        files[1].chmod(0o600)
        return files

"""Certificates of a fleet: one authority, and one certificate and key that its schedulers, workers and runs share."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from profiler.errors import UserError
from profiler.run.serving import CA, CERTIFICATE, KEY

#: How long they are good for, in days.
_DAYS = 825


def make_certificates(folder: Path) -> list[Path]:
    """Make a folder with a new authority's certificate, a certificate that it signed, and its key; return their paths.

    The authority's own key is thrown away: nobody can add to a fleet, but whoever has the folder is of it.

    Raises:
        UserError: The folder holds some already or cannot be written, or the package cryptography is missing.
    """
    paths = [folder / name for name in (CA, CERTIFICATE, KEY)]
    if there := [path.name for path in paths if path.exists()]:
        raise UserError(f"{folder} already holds {', '.join(there)}; name another folder, or remove them first")
    contents = _made()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in zip(paths, contents, strict=True):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor, so that nobody else ever may read it
                file.write(data)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); name another folder") from error
    return paths


def _made() -> tuple[bytes, bytes, bytes]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError as error:
        raise UserError(
            f"certificates are made with the package {error.name}, which is not installed; "
            "install it with: pip install 'latency-profiler[fleet]'"
        ) from error
    begin = datetime.now(UTC) - timedelta(hours=1)

    def signed(name: str, key: ec.EllipticCurvePrivateKey, by_key: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
        names = (name, "latency-profiler fleet")
        subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in names)
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=_DAYS))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        return bytes(builder.sign(by_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    ours, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = signed("latency-profiler fleet", ours, ours, ca=True)
    certificate = signed("latency-profiler member", own, ours, ca=False)
    plain = serialization.NoEncryption()
    key = bytes(own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return authority, certificate, key

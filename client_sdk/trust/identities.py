"""The files of identities: a party's key, its certificate beside it, and whom a party pins.

Keys are PEM (PKCS #8, without a password), certificates are PEM (X.509), so other tools read and
make them, too. A file of pins has a fingerprint and a name in each line, or the certificates of
authorities. All functions raise UsageError for files that cannot be read or used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from client_sdk.errors import UsageError
from client_sdk.task.durable_file import create_durably
from serverless_fl.privacy.secure import pin_file
from serverless_fl.privacy.secure.authority import PEM, Authority
from serverless_fl.privacy.secure.identity import Identity, Pins

_LONGEST = 1024**2  # bytes
CERTIFICATE = re.compile(rf"{PEM}.*?-----END CERTIFICATE-----\n", re.DOTALL)


def write_identity(path: Path) -> Identity:
    """Make an identity, in a new file that only this user can read."""
    made = Identity.new()
    data = made.secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with _faults(path):
        try:
            create_durably(path, data)
        except FileExistsError as error:
            raise UsageError(f"{path} is there already: give another file.") from error
    return made


def read_identity(path: Path | str) -> Identity:
    """Read an identity's key, and its certificate: the same name with `.pem`, if it is there."""
    path = Path(path)
    try:
        secret = load_pem_private_key(_read(path).encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} holds no identity's key.") from error
    if not isinstance(secret, Ed25519PrivateKey):
        raise UsageError(f"{path} holds a key that is not Ed25519.")
    beside = certificate_of(path)
    return Identity(secret, _read(beside) if beside.exists() else "")


def certificate_of(path: Path) -> Path:
    """The place of the certificate of the key in a file."""
    return path.with_suffix(".pem")


def issued_by(path: Path) -> Path:
    """The place of the certificates that the authority whose key is in a file has made."""
    return path.with_suffix(".issued.pem")


def revoked_by(path: Path) -> Path:
    """The place of the list of what the authority whose key is in a file has revoked."""
    return path.with_suffix(".crl")


def text_of(path: Path) -> str:
    """The text of a file; empty if it is not there."""
    return _read(path) if path.exists() else ""


def certificates_in(path: Path) -> list[str]:
    """The certificates (PEM) in a file; none if it is not there."""
    return CERTIFICATE.findall(text_of(path))


def read_authority(path: Path) -> Authority:
    """Read an authority's certificate."""
    try:
        return Authority.read(_read(path))
    except ValueError as error:
        raise UsageError(f"The certificate in {path} {error}.") from error


def read_pins(path: Path | str) -> Pins:
    """Read whom a party pins."""
    path = Path(path)
    try:
        return pin_file.read(_read(path))
    except ValueError as error:
        raise UsageError(f"{path}{error}") from error


def require_own(pins: Pins, identity: Identity) -> None:
    """Raise UsageError unless the pins have this party, too: all parties have the same pins."""
    if identity.fingerprint in pins.names:
        return
    faults = [] if identity.certificate else ["it has no certificate"]
    for authority in pins.authorities if identity.certificate else ():
        try:
            key = bytes.fromhex(identity.fingerprint)
            authority.holder(identity.certificate, key, datetime.now(UTC))
            return
        except ValueError as error:
            faults.append(f"its certificate {error}")
    why = f": {faults[0]}" if pins.authorities else ""
    raise UsageError(
        f"This party's own identity, {identity.fingerprint}, is not pinned{why}. The other parties "
        "would refuse it."
    )


def _read(path: Path) -> str:
    with _faults(path), path.open("rb") as file:
        data = file.read(_LONGEST)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text.") from error


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}.") from error

"""A consortium's own authority, which certifies the identities of its parties.

Certificates are X.509 (RFC 5280) with keys of Ed25519, so that an authority that a consortium has
already can make them, too. There is one level: the authority signs the parties' certificates. What
it revokes stands in a list (CRL, RFC 5280 too), which parties pin beside its certificate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

PEM = "-----BEGIN CERTIFICATE-----"
REVOKED_PEM = "-----BEGIN X509 CRL-----"
LONGEST = 4096  # characters of a certificate
_CA = x509.BasicConstraints(ca=True, path_length=0)
_PARTY = x509.BasicConstraints(ca=False, path_length=None)


@dataclass(frozen=True)
class Authority:
    """An authority, by its certificate, and the serial numbers of what it has revoked."""

    certificate: x509.Certificate
    revoked: frozenset[int] = frozenset()

    @classmethod
    def read(cls, pem: str) -> Authority:
        """Raises ValueError for a text that is not the certificate of an authority."""
        found = _read(pem)
        try:
            basic = found.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (x509.ExtensionNotFound, ValueError) as error:
            raise ValueError("is not that of an authority") from error
        if not basic.ca:
            raise ValueError("is not that of an authority")
        return cls(found)

    @property
    def name(self) -> str:
        return _name(self.certificate)

    def with_revoked(self, pem: str) -> Authority:
        """Give the authority with a list of what it has revoked.

        Raises ValueError, whose text follows "the list of revoked certificates".
        """
        with _malformed():
            found = x509.load_pem_x509_crl(pem.encode())
            key = self.certificate.public_key()
            assert isinstance(key, Ed25519PublicKey)  # noqa: S101  (`_read` has seen it)
            good = found.issuer == self.certificate.subject and found.is_signature_valid(key)
        if not good:
            raise ValueError("is of another authority")
        return replace(self, revoked=self.revoked | {entry.serial_number for entry in found})

    def holder(self, pem: str, identity: bytes, now: datetime) -> str:
        """Give the name of the party that has a certificate of this authority.

        `identity` is its public key. Raises ValueError, whose text follows "the certificate of X".
        """
        found = _read(pem)
        try:
            found.verify_directly_issued_by(self.certificate)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError("is of another authority") from error
        for each in (found, self.certificate):
            if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
                raise ValueError(
                    f"holds from {each.not_valid_before_utc:%Y-%m-%d} to "
                    f"{each.not_valid_after_utc:%Y-%m-%d}"
                )
        if found.serial_number in self.revoked:
            raise ValueError("is revoked")
        if _identity(found) != identity:
            raise ValueError("is for another identity")
        return _name(found)


def found_authority(secret: Ed25519PrivateKey, name: str, now: datetime, days: int) -> str:
    """Make the certificate (PEM) of a new authority, signed by itself."""
    return _certificate(secret.public_key(), _of(name), _of(name), secret, now, days, _CA)


def certify(
    authority: Authority,
    secret: Ed25519PrivateKey,
    identity: bytes,
    name: str,
    now: datetime,
    days: int,
) -> str:
    """Make a party's certificate (PEM). `secret` is the authority's.

    Raises ValueError for bytes that are no public key, and for a secret that is another's.
    """
    if secret.public_key() != authority.certificate.public_key():
        raise ValueError("The secret key is not that of the authority's certificate.")
    key = Ed25519PublicKey.from_public_bytes(identity)
    issuer = authority.certificate.subject
    return _certificate(key, _of(name), issuer, secret, now, days, _PARTY)


def revoke(
    authority: Authority, secret: Ed25519PrivateKey, serials: Collection[int], now: datetime
) -> str:
    """Make the list (PEM) of what an authority has revoked before, and of these serial numbers."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - timedelta(minutes=5))  # of clocks that differ
        .next_update(authority.certificate.not_valid_after_utc)
    )
    for serial in sorted({*authority.revoked, *serials}):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(secret, None).public_bytes(Encoding.PEM).decode()


def serial_of(pem: str) -> int:
    """Give the serial number of a certificate. Raises ValueError."""
    return _read(pem).serial_number


def described(pem: str) -> tuple[str, str, str, datetime]:
    """Give a certificate's holder, its issuer, its identity and its last day. Raises ValueError."""
    found = _read(pem)
    issuer = _common_name(found.issuer)
    return _name(found), issuer, _identity(found).hex(), found.not_valid_after_utc


def _certificate(
    key: Ed25519PublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    secret: Ed25519PrivateKey,
    now: datetime,
    days: int,
    basic: x509.BasicConstraints,
) -> str:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # of clocks that differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(basic, critical=True)
    )
    return builder.sign(secret, None).public_bytes(Encoding.PEM).decode()


def _read(pem: str) -> x509.Certificate:
    if len(pem) > LONGEST:
        raise ValueError("is too long")
    with _malformed():
        found = x509.load_pem_x509_certificate(pem.encode())
        _identity(found)
        _name(found)
        return found


@contextmanager
def _malformed() -> Iterator[None]:
    try:
        yield
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError("cannot be read") from error


def _identity(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("has a key that is not Ed25519")
    return key.public_bytes_raw()


def _name(certificate: x509.Certificate) -> str:
    return _common_name(certificate.subject)


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not found:
        raise ValueError("has no name")
    return str(found[0].value)


def _of(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

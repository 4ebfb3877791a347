"""Keys, what two parties derive of them, and boxes that only one party can open.

X25519 (RFC 7748), HKDF with SHA-256 (RFC 5869) and AES-256-GCM (SP 800-38D), all of the package
`cryptography`. All values are bytes; keys and derived keys have 32.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
TAG_BYTES = 16  # that a box has beyond its contents
_NONCE = bytes(12)  # a box's key seals one box and nothing else


class BadKey(ValueError):
    """A public key that gives no secret, or a box that its key does not open."""


def new_secret() -> bytes:
    """Draw a secret key, or a seed, from the operating system's generator."""
    return secrets.token_bytes(KEY_BYTES)


def public_key(secret: bytes) -> bytes:
    """Give the public key of a secret key."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret: bytes, theirs: bytes) -> bytes:
    """Give what two parties have in common: each from its own secret and the other's public key.

    Raises BadKey for a public key of the wrong length, or of a small subgroup.
    """
    try:
        own = X25519PrivateKey.from_private_bytes(secret)
        return own.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError as error:
        raise BadKey("A public key of the roster gives no secret.") from error


def derive(secret: bytes, info: bytes) -> bytes:
    """Derive a key from a secret; another `info` gives an unrelated key."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(secret)


def seal(key: bytes, contents: bytes) -> bytes:
    """Encrypt and authenticate contents with a key that seals nothing else."""
    return AESGCM(key).encrypt(_NONCE, contents, None)


def unseal(key: bytes, box: bytes) -> bytes:
    """Give the contents of a box. Raises BadKey unless `seal` made it with this key."""
    try:
        return AESGCM(key).decrypt(_NONCE, box, None)
    except (InvalidTag, ValueError) as error:
        raise BadKey("A box is not of the party that it names.") from error

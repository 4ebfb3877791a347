"""Whom the client of `join` trusts, and its limits: out of its arguments and their files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from client_sdk.api import key_file
from client_sdk.errors import UsageError
from client_sdk.trust.limits import Limits

if TYPE_CHECKING:
    from serverless_fl.privacy.secure.identity import Identity, Pins

IDENTITY = key_file.FOLDER / "identity.key"


def limits_of(arguments: argparse.Namespace) -> Limits:
    """The client's own limits."""
    return Limits(
        min_participants=arguments.min_participants,
        require_secure=arguments.require_secure,
        pinned=arguments.pin is not None,
        max_epsilon=arguments.max_epsilon,
    )


def certificate_of(arguments: argparse.Namespace) -> tuple[Path, Path] | None:
    """The files of the certificate that the client shows, and of its key. Raises UsageError."""
    certificate, key = arguments.client_certificate, arguments.client_key
    if certificate is None and key is not None:
        raise UsageError("--client-key goes with --client-certificate.")
    return None if certificate is None else (certificate, key or certificate)


def read_trust(arguments: argparse.Namespace) -> tuple[Identity | None, Pins | None]:
    """The identity with which the client signs its keys, and whom it pins. Raises UsageError."""
    path = arguments.identity or (IDENTITY if IDENTITY.is_file() else None)
    if path is None:
        if arguments.pin is not None:
            raise UsageError(
                "--pin needs an identity of this party's own: make one with `identity new`."
            )
        return None, None
    # Imported here: few clients have an identity, and it needs the package of ciphers.
    from client_sdk.trust import identities

    identity = identities.read_identity(path)
    if arguments.pin is None:
        return identity, None
    pins = identities.read_pins(arguments.pin)
    identities.require_own(pins, identity)
    return identity, pins

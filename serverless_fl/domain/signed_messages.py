"""Signatures of short messages, as https://www.standardwebhooks.com says: webhooks and wake-ups."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

TOLERANCE = 300.0  # seconds by which a message may be older or newer than the receiver's clock
_ID, _AT, _SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
NAMES = (_ID, _AT, _SIGNATURE)


class NotGenuine(ValueError):
    """A message that its sender has not signed with this key, or not now."""


def sign(key: bytes, message: str, body: bytes, at: float) -> dict[str, str]:
    """Give the headers of a message with this id, sent at `at` (seconds since 1970)."""
    seconds = str(int(at))
    digest = hmac.new(key, _signed(message, seconds, body), hashlib.sha256).digest()
    return {_ID: message, _AT: seconds, _SIGNATURE: f"v1,{base64.b64encode(digest).decode()}"}


def require_signed(key: bytes, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Raise NotGenuine unless the headers, with names in lower case, sign this body with the key.

    A header may hold several signatures, and one that fits is enough.
    """
    message, seconds, signatures = (headers.get(name, "") for name in NAMES)
    if not (message and seconds.isascii() and seconds.isdigit() and signatures):
        raise NotGenuine("The message is not signed.")
    if abs(now - int(seconds[:15])) > TOLERANCE:
        raise NotGenuine("The message is older, or newer, than five minutes.")
    digest = hmac.new(key, _signed(message, seconds, body), hashlib.sha256).digest()
    for one in signatures.split():
        version, _, text = one.partition(",")
        try:
            found = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
        if version == "v1" and hmac.compare_digest(found, digest):
            return
    raise NotGenuine("The message is signed with another key.")


def _signed(message: str, seconds: str, body: bytes) -> bytes:
    return b".".join((message.encode(), seconds.encode(), body))

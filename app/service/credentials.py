"""Keys and tokens: made, hashed and compared. Nothing here is ever stored in the clear."""

from __future__ import annotations

import base64
import hashlib
import hmac


def fingerprint(secret: str) -> str:
    """What the store keeps of a secret. The secrets are random and long, so no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, stored: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(fingerprint(secret), stored)


def derive(secret: str, purpose: str) -> str:
    """A further secret that only the holder of `secret` can compute (HMAC-SHA256, base64url)."""
    mac = hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def enrolment_key(admin_key: str, experiment_id: str) -> str:
    """Derived, so that the admin can always see it again though only its hash is stored."""
    return "enrol_" + derive(admin_key, f"enrolment/{experiment_id}")


def client_token(client_key: str, experiment_id: str, slot: int) -> str:
    """Derived from the client's own key: a retried subscription gets the same token again."""
    return f"{slot}.tok_" + derive(client_key, f"client/{experiment_id}/{slot}")


def slot_of(token: str) -> int | None:
    """The slot that a client token claims, or None where it is no such token."""
    slot, dot, _ = token.partition(".tok_")
    return int(slot) if dot and len(slot) <= 7 and slot.isascii() and slot.isdigit() else None

"""Makes, hashes and compares keys and tokens. The store holds none of them in the clear."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from serverless_fl.domain.errors import Conflict
from serverless_fl.domain.experiment import Experiment


def fingerprint(secret: str) -> str:
    """The hash that the store keeps. Secrets are random and long, so the hash needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, stored: str) -> bool:
    """Whether `stored` is the fingerprint of `secret`; compares in constant time."""
    return hmac.compare_digest(fingerprint(secret), stored)


def derive(secret: str, purpose: str) -> str:
    """Another secret, which only the holder of `secret` can compute (HMAC-SHA256, base64url)."""
    mac = hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def enrolment_key(admin_key: str, experiment_id: str, generation: int = 0, salt: str = "") -> str:
    """The key is derived, so the admin can see it again although only its hash is stored.

    `salt` is random and never leaves the store. Without the salt, the holder of an enrolment key
    cannot use it to guess the admin key. Early experiments have no salt.
    """
    purpose = f"enrolment/{experiment_id}" + (f"/{generation}" if generation else "")
    return "enrol_" + derive(admin_key, f"{purpose}/{salt}" if salt else purpose)


def new_salt() -> str:
    """256 random bits."""
    return secrets.token_hex(32)


def client_token(client_key: str, experiment_id: str, slot: int, generation: int = 0) -> str:
    """The token is derived from the client's own key, so a repeated subscription gets it again."""
    purpose = f"client/{experiment_id}/{slot}" + (f"/{generation}" if generation else "")
    return f"{slot}.tok_" + derive(client_key, purpose)


@dataclass(frozen=True)
class AdminKeys:
    """The admin key and, while an operator changes it, the previous one."""

    current: str = field(repr=False)
    previous: str | None = field(default=None, repr=False)

    def caller(self, secret: str) -> str | None:
        """The name of the holder of `secret` in records and logs; None if it is no admin key."""
        found = None
        for key, name in ((self.current, "admin"), (self.previous, "admin (previous key)")):
            if key is not None and matches(secret, fingerprint(key)):
                found = found or name
        return found

    def enrolment_key(self, experiment: Experiment) -> str:
        """The key that enrols now. Raises Conflict if it was derived from another admin key."""
        for key in (self.current, self.previous):
            if key is not None:
                found = enrolment_key(
                    key, experiment.id, experiment.enrol_generation, experiment.enrol_salt
                )
                if matches(found, experiment.enrol_key_hash):
                    return found
        raise Conflict(
            "The enrolment key was made under another admin key. It works, but can be shown only "
            "while FL_ADMIN_KEY_PREVIOUS is that key; or make a new one.",
            code="enrolment-key-not-shown",
        )


def slot_of(token: str) -> int | None:
    """The slot that a client's token names; None if the secret has another form."""
    slot, dot, _ = token.partition(".tok_")
    return int(slot) if dot and len(slot) <= 7 and slot.isascii() and slot.isdigit() else None

"""Bits that follow from a secret: whoever has it can compute them again, nobody else can guess."""

from __future__ import annotations

import hashlib


def derive(key: bytes, kind: bytes, name: bytes, number: int = 0, *, size: int = 32) -> bytes:
    """Give `size` bytes of SHAKE-256 (FIPS 202) for a purpose, which `kind` and the rest name.

    All fields but the last have known lengths, so no two purposes have the same input.
    """
    parts = [len(key).to_bytes(4), key, len(kind).to_bytes(4), kind, number.to_bytes(8), name]
    return hashlib.shake_256(b"".join(parts)).digest(size)


def secret_ticket(secret: bytes, number: int, attempt: int, slot: int) -> float:
    """Draw a number in [0, 1) for a slot in an attempt at a round, of an experiment's secret."""
    digest = derive(secret, b"cohort", f"{number} {attempt} {slot}".encode(), size=8)
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53

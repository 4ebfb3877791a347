"""The digest to which all keys of an attempt are bound.

A coordinator that shows two parties another model, other settings or another roster makes them
derive other keys: their masks do not cancel, and the sum is noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from serverless_fl.privacy.secure.terms import Terms


class Refused(Exception):
    """What the coordinator asks for would tell it more than the sum of enough updates."""


@dataclass(frozen=True)
class Proof:
    """An identity (a public key of Ed25519, 32 bytes), its signature (64 bytes) under a party's
    keys, and the certificate (PEM) of the identity, if it has one.
    """

    identity: bytes
    signature: bytes
    certificate: str = ""


@dataclass(frozen=True)
class Member:
    """A party of the roster, and the two public keys that it made for this attempt alone.

    `box_key` opens boxes. `mask_key` makes masks; its secret is shared out, and the coordinator
    learns it if the party is lost after it has shared. `proof` is there if the party has an
    identity; it is no part of the digest, so parties that know no identities get the same one.
    """

    slot: int
    box_key: bytes
    mask_key: bytes
    proof: Proof | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class AttemptContext:
    """What all parties of an attempt must agree on. The roster ascends by slot."""

    experiment: str
    round: int
    attempt: int
    model_sha256: str  # of the model that they train from
    config_sha256: str  # `serverless_fl.domain.provenance.config_digest`
    terms: Terms
    roster: Sequence[Member]

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything above, 32 bytes."""
        roster = [[m.slot, m.box_key.hex(), m.mask_key.hex()] for m in self.roster]
        facts = [self.experiment, self.round, self.attempt, self.model_sha256, self.config_sha256]
        text = json.dumps([*facts, self.terms.text, roster], separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()

    @cached_property
    def start_digest(self) -> bytes:
        """The digest without the roster, 32 bytes: known when the parties make their keys."""
        return replace(self, roster=()).digest

    @property
    def slots(self) -> tuple[int, ...]:
        return tuple(member.slot for member in self.roster)

    @cached_property
    def _by_slot(self) -> dict[int, Member]:
        return {member.slot: member for member in self.roster}

    def member(self, slot: int) -> Member:
        """Give a party of the roster. Raises KeyError."""
        return self._by_slot[slot]


def slots_digest(slots: Collection[int]) -> str:
    """Give the SHA-256 (hexadecimal) of a set of slots."""
    return hashlib.sha256(",".join(map(str, sorted(slots))).encode()).hexdigest()

"""Mode `helper`: a second operator knows the masks, and the coordinator the masked updates.

For each update a client draws a key pair, and masks the update with the stream that the pair and
the helper's key give (X25519). It sends the public key with the update. From the public keys of the
updates in a sum the helper makes the same streams, and tells the coordinator their sum alone. Who
lacks either half learns nothing of a single update. A client that is lost costs its own update.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from serverless_fl.domain.records import client_id
from serverless_fl.privacy.secure import agreement
from serverless_fl.privacy.secure.agreement import BadKey
from serverless_fl.privacy.secure.context import AttemptContext, Member, Proof, Refused
from serverless_fl.privacy.secure.graph import FEWEST
from serverless_fl.privacy.secure.identity import Identity, Pins, require_signature
from serverless_fl.privacy.secure.streams import WEIGHTS, Stream, apply_streams

MOST = 1000  # updates in a sum
WORK = 1 << 28  # words that the helper makes for one answer, of all streams together
_SEAL = re.compile(
    r"(?P<key>[0-9a-f]{64}) (?P<fewest>[1-9][0-9]{0,5}) (?P<pinned>[01])"
    r"(?: (?P<identity>[0-9a-f]{64}) (?P<signature>[0-9a-f]{128})"
    r"(?: (?P<certificate>[A-Za-z0-9_=-]{1,5464}))?)?"
)
LONGEST = 5800  # characters of a seal's text


@dataclass(frozen=True)
class Seal:
    """What a client sends with an update, so that the helper can make its mask.

    `key` (32 bytes) is the public key of a pair that is drawn for this update alone. The helper
    refuses a sum of fewer than `fewest` updates, and with `pinned` it opens the sum only if it
    knows all its clients by pins of its own. The mask depends on both, so who changes them gets
    noise. `proof` is there if the client has an identity.
    """

    key: bytes
    fewest: int = FEWEST
    pinned: bool = False
    proof: Proof | None = None

    @property
    def text(self) -> str:
        """All of it in one line, as it travels and as records keep it."""
        words = [self.key.hex(), str(self.fewest), str(int(self.pinned))]
        if self.proof is not None:
            words += [self.proof.identity.hex(), self.proof.signature.hex()]
            if self.proof.certificate:
                words.append(base64.urlsafe_b64encode(self.proof.certificate.encode()).decode())
        return " ".join(words)

    @classmethod
    def from_text(cls, text: str) -> Seal:
        """Raises ValueError for another text than that of a seal."""
        found = _SEAL.fullmatch(text)
        if found is None:
            raise ValueError("this is no seal of an update")
        proof = None
        if found["identity"]:
            certificate = base64.urlsafe_b64decode(found["certificate"] or "").decode("ascii")
            keys = bytes.fromhex(found["identity"]), bytes.fromhex(found["signature"])
            proof = Proof(*keys, certificate)
        key, fewest = bytes.fromhex(found["key"]), int(found["fewest"])
        made = cls(key, fewest, found["pinned"] == "1", proof)
        if made.text != text:  # base64 of which another text decodes to the same bytes
            raise ValueError("this is no seal of an update")
        return made

    def member(self, slot: int, helper: bytes) -> Member:
        """The entry that a client's identity signs: `helper` is the helper's public key."""
        terms = b"%d %d " % (self.fewest, self.pinned) + helper
        return Member(slot, self.key, hashlib.sha256(terms).digest(), self.proof)

    def require_sound(self, context: AttemptContext, slot: int, helper: bytes) -> None:
        """Check what everybody can check: the key gives a secret, and a proof is a signature.

        Raises Refused.
        """
        try:
            agreement.agree(agreement.new_secret(), self.key)
        except BadKey as error:
            raise Refused(f"The key of {client_id(slot)} gives no secret.") from error
        if self.proof is not None:
            require_signature(context, self.member(slot, helper))


def seal(
    context: AttemptContext,
    slot: int,
    helper: bytes,
    *,
    fewest: int = FEWEST,
    pinned: bool = False,
    identity: Identity | None = None,
) -> tuple[Seal, Stream]:
    """Draw the seal of an update, and give the stream that masks the update.

    `helper` is the helper's public key. Raises Refused if it gives no secret.
    """
    secret = agreement.new_secret()
    made = Seal(agreement.public_key(secret), fewest, pinned)
    if identity is not None:
        made = replace(made, proof=identity.sign(context, made.member(slot, helper)))
    try:
        shared = agreement.agree(secret, helper)
    except BadKey as error:
        raise Refused("The helper's key gives no secret.") from error
    return made, Stream(_mask_key(shared, context, slot, helper, made), 1)


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A sum that the helper is asked to open: the attempt, without a roster, and the seals of the
    updates in the sum by ascending slot.
    """

    context: AttemptContext
    seals: Mapping[int, Seal]

    @classmethod
    def of(cls, context: AttemptContext, seals: Mapping[int, str]) -> Sealed:
        """Read the texts of seals. Raises ValueError."""
        found = {slot: Seal.from_text(text) for slot, text in sorted(seals.items())}
        return cls(context=replace(context, roster=()), seals=found)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the attempt and of all seals: what the helper remembers."""
        seals = [[slot, seal.text] for slot, seal in self.seals.items()]
        text = json.dumps([self.context.start_digest.hex(), seals], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def plain(self) -> dict[str, Any]:
        """All of it as JSON values."""
        context, terms = self.context, self.context.terms
        return {
            "experiment": context.experiment,
            "round": context.round,
            "attempt": context.attempt,
            "model_sha256": context.model_sha256,
            "config_sha256": context.config_sha256,
            "words": terms.bits,
            "max_weight_change": terms.max_weight_change,
            "parties": terms.parties,
            "most_examples": terms.most_examples,
            "metrics": list(terms.metrics),
            "updates": [
                {"client": client_id(slot), "seal": seal.text} for slot, seal in self.seals.items()
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Helper:
    """The helper: its secret key, its own minimum of updates in a sum, and whom it knows.

    It keeps nothing but `Sealed.digest` of the sum that it has opened in each round: its caller
    makes that durable before anything of `words` leaves the machine, and opens no other sum.
    """

    secret: bytes
    fewest: int = FEWEST
    pins: Pins | None = None

    @cached_property
    def key(self) -> bytes:
        """Its public key, 32 bytes, which is its fingerprint, too."""
        return agreement.public_key(self.secret)

    def require(self, asked: Sealed, now: datetime) -> None:
        """Check that the sum may be opened. Raises Refused, with a sentence for the coordinator."""
        count, wants = len(asked.seals), {seal.fewest for seal in asked.seals.values()}
        needed = max(self.fewest, FEWEST, *wants)
        if count < needed:
            raise Refused(f"The sum has {count} updates; its clients and the helper want {needed}.")
        if count > min(MOST, asked.context.terms.parties):
            raise Refused(f"The sum has {count} updates, more than its settings allow.")
        if len({seal.key for seal in asked.seals.values()}) < count:
            raise Refused("Two updates have the same key.")
        if self.pins is not None:
            roster = tuple(seal.member(slot, self.key) for slot, seal in asked.seals.items())
            self.pins.require(replace(asked.context, roster=roster), now)
            return
        for slot, each in asked.seals.items():
            if each.pinned:
                raise Refused(
                    f"{client_id(slot)} takes part with pinned parties alone, and this helper has "
                    "no pins (FL_HELPER_PINS)."
                )

    def words(self, asked: Sealed, sequence: int, first: int, count: int) -> np.ndarray:
        """Give what takes the masks off the sum: words from `first` on, to be added to it.

        `sequence` is WEIGHTS (words of the terms' bits) or COUNTS (uint64). There are at most
        `count` words; of many updates fewer, so that an answer takes about a second at most.
        Raises Refused for a key that gives no secret.
        """
        bits = asked.context.terms.bits if sequence == WEIGHTS else 64
        count = max(1, min(count, WORK // max(1, len(asked.seals))))
        found = np.zeros(count, f"<u{bits // 8}")
        apply_streams(found, self._streams(asked), first, sequence)
        return found

    def _streams(self, asked: Sealed) -> Sequence[Stream]:
        found = []
        for slot, each in asked.seals.items():
            try:
                shared = agreement.agree(self.secret, each.key)
            except BadKey as error:
                raise Refused(f"The key of {client_id(slot)} gives no secret.") from error
            found.append(Stream(_mask_key(shared, asked.context, slot, self.key, each), -1))
        return found


def counts_size(metrics: Sequence[str]) -> int:
    """Give the number of words of the counts of an update."""
    return 1 + 2 * len(metrics)


def _mask_key(
    shared: bytes, context: AttemptContext, slot: int, helper: bytes, seal: Seal
) -> bytes:
    about = b" %d %d %d" % (slot, seal.fewest, seal.pinned)
    info = b"serverless-fl mask that the helper knows " + context.start_digest
    return agreement.derive(shared, info + helper + seal.key + about)

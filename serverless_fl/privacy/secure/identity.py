"""Identities: a key pair that a party keeps, and signs the keys of each attempt with.

Ed25519 (RFC 8032). A public key has 32 bytes, so an identity's fingerprint is the key itself, as 64
hexadecimal digits. A signature covers the digest of the attempt without its roster, the party's
slot and its two keys: it holds for no other experiment, round, attempt, model or settings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from serverless_fl.domain.records import client_id
from serverless_fl.privacy.secure.authority import Authority
from serverless_fl.privacy.secure.context import (
    AttemptContext,
    Member,
    Proof,
    Refused,
    slots_digest,
)
from serverless_fl.privacy.secure.graph import confirmations

FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Identity:
    """A party's identity: its secret key, and its authority's certificate (PEM) if it has one."""

    secret: Ed25519PrivateKey
    certificate: str = ""

    @classmethod
    def new(cls) -> Identity:
        """Draw one from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def fingerprint(self) -> str:
        return self.secret.public_key().public_bytes_raw().hex()

    def sign(self, context: AttemptContext, own: Member) -> Proof:
        """Sign the keys that a party has made for an attempt."""
        signature = self.secret.sign(_signed(context, own))
        return Proof(bytes.fromhex(self.fingerprint), signature, self.certificate)

    def enrol(self, experiment: str, client_key: str) -> Proof:
        """Sign the enrolment of a client, whose secret key this is."""
        signature = self.secret.sign(_enrolled(experiment, client_key))
        return Proof(bytes.fromhex(self.fingerprint), signature, self.certificate)

    def confirm(self, context: AttemptContext, summed: Collection[int]) -> bytes:
        """Sign the list of those whose updates are in the sum; 64 bytes."""
        return self.secret.sign(_confirmed(context, summed))


@dataclass(frozen=True)
class Pins:
    """Who may take part: fingerprints with a name each, or holders of an authority's certificates.
    `helpers` are fingerprints of helpers, with a name each; no helper is a party.

    A party gets them outside of the coordinator, so that it need not believe the coordinator.
    """

    names: Mapping[str, str]
    authorities: tuple[Authority, ...] = ()
    helpers: Mapping[str, str] = field(default_factory=dict)

    def require(self, context: AttemptContext, now: datetime) -> None:
        """Check that each party of a complete roster is pinned, once, and has signed its keys.

        Raises Refused, which names what differs, and the pinned parties that are missing.
        """
        found: dict[str, int] = {}
        faults = []
        for member in context.roster:
            who = client_id(member.slot)
            try:
                require_signature(context, member)
                for name in self._names_of(member, now):
                    if name in found:
                        raise Refused(f"{who} is the same party as {client_id(found[name])}.")
                    found[name] = member.slot
            except Refused as refused:
                faults.append(str(refused))
        if faults:
            missing = [name for pin, name in self.names.items() if pin not in found]
            if missing:
                faults.append(f"Missing of the pinned parties: {', '.join(missing)}.")
            raise Refused(" ".join(faults))

    def _names_of(self, member: Member, now: datetime) -> tuple[str, ...]:
        """The names by which the roster has a party once only: its fingerprint, and its
        certificate's. Raises Refused for one that is not pinned.
        """
        assert member.proof is not None  # noqa: S101  (`require_signature` has seen it)
        fingerprint, who = member.proof.identity.hex(), client_id(member.slot)
        if fingerprint in self.names:
            return (fingerprint,)
        if not self.authorities:
            raise Refused(f"{who} has an identity that is not pinned: {fingerprint}.")
        if not member.proof.certificate:
            raise Refused(f"{who} has no certificate of the pinned authority.")
        faults = []
        for authority in self.authorities:
            try:
                name = authority.holder(member.proof.certificate, member.proof.identity, now)
                return (fingerprint, f"certificate {name}")
            except ValueError as error:
                faults.append(str(error))
        raise Refused(f"The certificate of {who} {faults[0]}.")


def require_signature(context: AttemptContext, member: Member) -> None:
    """Check that a party's keys are signed for this attempt by the identity that it shows.

    Raises Refused.
    """
    who, proof = client_id(member.slot), member.proof
    if proof is None:
        raise Refused(f"{who} has not signed its keys: it has no identity.")
    try:
        key = Ed25519PublicKey.from_public_bytes(proof.identity)
        key.verify(proof.signature, _signed(context, member))
    except (InvalidSignature, ValueError) as error:
        raise Refused(
            f"The identity of {who} has not signed these keys for this attempt."
        ) from error


def require_enrolment(proof: Proof, experiment: str, client_key: str) -> None:
    """Check that an identity has signed the enrolment of the client with this key. Raises Refused.

    So nobody enrols under the fingerprint of somebody else.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(proof.identity)
        key.verify(proof.signature, _enrolled(experiment, client_key))
    except (InvalidSignature, ValueError) as error:
        raise Refused("The identity has not signed this enrolment.") from error


def has_confirmed(
    context: AttemptContext, slot: int, summed: Collection[int], signature: bytes
) -> bool:
    """Say whether a party of the roster has signed this list of those in the sum."""
    try:
        proof = context.member(slot).proof
        if proof is None:
            return False
        key = Ed25519PublicKey.from_public_bytes(proof.identity)
        key.verify(signature, _confirmed(context, summed))
    except (InvalidSignature, ValueError, KeyError):
        return False
    return True


def require_confirmed(
    context: AttemptContext, summed: Collection[int], signatures: Mapping[int, bytes]
) -> None:
    """Check that enough parties have signed the list of those in the sum; `signatures` by slot.

    So a coordinator cannot show parties different lists, and have each list opened by some. Raises
    Refused.
    """
    needed = confirmations(len(context.roster))
    good = [s for s, found in signatures.items() if has_confirmed(context, s, summed, found)]
    if len(good) < needed:
        raise Refused(
            f"{len(good)} parties have signed the list of those in the sum; this client wants "
            f"{needed}."
        )


def _enrolled(experiment: str, client_key: str) -> bytes:
    key = hashlib.sha256(client_key.encode()).digest()
    return b"serverless-fl enrolment " + experiment.encode() + b" " + key


def _confirmed(context: AttemptContext, summed: Collection[int]) -> bytes:
    listed = slots_digest(summed).encode()
    return b"serverless-fl list of a sum " + context.digest + b" " + listed


def _signed(context: AttemptContext, member: Member) -> bytes:
    slot = b"%d" % member.slot
    about = b"serverless-fl keys of an attempt " + context.start_digest + slot + b" "
    return about + member.box_key + member.mask_key

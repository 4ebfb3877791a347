"""Bodies of a party's identity: its public key, and the signature that proves it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from serverless_fl.privacy.secure import context
from serverless_fl.wire.base import Body

PublicKey = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
    Field(description="A public key (RFC 7748, RFC 8032), 64 hexadecimal digits"),
]
Signature = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{128}$"),
    Field(description="A signature of Ed25519 (RFC 8032), 128 hexadecimal digits"),
]
Certificate = Annotated[
    str,
    StringConstraints(pattern=r"^[\x20-\x7e\r\n]*$", max_length=4096),
    Field(description="The identity's certificate of X.509 (RFC 5280) as PEM, if it has one"),
]


class Proof(Body):
    """The identity of a party, and its signature under the keys that it sends."""

    identity: PublicKey
    signature: Signature
    certificate: Certificate = ""

    @classmethod
    def of(cls, proof: context.Proof) -> Proof:
        return cls(
            identity=proof.identity.hex(),
            signature=proof.signature.hex(),
            certificate=proof.certificate,
        )


def proof_of(body: Proof) -> context.Proof:
    """The proof that a body holds."""
    keys = bytes.fromhex(body.identity), bytes.fromhex(body.signature)
    return context.Proof(*keys, body.certificate)

"""Bodies of secure aggregation: the keys, boxes and shares of an attempt, and its record."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, StringConstraints

from serverless_fl.domain.metrics import MAX_METRICS
from serverless_fl.domain.round import RoundState
from serverless_fl.wire.base import Answer, Body, MetricName, Sha256
from serverless_fl.wire.bounds import (
    MAX_CLIENTS,
    MAX_EXAMPLES,
    Attempt,
    ClientId,
    Counts,
    ExperimentId,
    Listed,
    RoundNumber,
    SealText,
)
from serverless_fl.wire.identity import Proof, PublicKey, Signature

Box = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{296}$"),
    Field(description="Two shares, encrypted for one client: 296 hexadecimal digits"),
]
Share = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{132}$"),
    Field(description="A share of a secret: 132 hexadecimal digits"),
]
MOST_SEALED = 1000  # updates in a sum that a helper opens
MAX_WORDS = 1 << 23  # in one answer of a helper


class PhaseKeys(Body):
    attempt: Attempt
    box_key: PublicKey
    mask_key: PublicKey


class ProvenKeys(PhaseKeys):
    proof: Proof | None = Field(None, description="Of a party that has an identity")


class ForClient(Body):
    client: ClientId
    box: Box


class PhaseBoxes(Body):
    attempt: Attempt
    boxes: list[ForClient] = Field(max_length=MAX_CLIENTS)


class ShareOf(Body):
    client: ClientId
    share: Share


class PhaseAnswer(Body):
    """Shares of the seeds of clients whose updates are in the sum, and of the keys of others."""

    attempt: Attempt
    seeds: list[ShareOf] = Field(max_length=MAX_CLIENTS)
    keys: list[ShareOf] = Field(max_length=MAX_CLIENTS)


class PhaseConfirmation(Body):
    """A signature under the list of those whose updates are in the sum."""

    attempt: Attempt
    signature: Signature


class PhaseReceipt(Answer):
    """What the client has sent is stored; the first that it sends in an attempt stands."""

    round: RoundNumber
    attempt: Attempt
    state: RoundState


class MemberView(Answer):
    client: ClientId
    box_key: PublicKey
    mask_key: PublicKey
    proof: Proof | None = Field(None, description="Of a party that has an identity")


class FromClient(Answer):
    client: ClientId
    box: Box


class ConfirmationView(Answer):
    client: ClientId
    signature: Signature


class SharesView(Answer):
    client: ClientId = Field(description="The client that handed the shares in")
    seeds: Listed[ShareOf] = Field(max_length=MAX_CLIENTS)
    keys: Listed[ShareOf] = Field(max_length=MAX_CLIENTS)


class MaskingView(Answer):
    """An attempt under secure aggregation, as far as it has come. Lists ascend by client."""

    round: RoundNumber
    attempt: Attempt
    state: RoundState
    model_sha256: Sha256 = Field(description="SHA-256 of the file that clients train from")
    config_sha256: Sha256
    words: int = Field(ge=16, le=32, description="Bits of a masked word", examples=[32])
    max_weight_change: FiniteFloat = Field(gt=0)
    parties: int = Field(ge=1, le=MAX_CLIENTS, description="The most updates that a sum has")
    most_examples: int = Field(ge=1, le=MAX_EXAMPLES)
    metrics: Listed[MetricName] = Field(max_length=MAX_METRICS)
    roster: Listed[MemberView] = Field(
        max_length=MAX_CLIENTS, description="Complete once the clients share their secrets"
    )
    sharers: Listed[ClientId] = Field(
        max_length=MAX_CLIENTS, description="Those that shared, once the round collects"
    )
    summed: Listed[ClientId] = Field(
        max_length=MAX_CLIENTS, description="Those whose updates are in the sum, once sealed"
    )
    boxes: Listed[FromClient] = Field(
        [], max_length=MAX_CLIENTS, description="The boxes that the calling client can open"
    )
    confirmations: Listed[ConfirmationView] = Field(
        [],
        max_length=MAX_CLIENTS,
        description="Signatures under `summed`, if all of the roster have identities",
    )
    answers: Listed[SharesView] = Field(
        [], max_length=MAX_CLIENTS, description="For the admin: what `verify` recomputes with"
    )
    helper: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = Field(
        "", description="The public key of the helper, if there is one"
    )
    helper_counts: Counts = Field(
        "", description="For the admin: what the helper adds to the masked counts"
    )


class SealedUpdate(Body):
    client: ClientId
    seal: SealText


class SumOfMasks(Body):
    """What a coordinator asks its helper: words that take the masks off a sum."""

    helper: PublicKey = Field(description="The public key of the helper that is asked")
    experiment: ExperimentId
    round: RoundNumber
    attempt: Attempt
    model_sha256: Sha256
    config_sha256: Sha256
    words: Literal[16, 32]
    max_weight_change: FiniteFloat = Field(gt=0)
    parties: int = Field(ge=1, le=MAX_CLIENTS)
    most_examples: int = Field(ge=1, le=MAX_EXAMPLES)
    metrics: Listed[MetricName] = Field(max_length=MAX_METRICS)
    updates: Listed[SealedUpdate] = Field(min_length=1, max_length=MOST_SEALED)
    sequence: Literal["weights", "counts"]
    first: int = Field(ge=0, le=2**40, description="The place of the first word")
    count: int = Field(ge=1, le=MAX_WORDS, description="The most words to answer with")


class HelperView(Answer):
    """A helper, as anybody may see it."""

    key: PublicKey = Field(description="Its public key, which is its fingerprint, too")
    fewest: int = Field(ge=3, description="The fewest updates in a sum that it opens")
    pinned: bool = Field(description="It opens sums of updates of parties alone that it pins")

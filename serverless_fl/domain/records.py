"""Records that the store keeps: clients, blobs, updates, refusals, models and evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serverless_fl.domain.agreement import ColumnSums
from serverless_fl.domain.ledger import LedgerEntry


def client_id(slot: int) -> str:
    """Give the id of the client in a slot, as people and the API use it: `client-07`."""
    return f"client-{slot:02d}"


def slot_named(name: str) -> int | None:
    """Give the slot of a client's id; None if the text is no client's id."""
    digits = name.removeprefix("client-")
    slot = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 7 else -1
    return slot if slot >= 0 and client_id(slot) == name else None


LATE = "late"  # the code of a refusal: the update came when its round had closed
MAX_ANNOUNCED = 256  # parts in one call; the answer holds a long URL for each of them
MAX_PARTS = 20_000  # in one file
MAX_TOKEN_CHANGES = 100  # the newest ones that a record keeps; `token_generation` counts all


@dataclass(frozen=True)
class ClientCertificate:
    """The names in a certificate (RFC 4514) by which a proxy has recognised a client.

    They outlast the certificate: a renewed one has the same subject and issuer.
    """

    subject: str
    issuer: str


@dataclass(frozen=True, kw_only=True)
class Client:
    """A party that holds data. The store keeps its token only as a SHA-256 digest.

    `token_changes` are the times of its last changes of token, in seconds.
    """

    experiment_id: str
    slot: int
    name: str
    token_hash: str
    enrolled_at: float
    token_generation: int = 0
    token_changes: tuple[float, ...] = ()
    revoked_at: float | None = None
    revoked_by: str = ""
    examples: int | None = None  # that it declared of its own data; None: it has a shard
    sums: tuple[ColumnSums, ...] = ()  # of its columns, if it enrolled before the start
    told: bool = False  # a simulation tells it when to ask, so it polls seldom
    identity: str = ""  # the fingerprint of its identity
    certificate: ClientCertificate | None = None  # that it has to show with each request
    labels: tuple[tuple[str, int], ...] = ()  # its examples of each label, if it shares that
    revision: int = field(default=0, compare=False)

    @property
    def id(self) -> str:
        return client_id(self.slot)


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A file in the blob store. `parts` are the SHA-256 of its parts, in order, under `prefix`.

    `sha256` is of the whole file; `sizes` are the bytes of each part.
    """

    prefix: str
    sha256: str
    parts: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def key(self, number: int) -> str:
        return part_key(self.prefix, number, self.parts[number])


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part that a client is about to upload; `size` is in bytes, `number` counts from 0."""

    number: int
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class WeightsCommit:
    """The uploaded parts that make up one file of weights, in order, by their SHA-256."""

    sha256: str
    parts: list[str]


@dataclass(frozen=True, kw_only=True)
class UpdateCommit(WeightsCommit):
    """The parts of an update, its number of training examples, and its metrics.

    A masked update says its attempt, and `counts`: the masked words of its examples and metrics.
    With a helper it has a `seal`, too (`serverless_fl.privacy.secure.helper.Seal`).
    """

    num_examples: int
    attempt: int | None = None
    counts: str = ""
    seal: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


def part_key(prefix: str, number: int, sha256: str) -> str:
    """Give the key of a part. It holds the part's digest, so other bytes get another key."""
    return f"{prefix}/{number:05d}-{sha256}"


@dataclass(frozen=True, kw_only=True)
class Update:
    """One client's accepted upload for one round. Its tensors begin at byte `offset` of the blob.

    `declared` is the number of examples that its client declared when it enrolled; None if the
    client has a shard. `norm` is its distance from the base model, if the experiment bounds the
    distance. The mean takes the share `scale` of that distance.
    """

    experiment_id: str
    round: int
    slot: int
    blob: Blob
    offset: int
    num_examples: int
    metrics: dict[str, float]
    received_at: float
    norm: float | None = None
    scale: float = 1.0
    declared: int | None = None
    header: str = ""  # in base64; set only if the tensors are in another order than the model's
    base_version: int | None = None  # None: the round's own
    attempt: int = 0  # of a masked update; other updates count for all attempts
    counts: str = ""  # of a masked update: the masked words of its examples and metrics
    seal: str = ""  # of a masked update: with it the helper makes its mask

    @property
    def trained_from(self) -> int:
        """The version that the client trained from."""
        return self.round - 1 if self.base_version is None else self.base_version


@dataclass(frozen=True, kw_only=True)
class PhaseKeys:
    """The public keys (hexadecimal) that a client has made for an attempt.

    A client with an identity shows it (hexadecimal), its signature (hexadecimal) under the keys,
    and its certificate (PEM) if it has one.
    """

    slot: int
    box_key: str
    mask_key: str
    identity: str = ""
    signature: str = ""
    certificate: str = ""


@dataclass(frozen=True, kw_only=True)
class PhaseBoxes:
    """The boxes (hexadecimal) of a client's shares, by the slots that can open them."""

    slot: int
    boxes: Mapping[int, str] = field(hash=False)


@dataclass(frozen=True, kw_only=True)
class PhaseConfirmation:
    """A client's signature (hexadecimal) under the list of those whose updates are in the sum."""

    slot: int
    signature: str


@dataclass(frozen=True, kw_only=True)
class PhaseAnswer:
    """The shares (hexadecimal) that a client hands in, by the slots whose secrets they are of."""

    slot: int
    seeds: Mapping[int, str] = field(hash=False)
    keys: Mapping[int, str] = field(hash=False)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The round that takes the update that a client trained from version `base`."""

    experiment_id: str
    base: int
    slot: int
    round: int
    revision: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Cell:
    """The place of a stored result of a task: a span of the model, and a digest.

    The digest covers the updates in the result, and their order and bracketing, so results of other
    updates get another place.
    """

    span: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An upload that the coordinator refused for its contents, or that came too late (`LATE`)."""

    experiment_id: str
    round: int
    slot: int
    code: str
    reason: str
    refused_at: float


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A global model. The admin uploads version 0; round n produces version n.

    `compressed` is the file that clients download, if the experiment has a
    `download_encoding`. `state` has the files of the strategy's state by name; version 0 has none.
    `ledger` is its entry in the ledger of privacy, if the mechanism keeps one.
    """

    experiment_id: str
    version: int
    blob: Blob
    parent_sha256: str | None
    created_at: float
    config_sha256: str = ""
    updates_sha256: str | None = None  # `provenance.updates_digest` of the accepted updates
    created_by: str = "coordinator"
    header: str = ""  # base64, only in version 0: the safetensors header of every version
    compressed: Blob | None = None
    state: Mapping[str, Blob] = field(default_factory=dict, hash=False)
    ledger: LedgerEntry | None = None


CENTRAL = "central"  # the source of what the admin has measured


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of a model version that a client or the admin measured on their own data."""

    experiment_id: str
    version: int
    source: str  # a client's id, or CENTRAL
    num_examples: int
    metrics: dict[str, float]
    received_at: float
    reported_by: str = ""  # the person that reported what is CENTRAL; empty in earlier records

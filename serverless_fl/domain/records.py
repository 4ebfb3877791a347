"""What the store keeps of clients, blobs, updates, refusals, models and evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field


def client_id(slot: int) -> str:
    """The name by which people and the API call the client in a slot: `client-07`."""
    return f"client-{slot:02d}"


def slot_named(name: str) -> int | None:
    """The slot of a client's name, or None where no client is called that."""
    digits = name.removeprefix("client-")
    slot = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 7 else -1
    return slot if slot >= 0 and client_id(slot) == name else None


MAX_TOKEN_CHANGES = 100  # are remembered; the generation counts all of them


@dataclass(frozen=True, kw_only=True)
class Client:
    """A party that holds data. Its key and its token are kept only as SHA-256 digests.

    `token_changes` are the times at which it got another token, the latest ones.
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
    told: bool = False  # by somebody else when to ask
    revision: int = field(default=0, compare=False)

    @property
    def id(self) -> str:
        return client_id(self.slot)


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Bytes in the blob store: `parts` under `prefix`, in order, each named by its own SHA-256."""

    prefix: str
    sha256: str
    parts: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def key(self, number: int) -> str:
        return part_key(self.prefix, number, self.parts[number])


def part_key(prefix: str, number: int, sha256: str) -> str:
    """A part's key holds its digest: other bytes can never take its place."""
    return f"{prefix}/{number:05d}-{sha256}"


@dataclass(frozen=True, kw_only=True)
class Update:
    """An accepted upload of one client for one round. Its tensors begin at byte `offset`.

    `norm` is its distance from the base model, where the experiment bounds that; only `scale` of
    the distance goes into the mean.
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
    header: str = ""  # base64; only where its tensors lie in another order than the model's


@dataclass(frozen=True)
class Cell:
    """A span of the model, and what is summed there: a digest of the updates and their bracketing.

    So the sums of other updates never stand where these are looked for.
    """

    span: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An upload that was refused for what it holds, by whom and why."""

    experiment_id: str
    round: int
    slot: int
    code: str
    reason: str
    refused_at: float


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A global model. Version 0 is the creator's; version n came of round n.

    `copy` is what clients are sent to train from, where the experiment has an encoding for that.
    """

    experiment_id: str
    version: int
    blob: Blob
    parent_sha256: str | None
    created_at: float
    config_sha256: str = ""
    updates_sha256: str | None = None  # of the accepted ones in their order, `domain.provenance`
    created_by: str = "coordinator"
    header: str = ""  # of version 0 only: the safetensors header of every version, base64
    copy: Blob | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What someone measured of a model version on data of their own."""

    experiment_id: str
    version: int
    source: str  # a client's id, or "central"
    num_examples: int
    metrics: dict[str, float]
    received_at: float

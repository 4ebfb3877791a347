"""Response bodies for those who watch: experiments, rounds, clients, models."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from app.domain.experiment import ExperimentState
from app.domain.round import RoundState
from app.wire.schema import Answer, BlobInfo, ExperimentConfig, Sha256


class EvaluationView(Answer):
    source: str = Field(examples=["central"], description="A client, or `central` for the admin")
    num_examples: int
    metrics: dict[str, float]


class ClientView(Answer):
    id: str = Field(examples=["client-07"])
    name: str = Field(examples=["St. Mary's, radiology"])
    shard_size: int = Field(examples=[3000])
    enrolled_at: datetime
    revoked_at: datetime | None


class RefusalView(Answer):
    client: str = Field(examples=["client-03"])
    code: str = Field(examples=["non-finite"])
    reason: str


class AttemptView(Answer):
    attempt: int
    cohort: list[str]
    reported: list[str]
    missing: list[str]
    revoked: list[str]
    ended_at: datetime


class UpdateView(Answer):
    client: str
    num_examples: int
    sha256: Sha256
    size: int
    metrics: dict[str, float]
    received_at: datetime
    norm: float | None = Field(
        None, description="Distance from the base model, where the experiment bounds it"
    )
    scale: float = Field(1.0, description="What was left of that distance; below 1 it was clipped")


class RoundView(Answer):
    """A round's record. `missing` has neither reported, nor been refused, nor been revoked."""

    number: int
    attempt: int
    state: RoundState
    base_version: int
    cohort: list[str]
    reported: list[str]
    missing: list[str]
    refused: list[RefusalView]
    revoked: list[str]
    updates: list[UpdateView]
    earlier_attempts: list[AttemptView]
    group_size: int | None = Field(
        None, description="Updates that were summed in a row; then the sums of such groups"
    )
    opened_at: datetime
    deadline: datetime
    closed_at: datetime | None
    num_examples: int
    update_bytes: int
    aggregation_seconds: float | None
    metrics: dict[str, float] = Field(
        description="Means of the updates' metrics, weighted by examples"
    )


class CostView(Answer):
    """What the experiment would have cost on AWS Lambda until now: an estimate, from its records.

    Prices and assumptions are a table, app/domain/prices.json.
    """

    usd: float = Field(examples=[0.0022])
    budget_usd: float | None = Field(description="At which the experiment pauses")
    items: dict[str, float] = Field(
        description="US dollars of each kind",
        examples=[{"lambda_requests": 0.0002, "http_api_calls": 0.0011, "data_out": 0.0007}],
    )
    requests: float = Field(description="Calls of the API, ticks included", examples=[1103])
    gb_seconds: float = Field(examples=[11.0])
    bytes_up: float
    bytes_down: float
    region: str
    memory_mb: int
    request_ms: float = Field(description="What each call is assumed to take", examples=[9])
    prices_as_of: str = Field(examples=["2026-11-24"])


class RoundSummary(Answer):
    """A line of an experiment's history."""

    number: int
    attempt: int
    state: RoundState
    accepted: int
    contributors: list[str] = Field(description="Whose updates are in the new model")
    opened_at: datetime
    closed_at: datetime | None
    num_examples: int
    update_bytes: int
    metrics: dict[str, float]
    cost_usd: float | None = Field(
        None, description="By estimate, once it is closed", examples=[0.0002]
    )


class ModelView(Answer):
    version: int
    sha256: Sha256
    size: int
    parent_sha256: str | None
    config_sha256: str = Field(description="Of the settings (app/domain/provenance.py)")
    updates_sha256: str | None = Field(description="Of the accepted updates, in their order")
    encoded: BlobInfo | None = Field(
        None, description="The copy that clients are sent, where they are not sent the model itself"
    )
    created_at: datetime
    evaluations: list[EvaluationView]


class ModelPart(Answer):
    """A piece of a model's file. `url` gives it, where the blob store answers clients itself."""

    number: int
    sha256: Sha256
    size: int
    url: str | None


class AuditAction(StrEnum):
    """What was done; in the order in which it happens, where it happens at one moment."""

    EXPERIMENT_CREATED = "experiment-created"
    INITIAL_MODEL_COMMITTED = "initial-model-committed"
    ENROLMENT_KEY_REPLACED = "enrolment-key-replaced"
    CLIENT_ENROLLED = "client-enrolled"
    TOKEN_REPLACED = "token-replaced"  # noqa: S105  (an action's name)  # nosec B105
    CLIENT_REVOKED = "client-revoked"
    ROUND_OPENED = "round-opened"
    ROUND_RETRIED = "round-retried"  # another attempt, with another cohort
    UPDATE_REFUSED = "update-refused"
    ROUND_CLOSED = "round-closed"
    EXPERIMENT_PAUSED = "experiment-paused"
    BUDGET_CHANGED = "budget-changed"
    EXPERIMENT_RESUMED = "experiment-resumed"
    EXPERIMENT_ENDED = "experiment-ended"
    EVALUATION_REPORTED = "evaluation-reported"


class AuditEvent(Answer):
    """Who did what, and when. `clients` are those whom it is about."""

    cursor: str = Field(description="Where to go on reading: the next page's `after`")
    at: datetime
    who: str = Field(
        examples=["admin"],
        description="`admin`, `admin (previous key)`, a client, or `coordinator` where nobody "
        "asked for it",
    )
    what: AuditAction
    round: int | None
    clients: list[str]
    detail: str


class ExperimentSummary(Answer):
    id: str
    name: str
    state: ExperimentState
    round: int
    rounds: int
    model_version: int | None
    created_at: datetime
    reason: str


class ExperimentView(Answer):
    id: str
    name: str
    state: ExperimentState
    progress: str = Field(examples=["Enrolling: 17 of 20 clients."])
    reason: str = Field(description="Why it ended, or why it is paused")
    pausing: bool = Field(description="It pauses once the open round is closed")
    config: ExperimentConfig
    enrolled: int
    round: int = Field(description="The open round; 0 before the first")
    model_version: int | None
    created_at: datetime
    ended_at: datetime | None
    part_bytes: int = Field(description="The most bytes of one uploaded part")
    direct: bool = Field(description="Weights move by URLs of the blob store itself")
    current_round: RoundView | None
    always_refused: list[RefusalView] = Field(
        [],
        description="Clients whose updates were refused in every round for which they were drawn, "
        "each with the last reason",
    )
    history: list[RoundSummary]
    evaluations: int = Field(description="How many were reported, of all model versions")
    cost: CostView
    now: datetime = Field(description="By the coordinator's clock, which its deadlines go by")
    retry_after: float = Field(description="Seconds after which it is worth to look again")

"""The answers' bodies that describe experiments, rounds, clients and models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, StringConstraints

from serverless_fl.domain.audit import AuditAction
from serverless_fl.domain.experiment import ExperimentState
from serverless_fl.domain.lineage import MAX_EXTENSIONS
from serverless_fl.domain.round import RoundState
from serverless_fl.wire.base import Answer, MetricName, Sha256
from serverless_fl.wire.bounds import (
    MAX_CLIENTS,
    Attempt,
    Bytes,
    ClientId,
    Counts,
    Examples,
    ExperimentId,
    Few,
    Listed,
    PartBytes,
    PartNumber,
    Pause,
    RoundNumber,
    SealText,
    StateName,
    Url,
)
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.schema import BlobInfo
from serverless_fl.wire.text import Shown

Clients = Listed[ClientId]
Figures = Annotated[dict[MetricName, FiniteFloat], Few]


class EvaluationView(Answer):
    source: Shown = Field(examples=["central"], description="A client, or `central` for the admin")
    num_examples: Examples
    metrics: Figures


class ClientView(Answer):
    id: ClientId = Field(examples=["client-07"])
    name: Shown = Field(examples=["St. Mary's, radiology"])
    shard_size: Examples = Field(
        examples=[3000], description="Examples of the client: of its shard, or of its own"
    )
    identity: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = Field(
        "", description="The fingerprint of the client's identity, if it has enrolled with one"
    )
    woken_by: Shown = Field(
        "",
        examples=["*.example.org"],
        description="If the client is woken up: the rule of the operator that allows its address. "
        "The address itself is shown to nobody",
    )
    labels: Annotated[dict[Shown, Examples], Few] = Field(
        default_factory=dict,
        examples=[{"benign": 262, "malignant": 155}],
        description="How many of the client's examples have each label, if it shares that",
    )
    enrolled_at: datetime
    revoked_at: datetime | None


class RefusalView(Answer):
    client: ClientId = Field(examples=["client-03"])
    code: Shown = Field(examples=["non-finite"])
    reason: Shown


class LeftOutView(Answer):
    """A party with data of its own that closed rounds were made without."""

    client: ClientId = Field(examples=["client-03"])
    rounds: RoundNumber = Field(description="The rounds that it was left out of")
    asked: RoundNumber = Field(description="The rounds that asked it, of the newest hundred")
    late: RoundNumber = Field(description="How often its update came when the round had closed")
    reason: Shown


class AttemptView(Answer):
    attempt: Attempt
    cohort: Clients
    reported: Clients
    missing: Clients
    revoked: Clients
    ended_at: datetime


class UpdateView(Answer):
    client: ClientId
    num_examples: Examples
    sha256: Sha256
    size: Bytes
    metrics: Figures
    received_at: datetime
    norm: FiniteFloat | None = Field(
        None, description="The distance from the base model, if the experiment bounds it"
    )
    scale: FiniteFloat = Field(
        1.0, ge=0, le=1, description="The share of that distance in the model; below 1 if clipped"
    )
    weight: FiniteFloat | None = Field(
        None, ge=0, description="Its weight in the mean, if that depends on all updates together"
    )
    base_version: RoundNumber | None = Field(
        None, description="The version that the client trained from, if not the round's own"
    )
    counts: Counts = Field("", description="Of a masked update: its masked examples and metrics")
    seal: SealText = Field("", description="Of a masked update: its seal, if there is a helper")


class RoundView(Answer):
    """A round's record. `missing` clients did not report, and were neither refused nor revoked."""

    number: RoundNumber
    attempt: Attempt
    state: RoundState
    base_version: RoundNumber
    cohort: Clients
    reported: Clients
    missing: Clients
    refused: Listed[RefusalView]
    revoked: Clients
    updates: Listed[UpdateView]
    earlier_attempts: Listed[AttemptView]
    group_size: int | None = Field(
        None,
        ge=1,
        le=MAX_CLIENTS,
        description="Clients in a group: the coordinator sums each group, then adds up the sums",
    )
    opened_at: datetime
    deadline: datetime
    closed_at: datetime | None
    masked: bool = Field(
        False, description="The updates are masked: the coordinator learns their sum alone"
    )
    invited: Clients = Field(
        [], description="Under secure aggregation: the clients that the attempt began with"
    )
    awaited: Clients = Field(
        [], description="Under secure aggregation: the clients that the round's state waits for"
    )
    helped: bool = Field(
        False, description="Another operator, the helper, tells the sum of the masks"
    )
    wrong_shares: Clients = Field(
        [],
        description="Under secure aggregation: clients whose shares of secrets did not fit the "
        "others', and were left out",
    )
    clients: int = Field(
        0, ge=0, le=MAX_CLIENTS, description="The clients that could be drawn; 0: not recorded"
    )
    num_examples: Examples
    update_bytes: Bytes
    aggregation_seconds: FiniteFloat | None
    metrics: Figures = Field(description="Means of the updates' metrics, weighted by examples")


class CostView(Answer):
    """The estimated cost of the experiment on AWS Lambda so far, derived from its records.

    The prices and assumptions stand in serverless_fl/domain/prices.json.
    """

    usd: FiniteFloat = Field(examples=[0.0022])
    budget_usd: FiniteFloat | None = Field(description="The experiment pauses at this cost")
    items: Figures = Field(
        description="US dollars for each kind of cost",
        examples=[{"lambda_requests": 0.0002, "http_api_calls": 0.0011, "data_out": 0.0007}],
    )
    requests: FiniteFloat = Field(description="Calls of the API, including ticks", examples=[1103])
    gb_seconds: FiniteFloat = Field(examples=[11.0])
    bytes_up: FiniteFloat
    bytes_down: FiniteFloat
    region: Shown
    memory_mb: int
    request_ms: FiniteFloat = Field(description="The assumed time of a call", examples=[9])
    prices_as_of: Shown = Field(examples=["2026-11-24"])


class RoundSummary(Answer):
    """A line of an experiment's history."""

    number: RoundNumber
    attempt: Attempt
    state: RoundState
    accepted: int = Field(ge=0, le=MAX_CLIENTS)
    contributors: Clients = Field(description="The clients whose updates are in the new model")
    opened_at: datetime
    closed_at: datetime | None
    num_examples: Examples
    update_bytes: Bytes
    metrics: Figures
    cost_usd: FiniteFloat | None = Field(
        None, description="The estimated cost of a closed round", examples=[0.0002]
    )


class LedgerView(Answer):
    """A version's entry in the ledger of privacy (docs/privacy.md)."""

    clip: FiniteFloat = Field(
        gt=0, description="The longest distance of an update that counts in this version"
    )
    next_clip: FiniteFloat = Field(gt=0, description="The same in the next version")
    deviation: FiniteFloat = Field(
        ge=0, description="The standard deviation of the noise on each weight of the mean"
    )
    round_epsilon: FiniteFloat = Field(
        ge=0, description="What this version alone costs a client that took part in it"
    )
    epsilon: FiniteFloat = Field(
        ge=0,
        description="What all versions so far cost the client that took part most often",
        examples=[2.31],
    )
    delta: FiniteFloat = Field(gt=0, lt=1, description="With which both hold", examples=[1e-5])
    participations: RoundNumber = Field(
        description="How often that client took part; with secret cohorts, all rounds so far"
    )
    secret_sha256: Sha256 = Field(description="SHA-256 of the secret of which noise is drawn")
    sampling_rate: FiniteFloat | None = Field(
        None,
        gt=0,
        le=1,
        description="With secret cohorts: a client's chance to take part in a round. Then both "
        "count on nobody knowing who did (amplification by sampling)",
    )
    squares: int | None = Field(
        None,
        ge=0,
        description="With dp-ftrl: the squared sensitivity of all sums with noise, for the client "
        "that pays most, in units of `clip`",
    )
    next_squares: int | None = Field(
        None, ge=0, description="With dp-ftrl: what another round could make of it"
    )


class NoiseSecret(Answer):
    """The secret of which an experiment's noise is drawn: whoever has it can take the noise off."""

    secret: Sha256 = Field(description="32 bytes, hexadecimal")


class ModelView(Answer):
    version: RoundNumber
    sha256: Sha256
    size: Bytes
    parent_sha256: Sha256 | None
    config_sha256: Sha256 = Field(
        description="SHA-256 of the settings (serverless_fl/domain/provenance.py)"
    )
    updates_sha256: Sha256 | None = Field(
        description="SHA-256 of the list of accepted updates, in their order"
    )
    encoded: BlobInfo | None = Field(
        None, description="The compressed model that clients download, if there is one"
    )
    state: Annotated[dict[StateName, BlobInfo], Few] = Field(
        default_factory=dict, description="The files of the strategy's state, by name"
    )
    ledger: LedgerView | None = Field(
        None, description="What the version costs, if the privacy mechanism keeps a ledger"
    )
    created_at: datetime
    kept: bool = Field(True, description="The coordinator still has the model's bytes")
    evaluations: Listed[EvaluationView]


class ModelPart(Answer):
    """A piece of a model's file. Clients GET it from `url` if the blob store signs URLs."""

    number: PartNumber
    sha256: Sha256
    size: Bytes
    url: Url | None


class PersonView(Answer):
    """The holder of a person's key."""

    name: Shown = Field(examples=["alice"])
    roles: Listed[Shown] = Field(examples=[["owner", "reader"]])
    owns: bool | None = Field(
        None, description="Of the experiment that was asked for: it may do everything there"
    )
    reads: bool | None = Field(
        None, description="... it may see what readers see, such as models and the audit log"
    )


class AuditEvent(Answer):
    """An entry of the audit log: an actor, an action and its time. `clients` are affected by it."""

    cursor: Shown = Field(description="The `after` of a call for the events after this one")
    at: datetime
    who: Shown = Field(
        examples=["admin"],
        description="`admin`, `admin (previous key)`, another person, a client, or `coordinator` "
        "for an action that nobody asked for",
    )
    what: AuditAction
    round: RoundNumber | None
    clients: Clients
    detail: Shown


class OriginView(Answer):
    """The model that an experiment began from: its version 0 has the same SHA-256."""

    experiment: ExperimentId
    version: RoundNumber
    sha256: Sha256


class TaskView(Answer):
    """What the experiment learns, in the words of its initial model's file.

    The coordinator knows no task: it keeps these words, and clients compare them with their own.
    """

    name: Shown = Field(examples=["mnist-cnn"])
    fingerprint: Shown = Field(
        description="SHA-256 of the task's name, of its terms and of the weights' form; empty if "
        "the file has none"
    )


class ExtensionView(Answer):
    """A raise of the number of rounds; models up to `after_round` were made before it."""

    before: RoundNumber
    rounds: RoundNumber
    after_round: RoundNumber
    extended_at: datetime


class GoalView(Answer):
    """The metric that tells better models from worse ones."""

    metric: MetricName = Field(examples=["accuracy"], description="Its name in evaluations")
    better: Literal["higher", "lower"]
    target: FiniteFloat | None = Field(description="The value that ends the experiment")


class BestView(Answer):
    """The best model by the cohorts' held-out examples, and its value of the goal's metric."""

    version: RoundNumber
    value: FiniteFloat


class PrivacyView(Answer):
    """What the models so far have cost of differential privacy."""

    epsilon: FiniteFloat = Field(ge=0, examples=[2.31])
    delta: FiniteFloat = Field(ge=0, lt=1, examples=[1e-5])
    participations: RoundNumber = Field(
        description="How often the client took part that took part most often"
    )
    budget_epsilon: FiniteFloat | None = Field(
        description="The experiment pauses before a round that could go beyond it"
    )
    next_epsilon: FiniteFloat | None = Field(
        None, ge=0, description="What another round could raise it to"
    )
    meaning: Shown = Field(description="What the numbers mean, in a sentence")


class ExperimentSummary(Answer):
    id: ExperimentId
    name: Shown
    state: ExperimentState
    round: RoundNumber
    rounds: RoundNumber
    model_version: RoundNumber | None
    created_at: datetime
    reason: Shown
    model: Shown = ""
    dataset: Shown = ""
    data: Literal["common", "own"] = "common"
    strategy: Shown = Field("", examples=["fedavg"])
    goal: GoalView | None = None
    best: BestView | None = None
    cost_usd: FiniteFloat | None = Field(
        None,
        description="The estimated cost on Lambda up to the last closed round, in US dollars",
        examples=[0.0022],
    )
    expires_at: datetime | None = Field(
        None, description="When it is deleted, as keep_days days are over since its end"
    )
    privacy: PrivacyView | None = Field(
        None, description="What the models have cost, if the mechanism keeps a ledger"
    )


class ExperimentView(Answer):
    id: ExperimentId
    name: Shown
    state: ExperimentState
    progress: Shown = Field(examples=["Enrolling: 17 of 20 clients."])
    reason: Shown = Field(description="The reason of the end, or of the pause")
    pausing: bool = Field(description="The experiment pauses when the open round closes")
    config: Annotated[ExperimentConfig, Few]
    enrolled: int = Field(ge=0, le=MAX_CLIENTS)
    round: RoundNumber = Field(description="The open round; 0 before the first")
    model_version: RoundNumber | None
    created_at: datetime
    ended_at: datetime | None
    expires_at: datetime | None = Field(
        None, description="When it is deleted, as keep_days days are over since its end"
    )
    part_bytes: PartBytes = Field(description="The most bytes of one uploaded part")
    direct: bool = Field(description="Clients move weights by signed URLs of the blob store")
    current_round: RoundView | None
    always_refused: Listed[RefusalView] = Field(
        [],
        description="Clients whose updates were refused in every round of theirs, each with the "
        "last refusal",
    )
    left_out: Listed[LeftOutView] = Field(
        [],
        description="Parties with data of their own that closed rounds were made without, and why",
    )
    history: Listed[RoundSummary]
    evaluations: Examples = Field(
        description="The number of reported evaluations, of all model versions"
    )
    goal: GoalView | None = None
    origin: OriginView | None = None
    task: TaskView | None = None
    extensions: Listed[ExtensionView] = Field(
        [], max_length=MAX_EXTENSIONS, description="How often and when it got more rounds"
    )
    cost: CostView | None = Field(description="None where rounds are hidden: it tells of them")
    privacy: PrivacyView | None = Field(
        None, description="What the models have cost, if the mechanism keeps a ledger"
    )
    now: datetime = Field(description="The coordinator's clock, on which its deadlines depend")
    retry_after: Pause = Field(description="Seconds until a change is to be expected")

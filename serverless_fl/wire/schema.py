"""The JSON bodies of requests, answers and errors. Times are UTC, durations are in seconds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    Json,
    JsonValue,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from serverless_fl.domain.experiment import Config, ExperimentState
from serverless_fl.domain.metrics import MAX_METRIC, metric_fault
from serverless_fl.wire.bounds import (
    MAX_ATTEMPTS,
    MAX_CLIENTS,
    MAX_DEADLINE,
    MAX_EXAMPLES,
    MAX_PARTS,
    MAX_ROUNDS,
    BatchSize,
    Budget,
    Bytes,
    ClientId,
    Epochs,
    ExperimentId,
    LearningRate,
    Listed,
    Momentum,
    PartBytes,
    PartNumber,
    RateFactor,
    RoundNumber,
    Secret,
    Seed,
    WeightDecay,
)
from serverless_fl.wire.settings import GROUP_KEY, Group
from serverless_fl.wire.text import Shown, clean, require_plain

__all__ = ["MAX_PARTS"]
Sha256 = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
    Field(description="SHA-256, 64 hexadecimal digits", examples=["a1" * 32]),
]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=200),
    AfterValidator(require_plain),
]
MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
MetricValue = Annotated[
    float, Field(ge=-MAX_METRIC, le=MAX_METRIC, allow_inf_nan=False, strict=True)
]


def _possible(metrics: dict[str, float]) -> dict[str, float]:
    for name, value in metrics.items():
        if (fault := metric_fault(name, value)) is not None:
            raise PydanticCustomError("metric", "{fault}", {"fault": fault})
    return metrics


Metrics = Annotated[
    dict[MetricName, MetricValue],
    AfterValidator(_possible),
    Field(
        max_length=32,
        description="The words in a name decide its range: a rate (accuracy, precision, recall, "
        "f1, auc) lies between 0 and 1, and a loss is not negative",
        examples=[{"loss_before": 0.31, "accuracy_before": 0.905}],
    ),
]
ClientKey = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{32,128}$"),
    Field(
        description=(
            "A secret that the client makes up, at least 32 random characters. A client that "
            "sends the same key again gets the same slot and the same token."
        ),
        examples=["zKq3v0Wc1nJt8RmB5yXe2LhGd7PsUa4F"],
    ),
]


class Answer(BaseModel):
    """An answer's body. Pydantic builds its validator on the first use, not in the cold start.

    Bodies of requests cannot wait: FastAPI reads their fields when it builds the routes.
    """

    model_config = ConfigDict(defer_build=True)


class Body(BaseModel):
    """A request's body. It refuses unknown fields, so a misspelt setting is an error.

    It does not take `true` or `"20"` for a number.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


_D = Config(dataset="", dataset_size=10**9, model="")  # the defaults stand in Config only


def _of(group: Group) -> dict[str, JsonValue]:
    """The group of a setting, as a keyword of the JSON schema."""
    return {GROUP_KEY: group}


class ExperimentConfig(Body):
    """The settings of an experiment. The defaults are the classic run: 20 clients, 10 a round.

    A setting is declared here, once: flags, keys of TOML files, the API, the page's form and
    docs/settings.md are made from it (`serverless_fl.wire.settings`, docs/extending.md).
    """

    dataset: Name = Field(
        examples=["mnist"],
        description="The data set's name, for people",
        json_schema_extra=_of("data"),
    )
    dataset_size: int = Field(
        ge=1,
        le=MAX_EXAMPLES,
        examples=[60000],
        description="Training examples, of which shards are drawn",
        json_schema_extra=_of("data"),
    )
    model: Name = Field(
        examples=["mnist-cnn"],
        description="The model's name, for people",
        json_schema_extra=_of("training"),
    )
    clients: int = Field(
        _D.clients,
        ge=1,
        le=MAX_CLIENTS,
        description="Slots for clients",
        json_schema_extra=_of("data"),
    )
    clients_per_round: int = Field(
        _D.clients_per_round,
        ge=1,
        le=10_000,
        description="Clients that train in a round: the cohort",
        json_schema_extra=_of("schedule"),
    )
    min_clients: int | None = Field(
        None,
        ge=1,
        description="Enrolled clients at which the first round opens; without it, all",
        json_schema_extra=_of("schedule"),
    )
    rounds: int = Field(
        _D.rounds,
        ge=1,
        le=MAX_ROUNDS,
        description="Rounds of training",
        json_schema_extra=_of("schedule"),
    )
    local_epochs: Epochs = Field(
        _D.local_epochs,
        description="Passes over a client's data in a round",
        json_schema_extra=_of("training"),
    )
    batch_size: BatchSize = Field(
        _D.batch_size,
        description="Examples in a mini-batch",
        json_schema_extra=_of("training"),
    )
    learning_rate: LearningRate = Field(
        _D.learning_rate,
        description="Learning rate of SGD in the first round",
        json_schema_extra=_of("training"),
    )
    momentum: Momentum = Field(
        _D.momentum,
        description="Momentum of SGD",
        json_schema_extra=_of("training"),
    )
    weight_decay: WeightDecay = Field(
        _D.weight_decay,
        description="L2 regularisation: adds this share of each weight to its gradient",
        json_schema_extra=_of("training"),
    )
    learning_rate_factor: RateFactor = Field(
        _D.learning_rate_factor,
        description="Multiplies the learning rate after each round",
        json_schema_extra=_of("training"),
    )
    seed: Seed = Field(
        _D.seed,
        description="Seeds everything random",
        json_schema_extra=_of("training"),
    )
    deadline_seconds: FiniteFloat = Field(
        _D.deadline_seconds,
        gt=0,
        le=MAX_DEADLINE,
        description="Seconds for an attempt at a round",
        json_schema_extra=_of("schedule"),
    )
    quorum: int | None = Field(
        None,
        ge=1,
        description="Updates that close a round at its deadline; without it, half of the cohort",
        json_schema_extra=_of("schedule"),
    )
    max_attempts: int = Field(
        _D.max_attempts,
        ge=1,
        le=MAX_ATTEMPTS,
        description="Attempts at a round before the experiment fails",
        json_schema_extra=_of("schedule"),
    )
    target_accuracy: FiniteFloat | None = Field(
        None,
        gt=0,
        le=1,
        description="Stop early once the held-out examples of clients with more than half of a "
        "round's examples show at least this accuracy of the global model (`accuracy_before` of "
        "the updates); at most one run in ten stops with a model below it",
        json_schema_extra=_of("stopping"),
    )
    patience: int = Field(
        _D.patience,
        ge=1,
        description="Rounds in a row that must show the target accuracy; their held-out examples "
        "are pooled",
        json_schema_extra=_of("stopping"),
    )
    strategy: Literal["fedavg"] = Field(
        "fedavg",
        description="How updates are aggregated",
        json_schema_extra=_of("strategy"),
    )
    max_update_norm: FiniteFloat | None = Field(
        None,
        gt=0,
        description="The largest distance of an update from its base model (Euclidean norm over "
        "all floating-point weights), so that no client can throw the model away",
        json_schema_extra=_of("privacy"),
    )
    norm_action: Literal["clip", "reject"] = Field(
        "clip",
        description="An update beyond the largest norm is scaled down to it (clip) or refused "
        "(reject)",
        json_schema_extra=_of("privacy"),
    )
    keep_updates: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Rounds whose updates stay stored, so that `verify` can recompute their "
        "models; updates are sensitive, and only the admin can download them",
        json_schema_extra=_of("keeping"),
    )
    keep_models: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Newest model versions that stay stored, beside the initial and the best ones; "
        "the records and hashes of all stay. Without it, all versions stay",
        json_schema_extra=_of("keeping"),
    )
    budget_usd: Budget | None = Field(
        None,
        description="Estimated cost on Lambda, in US dollars, that pauses the experiment between "
        "two rounds; it may be changed while the experiment runs",
        json_schema_extra=_of("stopping"),
    )
    update_encoding: Literal["weights", "delta-float32", "delta-float16", "delta-int8"] = Field(
        "weights",
        description="How updates travel: as weights, or as differences from the base model at 32, "
        "16 or 8 bits a value (int8 takes a quarter of float32's bytes)",
        json_schema_extra=_of("encoding"),
    )
    download_encoding: Literal["weights", "float16", "int8"] = Field(
        "weights",
        description="How models travel to clients that train: as they are, or as copies at 16 or 8 "
        "bits a value; the stored model stays whole",
        json_schema_extra=_of("encoding"),
    )

    def to_config(self) -> Config:
        """The settings as the coordinator's rules read them.

        Raises InvalidConfig if two of them contradict each other.
        """
        return Config.of(self.model_dump(exclude_defaults=True))


class CreateExperiment(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "MNIST, first try",
                    "config": {"dataset": "mnist", "dataset_size": 60000, "model": "mnist-cnn"},
                }
            ]
        }
    )

    name: Name = Field("", examples=["MNIST, first try"])
    config: ExperimentConfig


class WeightsCommit(Body):
    """The uploaded parts that make up one safetensors file, in order."""

    sha256: Sha256 = Field(description="SHA-256 of the whole file")
    parts: list[Sha256] = Field(
        min_length=1, max_length=MAX_PARTS, description="SHA-256 of each part, in order"
    )


TrainedOn = Annotated[
    int, Field(ge=1, le=10**9, examples=[2700], description="Examples that the client trained on")
]


class UpdateCommit(WeightsCommit):
    num_examples: TrainedOn
    metrics: Metrics = Field(default_factory=dict)


class UpdateFacts(BaseModel):
    """The query of an update whose bytes are the request's body."""

    model_config = ConfigDict(extra="forbid")

    sha256: Sha256 = Field(description="SHA-256 of the body's bytes, without a Content-Encoding")
    num_examples: TrainedOn
    metrics: Json[Metrics] = Field(
        default_factory=dict, examples=['{"loss":0.05}'], description="A JSON object"
    )


class Subscribe(Body):
    client_key: ClientKey
    name: Name = Field("", examples=["St. Mary's, radiology"])
    told: bool = Field(
        False,
        description="Another program tells this client when to ask for its turn, as a simulation "
        "does, so it polls only once a minute. It changes nothing but the estimated cost",
    )
    shard: bool = Field(False, description="The answer holds the client's shard as well")


class ReplaceToken(Body):
    client_key: ClientKey


class EvaluationReport(Body):
    num_examples: int = Field(ge=1, le=10**9, examples=[10000])
    metrics: Metrics = Field(examples=[{"loss": 0.05, "accuracy": 0.984}])


class Resume(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"budget_usd": 5.0}]})

    budget_usd: Budget | None = Field(
        None,
        examples=[5.0],
        description="The new budget, above the estimated cost so far; default: no change",
    )


class BlobInfo(Answer):
    sha256: Sha256
    size: Bytes = Field(description="Bytes", examples=[87904])


class PartReceipt(Answer):
    number: PartNumber
    sha256: Sha256
    size: Bytes = Field(examples=[87904])


class CreatedExperiment(Answer):
    """A new experiment. A call with the same Idempotency-Key gets the same answer again."""

    id: ExperimentId = Field(examples=["20261124-101500-9f2c1a"])
    state: ExperimentState
    enrolment_key: Secret = Field(examples=["enrol_3q2-7w..."])
    part_bytes: PartBytes = Field(description="The most bytes of one uploaded part")
    max_model_bytes: Bytes | None = Field(
        None, description="The most bytes of the initial model", examples=[1073741824]
    )
    direct: bool = Field(
        False, description="Clients PUT parts to the blob store, by URLs from `POST .../parts`"
    )


class Shard(Answer):
    client_id: ClientId
    dataset: Shown
    dataset_size: int = Field(ge=1, le=MAX_EXAMPLES)
    indices: Listed[int] = Field(
        min_length=1, description="Positions in the training set, ascending"
    )


class ShardRule(Answer):
    """The arguments of `serverless_fl.domain.draws.shard`, which computes the shard's indices."""

    version: int = Field(ge=1, le=2**31, description="The version of these rules", examples=[2])
    seed: Seed
    dataset_size: int = Field(ge=1, le=MAX_EXAMPLES)
    clients: int = Field(ge=1, le=MAX_CLIENTS)
    slot: int = Field(ge=0, lt=MAX_CLIENTS)


class Subscription(Answer):
    """A client's place in the experiment. A repeated call needs the client key to see the token."""

    client_id: ClientId = Field(examples=["client-07"])
    token: Secret = Field(examples=["7.tok_x1..."])
    shard_size: int = Field(ge=1, le=MAX_EXAMPLES, examples=[3000])
    shard: Shard | None = Field(
        None, description="Only if the call asked for it, and up to 50,000 indices"
    )
    rule: ShardRule | None = Field(None, description="Computes the indices of a shard of any size")


class EnrolmentKey(Answer):
    """The key that clients subscribe with. `generation` counts its replacements."""

    enrolment_key: Secret = Field(examples=["enrol_3q2-7w..."])
    generation: int = Field(ge=0, examples=[1])


class ReplacedToken(Answer):
    """The client's token from now on."""

    token: Secret = Field(examples=["7.tok_x1..."])


class UpdateReceipt(Answer):
    round: RoundNumber
    client_id: ClientId
    sha256: Sha256
    size: Bytes
    num_examples: int = Field(ge=0, le=MAX_EXAMPLES)


Code = Annotated[str, AfterValidator(lambda text: clean(text, 64))]


class Problem(Answer):
    """An error (RFC 9457). Programs read `code`, and `detail` tells people how to go on."""

    type: Shown = Field("about:blank")
    title: Shown = Field(examples=["Conflict"])
    status: int = Field(ge=100, le=599, examples=[409])
    code: Code = Field(examples=["out-of-turn"])
    detail: Shown = Field(examples=["Round 3 is closed; round 4 is collecting."])
    request_id: str | None = Field(
        None,
        examples=["5f0c3a9be1d24f77"],
        description="The request's id in the coordinator's log, and in the header X-Request-Id",
    )
    errors: list[dict[str, str]] | None = Field(
        None, description="The faults of a malformed request: one entry each, with its place"
    )

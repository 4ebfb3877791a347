"""Request, response and error bodies: what travels as JSON. Times are UTC, durations seconds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    Json,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from serverless_fl.domain.experiment import Config, ExperimentState
from serverless_fl.domain.metrics import MAX_METRIC
from serverless_fl.domain.metrics import fault as metric_fault
from serverless_fl.wire.bounds import (
    MAX_CLIENTS,
    MAX_EXAMPLES,
    MAX_PARTS,
    BatchSize,
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
        description="Rates (accuracy, precision, recall, f1, auc) lie between 0 and 1, losses are "
        "not negative, by the words in their names",
        examples=[{"loss_before": 0.31, "accuracy_before": 0.905}],
    ),
]
ClientKey = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{32,128}$"),
    Field(
        description=(
            "A secret of the client's own making, at least 32 random characters. The same key "
            "gets the same slot and the same token again, so a retry costs nothing."
        ),
        examples=["zKq3v0Wc1nJt8RmB5yXe2LhGd7PsUa4F"],
    ),
]


class Answer(BaseModel):
    """Is built when it is first used: all of them at once would hold up a cold start.

    Not for requests: FastAPI looks into those when it builds their route.
    """

    model_config = ConfigDict(defer_build=True)


class Body(BaseModel):
    """Requests refuse fields that they do not know: a misspelt setting must not pass unseen.

    Nor is `true` or `"20"` taken for a number.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


_D = Config(dataset="", dataset_size=10**9, model="")  # the defaults, stated once


class ExperimentConfig(Body):
    """The settings of an experiment. The defaults are the classic run: 20 clients, 10 a round."""

    dataset: Name = Field(examples=["mnist"], description="The data set's name, for people")
    dataset_size: int = Field(
        ge=1, le=10**9, examples=[60000], description="Training examples; shards are drawn of it"
    )
    model: Name = Field(examples=["mnist-cnn"], description="The model's name, for people")
    clients: int = Field(_D.clients, ge=1, le=100_000, description="Slots for clients")
    clients_per_round: int = Field(_D.clients_per_round, ge=1, le=10_000, description="Cohort size")
    min_clients: int | None = Field(
        None, ge=1, description="Enrolled clients at which the first round opens; default: all"
    )
    rounds: int = Field(_D.rounds, ge=1, le=1_000_000)
    local_epochs: Epochs = Field(_D.local_epochs, description="Passes over a shard")
    batch_size: BatchSize = Field(_D.batch_size)
    learning_rate: LearningRate = Field(_D.learning_rate)
    momentum: Momentum = Field(_D.momentum)
    weight_decay: WeightDecay = Field(
        _D.weight_decay,
        description="L2 regularisation: so much of every weight is added to its gradient",
    )
    learning_rate_factor: RateFactor = Field(
        _D.learning_rate_factor,
        description="From round to round the learning rate is multiplied by this",
    )
    seed: Seed = Field(_D.seed, description="All draws are functions of it")
    deadline_seconds: FiniteFloat = Field(
        _D.deadline_seconds, gt=0, le=30 * 86400, description="Time for an attempt at a round"
    )
    quorum: int | None = Field(
        None, ge=1, description="Updates that close a round at its deadline; default: half"
    )
    max_attempts: int = Field(
        _D.max_attempts, ge=1, le=1000, description="Attempts at a round before it has failed"
    )
    target_accuracy: FiniteFloat | None = Field(
        None,
        gt=0,
        le=1,
        description=(
            "Stop early once clients with more than half of a round's examples have measured at "
            "least this accuracy of the global model on their held-out examples "
            "(`accuracy_before` of the updates), and those examples show it: but for one run in "
            "ten, the model is that good on others, too"
        ),
    )
    patience: int = Field(
        _D.patience,
        ge=1,
        description="... in this many rounds in a row, whose held-out examples are pooled",
    )
    strategy: Literal["fedavg"] = Field("fedavg", description="How updates are aggregated")
    max_update_norm: FiniteFloat | None = Field(
        None,
        gt=0,
        description="The most that an update may differ from its base model (Euclidean norm over "
        "all floating-point weights), so that no client can throw the model away",
    )
    norm_action: Literal["clip", "reject"] = Field(
        "clip", description="What becomes of an update beyond that: scaled down to it, or refused"
    )
    keep_updates: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Keep the updates of so many rounds, so that `verify` can recompute their "
        "models; they are sensitive, and only the admin can download them",
    )
    keep_models: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Keep so many of the newest model versions; the initial and the best ones stay "
        "as well, and the records and hashes of all. Default: keep all",
    )
    budget_usd: FiniteFloat | None = Field(
        None,
        gt=0,
        le=1e9,
        description="Pause between two rounds once the estimated cost on Lambda has reached so "
        "many US dollars; it may be changed while the experiment runs",
    )
    update_encoding: Literal["weights", "delta-float32", "delta-float16", "delta-int8"] = Field(
        "weights",
        description="How updates travel: as weights, or as what they differ by from the base "
        "model, in so many bits a value (int8 takes a quarter of float32's bytes)",
    )
    download_encoding: Literal["weights", "float16", "int8"] = Field(
        "weights",
        description="What clients are sent to train from: the model as it is, or a copy of it in "
        "so many bits a value; the model itself stays whole",
    )


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
    """Names the uploaded parts, in order, that make up one safetensors file."""

    sha256: Sha256 = Field(description="Of the whole file")
    parts: list[Sha256] = Field(min_length=1, max_length=MAX_PARTS, description="Of each part")


TrainedOn = Annotated[int, Field(ge=1, le=10**9, examples=[2700], description="Trained on")]


class UpdateCommit(WeightsCommit):
    num_examples: TrainedOn
    metrics: Metrics = Field(default_factory=dict)


class UpdateFacts(BaseModel):
    """What is said of an update whose bytes are the body itself."""

    model_config = ConfigDict(extra="forbid")

    sha256: Sha256 = Field(description="SHA-256 of the body's bytes, unpacked")
    num_examples: TrainedOn
    metrics: Json[Metrics] = Field(
        default_factory=dict, examples=['{"loss":0.05}'], description="A JSON object"
    )

    @property
    def commit(self) -> UpdateCommit:
        return UpdateCommit(
            sha256=self.sha256,
            parts=[self.sha256],
            num_examples=self.num_examples,
            metrics=self.metrics,
        )


class Subscribe(Body):
    client_key: ClientKey
    name: Name = Field("", examples=["St. Mary's, radiology"])
    told: bool = Field(
        False,
        description="Somebody else looks for it and tells it when to ask, as in a simulation: it "
        "asks once a minute otherwise. Only the estimated cost goes by that",
    )
    shard: bool = Field(False, description="Give the shard as well: it need not be asked for then")


class ReplaceToken(Body):
    client_key: ClientKey


class EvaluationReport(Body):
    num_examples: int = Field(ge=1, le=10**9, examples=[10000])
    metrics: Metrics = Field(examples=[{"loss": 0.05, "accuracy": 0.984}])


class Resume(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"budget_usd": 5.0}]})

    budget_usd: FiniteFloat | None = Field(
        None,
        gt=0,
        le=1e9,
        examples=[5.0],
        description="The budget from now on, above the estimate; without it, it stays as it is",
    )


class BlobInfo(Answer):
    sha256: Sha256
    size: Bytes = Field(description="Bytes", examples=[87904])


class PartReceipt(Answer):
    number: PartNumber
    sha256: Sha256
    size: Bytes = Field(examples=[87904])


class CreatedExperiment(Answer):
    """The same Idempotency-Key gets the same answer again."""

    id: ExperimentId = Field(examples=["20261124-101500-9f2c1a"])
    state: ExperimentState
    enrolment_key: Secret = Field(examples=["enrol_3q2-7w..."])
    part_bytes: PartBytes = Field(description="The most bytes of one uploaded part")
    max_model_bytes: Bytes | None = Field(
        None, description="The most bytes of the initial model", examples=[1073741824]
    )
    direct: bool = Field(
        False, description="Parts go to the blob store itself, by URLs of `POST .../parts`"
    )


class Shard(Answer):
    client_id: ClientId
    dataset: Shown
    dataset_size: int = Field(ge=1, le=MAX_EXAMPLES)
    indices: Listed[int] = Field(
        min_length=1, description="Positions in the training set, ascending"
    )


class ShardRule(Answer):
    """A shard in few words: `serverless_fl.domain.draws.shard` makes its indices of them."""

    version: int = Field(ge=1, le=2**31, description="Of the rules for draws", examples=[2])
    seed: Seed
    dataset_size: int = Field(ge=1, le=MAX_EXAMPLES)
    clients: int = Field(ge=1, le=MAX_CLIENTS)
    slot: int = Field(ge=0, lt=MAX_CLIENTS)


class Subscription(Answer):
    """The token is shown to the holder of the client key only."""

    client_id: ClientId = Field(examples=["client-07"])
    token: Secret = Field(examples=["7.tok_x1..."])
    shard_size: int = Field(ge=1, le=MAX_EXAMPLES, examples=[3000])
    shard: Shard | None = Field(
        None, description="Where it was asked for, and is no longer than 50,000 indices"
    )
    rule: ShardRule | None = Field(None, description="How the shard is computed, however long")


class EnrolmentKey(Answer):
    """What clients subscribe with. `generation` counts its replacements."""

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
    """An error, after RFC 9457. `code` is for programs, `detail` says what to do."""

    type: Shown = Field("about:blank")
    title: Shown = Field(examples=["Conflict"])
    status: int = Field(ge=100, le=599, examples=[409])
    code: Code = Field(examples=["out-of-turn"])
    detail: Shown = Field(examples=["Round 3 is closed; round 4 is collecting."])
    request_id: str | None = Field(
        None,
        examples=["5f0c3a9be1d24f77"],
        description="As in the header X-Request-Id: what the coordinator's log calls this request",
    )
    errors: list[dict[str, str]] | None = Field(
        None, description="Of a malformed request: where and what, one entry a fault"
    )

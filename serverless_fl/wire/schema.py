"""The JSON bodies of requests, answers and errors. Times are UTC, durations are in seconds."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from serverless_fl.domain.agreement import (
    MAX_COLUMNS,
)
from serverless_fl.domain.experiment import ExperimentState
from serverless_fl.domain.label_counts import MAX_LABEL, MAX_LABELS
from serverless_fl.domain.metrics import MAX_METRIC, MAX_METRICS, metric_fault
from serverless_fl.domain.wake_ups import MOST_CHARACTERS
from serverless_fl.wire.agreement import ColumnSums, Facts
from serverless_fl.wire.base import Answer, Body, Direct, MetricName, Name, Sha256
from serverless_fl.wire.bounds import (
    MAX_ATTEMPTS,
    MAX_CLIENTS,
    MAX_EXAMPLES,
    MAX_PARTS,
    MAX_ROUNDS,
    Budget,
    Bytes,
    ClientId,
    Counts,
    Epsilon,
    ExperimentId,
    KeepDays,
    Listed,
    PartBytes,
    PartNumber,
    RoundNumber,
    SealText,
    Secret,
    Seed,
)
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.identity import Proof
from serverless_fl.wire.text import Shown, clean, require_plain

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
        max_length=MAX_METRICS,
        description="The words in a name decide its range: a rate (accuracy, precision, recall, "
        "f1, auc) lies between 0 and 1, and a loss is not negative",
        examples=[{"loss_before": 0.31, "accuracy_before": 0.905}],
    ),
]
CLIENT_KEY = r"^[A-Za-z0-9_-]{32,128}$"
ClientKey = Annotated[
    str,
    StringConstraints(pattern=CLIENT_KEY),
    Field(
        description=(
            "A secret that the client makes up, at least 32 random characters. A client that "
            "sends the same key again gets the same slot and the same token."
        ),
        examples=["zKq3v0Wc1nJt8RmB5yXe2LhGd7PsUa4F"],
    ),
]


class ModelOrigin(Body):
    """A model of another experiment, of this coordinator or of another one.

    The coordinator takes no other file as the initial weights. It cannot check that the experiment
    has such a model: the admin says so.
    """

    experiment: ExperimentId = Field(examples=["20261128-070000-a1b2c3"])
    version: RoundNumber = Field(examples=[10])
    sha256: Sha256 = Field(description="SHA-256 of the model's file")


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
    origin: ModelOrigin | None = Field(
        None, description="The model that the experiment begins from, if it is another one's"
    )


class WeightsCommit(Body):
    """The uploaded parts that make up one safetensors file, in order."""

    sha256: Sha256 = Field(description="SHA-256 of the whole file")
    parts: list[Sha256] = Field(
        min_length=1, max_length=MAX_PARTS, description="SHA-256 of each part, in order"
    )


TrainedOn = Annotated[
    int,
    Field(
        ge=1, le=MAX_EXAMPLES, examples=[2700], description="Examples that the client trained on"
    ),
]


_ATTEMPT = "Of a masked update: the attempt for which it is masked"
_COUNTS = "Of a masked update: the masked words of its examples and metrics, hexadecimal"
_SEAL = "Of a masked update: with it the helper makes its mask, if there is a helper"


class UpdateCommit(WeightsCommit):
    num_examples: TrainedOn
    metrics: Metrics = Field(default_factory=dict)
    attempt: int | None = Field(None, ge=0, le=MAX_ATTEMPTS, description=_ATTEMPT)
    counts: Counts = Field("", description=_COUNTS)
    seal: SealText = Field("", description=_SEAL)


class UpdateFacts(BaseModel):
    """The query of an update whose bytes are the request's body."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    sha256: Sha256 = Field(description="SHA-256 of the body's bytes, without a Content-Encoding")
    num_examples: TrainedOn
    metrics: Json[Metrics] = Field(
        default_factory=dict, examples=['{"loss":0.05}'], description="A JSON object"
    )
    attempt: int | None = Field(None, ge=0, le=MAX_ATTEMPTS, description=_ATTEMPT)
    counts: Counts = Field("", description=_COUNTS)
    seal: SealText = Field("", description=_SEAL)


class Subscribe(Body):
    client_key: ClientKey
    name: Name = Field("", examples=["St. Mary's, radiology"])
    told: bool = Field(
        False,
        description="Another program tells this client when to ask for its turn, as a simulation "
        "does, so it polls only once a minute. It changes nothing but the estimated cost",
    )
    shard: bool = Field(False, description="The answer holds the client's shard as well")
    examples: int | None = Field(
        None,
        ge=1,
        le=MAX_EXAMPLES,
        examples=[417],
        description="The number of examples that the party has of its own, if `data` is `own`. It "
        "is fixed from the first enrolment on, and no update may claim more",
    )
    facts: Facts = Field(
        default_factory=dict,
        description="What must be the same everywhere, in words, as `GET .../agreement` says",
    )
    wake_address: str = Field(
        "",
        max_length=MOST_CHARACTERS,
        examples=["https://party.example.org/wake"],
        description="Where the coordinator calls this client when a round waits for it, if its "
        "operator allows the address: http(s)://, or the ARN of a topic of SNS. Empty: nowhere",
    )
    wake_key: str = Field(
        "",
        pattern=r"^([0-9a-f]{64})?$",
        description="With `wake_address`: the key that signs such a call, 32 bytes that only this "
        "client knows, in hexadecimal",
    )
    proof: Proof | None = Field(
        None,
        description="Of a party that has an identity: its signature under the experiment's id and "
        "the SHA-256 of `client_key`",
    )
    sums: list[ColumnSums] = Field(
        default_factory=list,
        max_length=MAX_COLUMNS,
        description="Sums over the party's own examples, if `normalisation` is `federated` and "
        "the first round is not open",
    )


LabelName = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_LABEL), AfterValidator(require_plain)
]


class LabelCounts(Body):
    """How many of a party's examples have each label."""

    counts: Annotated[
        dict[LabelName, Annotated[int, Field(ge=0, le=MAX_EXAMPLES)]],
        Field(max_length=MAX_LABELS, examples=[{"benign": 262, "malignant": 155}]),
    ] = Field(description="The examples of each label; an example without a label is in none")


class ReplaceToken(Body):
    client_key: ClientKey


class EvaluationReport(Body):
    num_examples: int = Field(ge=1, le=MAX_EXAMPLES, examples=[10000])
    metrics: Metrics = Field(examples=[{"loss": 0.05, "accuracy": 0.984}])


class Resume(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"budget_usd": 5.0, "rounds": 20}]})

    budget_usd: Budget | None = Field(
        None,
        examples=[5.0],
        description="The new budget, above the estimated cost so far; default: no change",
    )
    budget_epsilon: Epsilon | None = Field(
        None,
        examples=[8.0],
        description="The new budget of privacy, which has room for another round; default: no "
        "change",
    )
    rounds: int | None = Field(
        None,
        ge=1,
        le=MAX_ROUNDS,
        examples=[20],
        description="The new number of rounds, not below the present one; default: no change",
    )


class ChangeExperiment(Body):
    """What an admin may change at any time, and no model depends on. A field left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "MNIST", "keep_days": 90}]})

    name: Name = Field("", examples=["MNIST"], description="Empty: its data and its model")
    keep_days: KeepDays | None = Field(
        None,
        examples=[90],
        description="Days for which it stays after its end, before it is deleted; null: it stays",
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
    direct: Direct = False


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
    shard_size: int = Field(
        ge=1,
        le=MAX_EXAMPLES,
        examples=[3000],
        description="Examples of the client: of its shard, or of its own",
    )
    shard: Shard | None = Field(
        None, description="Only if the call asked for it, and up to 50,000 indices"
    )
    rule: ShardRule | None = Field(
        None,
        description="Computes the indices of a shard of any size; there is none if each party "
        "brings data of its own",
    )


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

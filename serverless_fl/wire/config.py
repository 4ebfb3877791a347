"""The settings of an experiment: each is declared here, once."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, JsonValue, StringConstraints

from serverless_fl.aggregation import STRATEGIES
from serverless_fl.aggregation.fedavg import FedAvg
from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.alternatives import NAME, Alternative
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import OWN, Config
from serverless_fl.domain.goal import Goal, goal_of
from serverless_fl.learning_rate import RATE_SCHEDULES, ConstantRate, RateSchedule
from serverless_fl.privacy import MECHANISMS, Mechanism, NormBound
from serverless_fl.schedule import SCHEDULES, Schedule
from serverless_fl.schedule.selection import SELECTIONS, Selection
from serverless_fl.schedule.selection.uniform import Uniform
from serverless_fl.schedule.synchronous import Synchronous
from serverless_fl.wire.base import Body, ChosenMetric, Name
from serverless_fl.wire.bounds import (
    MAX_ATTEMPTS,
    MAX_CLIENTS,
    MAX_DEADLINE,
    MAX_EPOCHS,
    MAX_EXAMPLES,
    MAX_ROUNDS,
    BatchSize,
    Budget,
    Epochs,
    Epsilon,
    GradientNorm,
    KeepDays,
    LearningRate,
    Momentum,
    ProximalMu,
    RateFactor,
    Seed,
    WeightDecay,
)
from serverless_fl.wire.choices import OneOf, plain
from serverless_fl.wire.contradictions import label_counts_fault, masking_fault
from serverless_fl.wire.settings import GROUP_KEY, Group

# Config holds the defaults. A default of None, or of a choice, whose type is narrower here, stands
# here again; a test compares the two.
_D = Config(dataset="", dataset_size=MAX_EXAMPLES, model="")


def _of(group: Group) -> dict[str, JsonValue]:
    """The group of a setting, as a keyword of the JSON schema."""
    return {GROUP_KEY: group}


def _choice(group: Group, default: Alternative) -> dict[str, JsonValue]:
    """The group of a choice, and its default in the form in which it travels."""
    return {GROUP_KEY: group, "default": plain(default)}


MaskedMetrics = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}(,[A-Za-z0-9_.:-]{1,64}){0,31}$|^$")
]


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
    data: Literal["common", "own"] = Field(
        "common",
        description="Whose examples the clients train on: shards of a common data set, or data "
        "that each party brings",
        json_schema_extra=_of("data"),
    )
    dataset_size: int | None = Field(
        None,
        ge=1,
        le=MAX_EXAMPLES,
        examples=[60000],
        description="Training examples of the common data set, of which shards are drawn",
        json_schema_extra=_of("data"),
    )
    max_examples_per_client: int = Field(
        _D.max_examples_per_client,
        ge=1,
        le=MAX_EXAMPLES,
        description="The most examples that a party may declare of its own data, so that no party "
        "can outweigh the others without bound",
        json_schema_extra=_of("data"),
    )
    normalisation: Literal["given", "federated"] = Field(
        "given",
        description="How columns of the parties' own data get their mean and deviation: the "
        "initial model says them (given), or the parties' sums fix them at the start (federated)",
        json_schema_extra=_of("data"),
    )
    label_counts: Literal["off", "asked"] = Field(
        "off",
        description="Whether parties are asked how many of their examples have each label (asked): "
        "a party that says `--share-labels` sends it, and everybody who sees the experiment's "
        "clients sees it",
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
    proximal_mu: ProximalMu = Field(
        0.0,
        description="FedProx: adds this share of each weight's distance from the global model to "
        "its gradient",
        json_schema_extra=_of("training"),
    )
    max_gradient_norm: GradientNorm | None = Field(
        None,
        description="A step's gradient that is longer (Euclidean norm over all weights) is "
        "shortened to this norm",
        json_schema_extra=_of("training"),
    )
    learning_rate_factor: RateFactor = Field(
        _D.learning_rate_factor,
        description="Multiplies the learning rate after each round",
        json_schema_extra=_of("training"),
    )
    learning_rate_schedule: Annotated[RateSchedule, OneOf(RATE_SCHEDULES)] = Field(
        ConstantRate(),
        description="The share of the learning rate that each round has",
        json_schema_extra=_choice("training", ConstantRate()),
    )
    fine_tune_epochs: int = Field(
        0,
        ge=0,
        le=MAX_EPOCHS,
        description="After the end each client trains the last model for so many passes over its "
        "own data, and reports what it is worth before and after; the global model stays as it is",
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
    schedule: Annotated[Schedule, OneOf(SCHEDULES)] = Field(
        Synchronous(),
        description="When a round is due, and whose updates it takes. Where parties bring data of "
        "their own, and nothing is said, a synchronous round has a grace of half the deadline",
        json_schema_extra=_choice("schedule", Synchronous()),
    )
    selection: Annotated[Selection, OneOf(SELECTIONS)] = Field(
        Uniform(),
        description="How the clients of a cohort are selected. Where parties bring data of their "
        "own, and nothing is said, it is responsive with 4 rest_rounds, or under secure "
        "aggregation uniform",
        json_schema_extra=_choice("schedule", Uniform()),
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
    target_metric: ChosenMetric | None = Field(
        None,
        description="The metric by which models are better or worse, instead of the accuracy on "
        "held-out examples: any that the updates report, such as `loss_before`, `auc` or `f1` "
        "(`auc` may stand in the updates as `auc_before`). The best model is kept by it",
        json_schema_extra=_of("stopping"),
    )
    target_value: FiniteFloat | None = Field(
        None,
        description="Stop early once the target metric is at this value or better: a rate as the "
        "target accuracy, another metric by its mean over the examples in each of the rounds of "
        "the patience",
        json_schema_extra=_of("stopping"),
    )
    target_better: Literal["higher", "lower"] | None = Field(
        None,
        description="Which values of the target metric are better. Without it, higher ones of a "
        "rate and lower ones of a loss, by the words of its name",
        json_schema_extra=_of("stopping"),
    )
    patience: int = Field(
        _D.patience,
        ge=1,
        description="Rounds in a row that must show the target; of a rate, their held-out examples "
        "are pooled",
        json_schema_extra=_of("stopping"),
    )
    strategy: Annotated[Strategy, OneOf(STRATEGIES)] = Field(
        FedAvg(),
        description="How updates are aggregated",
        json_schema_extra=_choice("strategy", FedAvg()),
    )
    privacy: Annotated[Mechanism, OneOf(MECHANISMS)] = Field(
        NormBound(),
        description="What protects the clients' data in updates and models",
        json_schema_extra=_choice("privacy", NormBound()),
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
    secure_aggregation: Literal["off", "pairs", "helper"] = Field(
        "off",
        description="Whether the coordinator learns sums of updates alone: pairs of clients agree "
        "on masks that cancel in the sum (pairs), or a second operator knows the masks and tells "
        "their sum (helper); a round survives the loss of clients",
        json_schema_extra=_of("privacy"),
    )
    helper_key: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = Field(
        "",
        description="The fingerprint of the helper, which that operator gives to the parties: 64 "
        "hexadecimal digits",
        json_schema_extra=_of("privacy"),
    )
    mask_words: Literal["uint16", "uint32"] = Field(
        "uint32",
        description="Words in which a masked update travels, one for each weight",
        json_schema_extra=_of("privacy"),
    )
    max_weight_change: FiniteFloat = Field(
        _D.max_weight_change,
        gt=0,
        le=1e6,
        description="The largest change of a single weight in a round that a masked update can "
        "hold; a larger one is cut off, and a smaller bound makes finer steps",
        json_schema_extra=_of("privacy"),
    )
    masked_metrics: MaskedMetrics = Field(
        _D.masked_metrics,
        description="Names of the metrics that masked updates carry, separated by commas; the "
        "coordinator learns their means",
        json_schema_extra=_of("privacy"),
    )
    phase_seconds: FiniteFloat = Field(
        _D.phase_seconds,
        gt=0,
        le=MAX_DEADLINE,
        description="Seconds for each phase of secure aggregation: keys, shares, unmasking",
        json_schema_extra=_of("privacy"),
    )
    keep_updates: int = Field(
        _D.keep_updates,
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
    keep_days: KeepDays | None = Field(
        None,
        description="Days for which the experiment stays after its end; then the coordinator "
        "deletes it, with its models and records. Without it, it stays; it may be changed at any "
        "time",
        json_schema_extra=_of("keeping"),
    )
    budget_usd: Budget | None = Field(
        None,
        description="Estimated cost on Lambda, in US dollars, that pauses the experiment between "
        "two rounds; it may be changed while the experiment runs",
        json_schema_extra=_of("stopping"),
    )
    budget_epsilon: Epsilon | None = Field(
        None,
        description="Epsilon of differential privacy: the experiment pauses before a round that "
        "could cost a client more in total; it may be changed while the experiment runs",
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

    @property
    def goal(self) -> Goal:
        """The metric that tells better models from worse ones."""
        return goal_of(self.target_metric, self.target_better)

    def completed(self) -> Self:
        """Give the settings of a new experiment: those that were not given may follow others.

        The selection and the schedule do, where parties bring data of their own.
        """
        if self.data != OWN or not isinstance(self.schedule, Synchronous):
            return self
        given = self.model_dump(exclude_unset=True)
        usual = own_data_choices(self.deadline_seconds, secure=self.secure_aggregation != "off")
        return type(self)(**usual | given)

    def to_config(self) -> Config:
        """The settings as the coordinator's rules read them.

        Raises InvalidConfig if two of them contradict each other.
        """
        config = Config.of(self.model_dump(exclude_defaults=True))
        for chosen in (self.schedule, self.selection, self.privacy):
            if fault := chosen.fault(config):
                raise InvalidConfig(fault)
        if fault := self.privacy.strategy_fault(self.strategy):
            raise InvalidConfig(fault)
        if fault := masking_fault(self, config) or label_counts_fault(config):
            raise InvalidConfig(fault)
        if self.budget_epsilon is not None and not self.privacy.keeps_ledger:
            raise InvalidConfig(
                f"budget_epsilon ({self.budget_epsilon:g}) is a budget of differential privacy, "
                f"and privacy {self.privacy.name} spends none: choose a mechanism that does."
            )
        return config


def own_data_choices(deadline_seconds: float, *, secure: bool) -> dict[str, dict[str, Any]]:
    """Give the choices of an experiment whose parties bring data of their own, unless it says more.

    Clients of a simulation are all there; parties elsewhere die, or sleep for a night. So silent
    parties rest, and do not cost each round its deadline; a party that needs half of the deadline
    is waited for (docs/decisions/0044). Under secure aggregation, `secure`, nobody rests: that
    selection reads single updates.
    """
    usual = {"schedule": {NAME: "synchronous", "grace_seconds": deadline_seconds / 2}}
    resting = {"selection": {NAME: "responsive", "rest_rounds": 4}}
    return usual if secure else usual | resting

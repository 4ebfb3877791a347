"""An experiment: its settings, its state and the legal moves between states."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import Conflict, InvalidConfig
from serverless_fl.domain.goal import Goal, goal_of, target_fault
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.domain.lineage import MAX_EXTENSIONS, Extension, Origin, rounds_of
from serverless_fl.domain.prices import Usage
from serverless_fl.domain.task_name import TaskName

WEIGHTS = "weights"  # the encoding of plain weights
FEDAVG, SYNCHRONOUS, UNIFORM = Choice("fedavg"), Choice("synchronous"), Choice("uniform")
HIDDEN = "secret"  # the selection whose cohorts nobody can compute without the secret
CONSTANT, NO_MECHANISM = Choice("constant"), Choice("none")
COMMON, OWN = "common", "own"  # whose data the parties train on
# Whether single updates are hidden from the coordinator, and who else knows their masks.
OFF, PAIRS, HELPER = "off", "pairs", "helper"
FEWEST_IN_A_SUM = 3  # updates; the sum of two tells each party the other's
GIVEN, FEDERATED = "given", "federated"  # who fixes the scales of columns
ASKED = "asked"  # parties may share the number of their examples of each label


class ExperimentState(StrEnum):
    """The state of an experiment."""

    AWAITING_MODEL = "awaiting_model"  # the admin has not uploaded the initial weights yet
    ENROLLING = "enrolling"  # clients subscribe; the first round waits for them
    RUNNING = "running"  # clients train rounds
    PAUSED = "paused"  # between two rounds: its cost reached the budget, or the admin paused it
    COMPLETED = "completed"  # all rounds are closed, or the model reached the target
    FAILED = "failed"  # a round got no quorum in any attempt; the last model stays
    STOPPED = "stopped"  # the admin stopped it


_S = ExperimentState
TERMINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.STOPPED})
MOVES: Mapping[ExperimentState, frozenset[ExperimentState]] = {
    _S.AWAITING_MODEL: frozenset({_S.ENROLLING, _S.STOPPED}),
    _S.ENROLLING: frozenset({_S.RUNNING, _S.STOPPED}),
    _S.RUNNING: frozenset({_S.RUNNING, _S.PAUSED, _S.COMPLETED, _S.FAILED, _S.STOPPED}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.STOPPED}),
    _S.COMPLETED: frozenset({_S.RUNNING}),  # by an extension, if all rounds were closed
    _S.FAILED: frozenset(),
    _S.STOPPED: frozenset(),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of an experiment. Times are in seconds.

    Raises InvalidConfig if two settings contradict each other. `serverless_fl.wire.config` checks
    the range of each setting.
    """

    dataset: str
    model: str
    data: str = COMMON  # or OWN: each party brings data of its own, and there are no shards
    dataset_size: int | None = None  # of the common data set
    max_examples_per_client: int = 1_000_000  # that a party may declare of its own data
    normalisation: str = GIVEN  # or FEDERATED: the sums of the parties fix it
    label_counts: str = OFF  # or ASKED
    clients: int = 20
    clients_per_round: int = 10
    min_clients: int | None = None  # None: all clients
    rounds: int = 10
    local_epochs: int = 10
    batch_size: int = 50
    learning_rate: float = 0.05
    momentum: float = 0.5
    weight_decay: float = 0.0
    learning_rate_factor: float = 1.0  # multiplies the learning rate after each round
    learning_rate_schedule: Choice = CONSTANT  # the share of it that each round has
    seed: int = 0
    deadline_seconds: float = 600.0
    quorum: int | None = None  # None: half of the cohort, rounded up
    max_attempts: int = 3
    schedule: Choice = SYNCHRONOUS
    selection: Choice = UNIFORM  # of the clients that a cohort takes
    target_accuracy: float | None = None
    target_metric: str | None = None  # None: the accuracy on held-out examples
    target_value: float | None = None  # of the target_metric, that ends the experiment
    target_better: str | None = None  # "higher" or "lower"; None: the metric's name says it
    patience: int = 1
    strategy: Choice = FEDAVG
    privacy: Choice = NO_MECHANISM
    max_update_norm: float | None = None  # an update's distance from the base model
    norm_action: str = "clip"  # or "reject": for an update beyond max_update_norm
    secure_aggregation: str = OFF  # or PAIRS, HELPER: the coordinator learns sums of updates alone
    helper_key: str = ""  # the helper's public key, hexadecimal
    mask_words: str = "uint32"  # or "uint16": the words of a masked update
    max_weight_change: float = 1.0  # of one weight in a round, under secure aggregation
    masked_metrics: str = "accuracy_before,accuracy_after,loss_before,loss_after"
    phase_seconds: float = 60.0  # for each phase of secure aggregation but the training
    keep_updates: int = 0  # the number of rounds whose updates stay, for `verify`
    keep_models: int | None = None  # the number of newest versions that stay; None: all
    keep_days: int | None = None  # after its end the experiment stays so long; None: for good
    budget_usd: float | None = None  # the estimated cost that pauses the experiment
    budget_epsilon: float | None = None  # the epsilon that pauses it before it is exceeded
    update_encoding: str = WEIGHTS  # or a delta, see `serverless_fl.weights.encodings`
    download_encoding: str = WEIGHTS  # the encoding of the models that clients train from
    # Settings that differ from their defaults and that no rule of the coordinator reads. The
    # coordinator keeps them and sends them to clients.
    others: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Config:
        """Read the settings from one flat mapping, the form of documents and bodies."""
        mine = {name: value for name, value in settings.items() if name in _FIELDS}
        for name in _CHOICES & mine.keys():
            mine[name] = Choice.of(mine[name])
        others = {name: value for name, value in settings.items() if name not in _FIELDS}
        return cls(**mine, others=others)

    def flat(self) -> dict[str, Any]:
        """Give all settings in one flat mapping."""
        mine = {name: getattr(self, name) for name in _FIELDS}
        return {**mine, **{name: mine[name].plain for name in _CHOICES}, **self.others}

    def some(self, names: Iterable[str]) -> dict[str, Any]:
        """Give these settings, in the form of `flat`.

        A setting that no rule of the coordinator reads is left out at its default.
        """
        found = {name: self.others[name] for name in names if name in self.others}
        for name in names:
            if name in _FIELDS:
                value = getattr(self, name)
                found[name] = value.plain if isinstance(value, Choice) else value
        return found

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Give the defaults of the settings that have one, in the form of `flat`."""
        found = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
        return {**found, **{name: found[name].plain for name in _CHOICES}}

    def __post_init__(self) -> None:
        if self.clients_per_round > self.clients:
            raise InvalidConfig(
                f"clients_per_round ({self.clients_per_round}) is more than clients "
                f"({self.clients}): lower the first number or raise the second."
            )
        self._require_data()
        if self.dataset_size is not None and self.dataset_size < self.clients:
            raise InvalidConfig(
                f"A data set of {self.dataset_size} examples cannot be shared among "
                f"{self.clients} clients: each needs at least one."
            )
        if self.updates_to_close > self.clients_per_round:
            raise InvalidConfig(
                f"quorum ({self.quorum}) is more than clients_per_round "
                f"({self.clients_per_round}): lower it, or no round ever closes."
            )
        self._require_start()
        if self.target_accuracy is not None and self.target_metric is not None:
            raise InvalidConfig(
                f"target_accuracy ({self.target_accuracy}) and target_metric "
                f"({self.target_metric}) are two goals: leave one of them out."
            )
        fault = target_fault(self.target_metric, self.target_value, self.target_better)
        if fault is not None:
            raise InvalidConfig(fault)

    def _require_start(self) -> None:
        """Raise InvalidConfig if the first round opens with too few clients, or never.

        Parties with data of their own may all be in each round, and begin before all are there.
        """
        name = "quorum" if self.own_data else "clients_per_round"
        fewest = self.updates_to_close if self.own_data else self.clients_per_round
        if not fewest <= self.clients_to_start <= self.clients:
            raise InvalidConfig(
                f"min_clients ({self.clients_to_start}) must lie between {name} ({fewest}) and "
                f"clients ({self.clients})."
            )

    def _require_data(self) -> None:
        """Raise InvalidConfig for a setting that belongs to the other kind of data."""
        if self.own_data:
            if self.dataset_size is not None:
                raise InvalidConfig(
                    f"dataset_size ({self.dataset_size}) is the size of a common data set, but "
                    "data (own) has none: leave dataset_size out."
                )
            return
        if self.dataset_size is None:
            raise InvalidConfig(
                "dataset_size is missing: it is the number of examples that are shared out. Or "
                "set data to own, so that each party brings examples of its own."
            )
        for name in ("max_examples_per_client", "normalisation"):
            if (value := getattr(self, name)) != getattr(type(self), name):
                raise InvalidConfig(
                    f"{name} ({value}) is about data of the parties' own: set data to own, or "
                    f"leave {name} out."
                )

    @property
    def lasting(self) -> Config:
        """The settings that never change: all but the budgets, keep_days and the rounds."""
        return replace(self.without_budget, rounds=1)

    @property
    def goal(self) -> Goal:
        """The metric that tells better models from worse ones."""
        return goal_of(self.target_metric, self.target_better)

    @property
    def target(self) -> float | None:
        """The value of the goal's metric that ends the experiment."""
        return self.target_accuracy if self.target_metric is None else self.target_value

    @property
    def own_data(self) -> bool:
        """Whether each party brings data of its own."""
        return self.data == OWN

    @property
    def shared_out(self) -> int:
        """The number of examples of the common data set. Raises Conflict if there is none."""
        if self.dataset_size is None:
            raise Conflict(
                "The parties of this experiment bring data of their own: there are no shards.",
                code="no-shards",
            )
        return self.dataset_size

    @property
    def without_budget(self) -> Config:
        """The settings that models depend on: all but those that may change meanwhile."""
        return replace(self, budget_usd=None, budget_epsilon=None, keep_days=None)

    @property
    def clients_to_start(self) -> int:
        """The number of enrolled clients at which the first round opens."""
        return self.clients if self.min_clients is None else self.min_clients

    @property
    def updates_to_close(self) -> int:
        """The number of updates that a round needs to close at its deadline: its quorum."""
        if self.helped:
            return max(self.quorum or math.ceil(self.clients_per_round / 2), FEWEST_IN_A_SUM)
        if self.secure:
            return max(self.quorum or 0, secure_quorum(self.clients_per_round))
        return math.ceil(self.clients_per_round / 2) if self.quorum is None else self.quorum

    @property
    def secret_cohorts(self) -> bool:
        """Whether nobody knows who takes part in a round, but for those who may see the secret."""
        return self.selection.name == HIDDEN

    @property
    def secure(self) -> bool:
        """Whether the coordinator learns sums of updates alone."""
        return self.secure_aggregation != OFF

    @property
    def helped(self) -> bool:
        """Whether a second operator, the helper, knows the masks."""
        return self.secure_aggregation == HELPER

    @property
    def sent_encoding(self) -> str:
        """The encoding of the updates: `update_encoding`, or that of masked words."""
        return f"masked-{self.mask_words}" if self.secure else self.update_encoding

    @property
    def metrics_in_masks(self) -> tuple[str, ...]:
        """The names of the metrics that masked updates carry."""
        return tuple(name.strip() for name in self.masked_metrics.split(",") if name.strip())

    @property
    def most_examples(self) -> int:
        """The most examples with which a client counts in a masked sum."""
        if self.dataset_size is None:
            return self.max_examples_per_client
        return math.ceil(self.dataset_size / self.clients)


def secure_quorum(cohort: int) -> int:
    """Give the updates that a masked sum needs: more than two thirds of a cohort of up to 64
    clients, whose secrets are shared among all, and more than half of a larger one.
    """
    return 2 * cohort // 3 + 1 if cohort <= 64 else cohort // 2 + 1


_FIELDS = {f.name: f for f in fields(Config) if f.name != "others"}
_CHOICES = frozenset(f.name for f in _FIELDS.values() if isinstance(f.default, Choice))


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A replacement of the enrolment key. `unique` is the hash of the call's Idempotency-Key."""

    generation: int
    unique: str
    rotated_at: float
    rotated_by: str


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A pause after a round. `resumed_at` and `resumed_by` are set once it is over."""

    after_round: int
    paused_at: float
    paused_by: str
    reason: str
    resumed_at: float | None = None
    resumed_by: str = ""


@dataclass(frozen=True, kw_only=True)
class BudgetChange:
    """A change of the budget to `usd`, in US dollars, or of that of privacy to `epsilon`."""

    usd: float | None
    changed_at: float
    changed_by: str
    epsilon: float | None = None


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best model version so far, by the value of the experiment's goal."""

    version: int
    value: float


MAX_ROTATIONS = 100  # the newest ones that a record keeps; `enrol_generation` counts all
MAX_PAUSES = 100  # the newest pauses, and the newest changes of the budget, that a record keeps


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training run. `round` is the open round (0 before the first).

    `model_version` is the newest model. `streak` counts the last rounds in a row whose global model
    met the target accuracy. `revoked` are the slots of revoked clients. `created_by` is the name of
    the owner; `ended_by` is that of a person, or the coordinator. `usage` is the estimated usage up
    to the last closed round. `pausing` names the person that asked for a pause; the pause begins
    when the open round closes. `draw_version` is the version of the rules that draw its shards
    (`serverless_fl.domain.draws`); an experiment from before version 2 records none.

    Version 0, the versions from `models_from` on and the best versions stay. `garbage` are the
    other versions whose bytes are still in the blob store. After `deleted_at` the coordinator
    answers as if the experiment did not exist. `swept`: the blob store holds nothing of it any
    more.
    """

    id: str
    name: str
    config: Config
    created_at: float
    enrol_key_hash: str
    state: ExperimentState = ExperimentState.AWAITING_MODEL
    round: int = 0
    model_version: int | None = None
    streak: int = 0
    reason: str = ""
    ended_at: float | None = None
    created_by: str = "admin"
    ended_by: str = ""
    revoked: tuple[int, ...] = ()
    enrol_generation: int = 0  # counts the replacements of the enrolment key
    enrol_salt: str = ""  # the enrolment key's; empty in an experiment from before salts
    rotations: tuple[Rotation, ...] = ()
    usage: Usage = field(default_factory=Usage)
    told: float = 0.0  # the share of its clients that a simulation tells when to ask
    pausing: str = ""
    pauses: tuple[Pause, ...] = ()
    budgets: tuple[BudgetChange, ...] = ()
    extensions: tuple[Extension, ...] = ()
    origin: Origin | None = None  # of the initial model, if it is another experiment's
    task: TaskName | None = None  # that the initial model's file names
    draw_version: int = 1
    models_from: int = 1
    best_held_out: Best | None = None  # measured by the cohorts, on held-out examples
    best_central: Best | None = None  # measured by the admin
    ledger: LedgerEntry | None = None  # of the newest model, if the privacy mechanism keeps one
    garbage: tuple[int, ...] = ()
    deleted_at: float | None = None
    deleted_by: str = ""
    swept: bool = False
    revision: int = field(default=0, compare=False)

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL

    @property
    def expires_at(self) -> float | None:
        """The time at which an ended experiment is deleted; None: it stays."""
        if self.ended_at is None or self.config.keep_days is None:
            return None
        return self.ended_at + self.config.keep_days * 86400

    @property
    def best_models(self) -> frozenset[int]:
        """The versions that stay because they are the best."""
        return frozenset(b.version for b in (self.best_held_out, self.best_central) if b)

    def keeps(self, version: int) -> bool:
        """Say whether the blob store keeps the bytes of an existing version."""
        return version == 0 or version >= self.models_from or version in self.best_models

    def has_had(self, rounds: int) -> bool:
        """Say whether this is its number of rounds, or was before a raise."""
        return rounds in {self.config.rounds, *(e.before for e in self.extensions)}

    def config_of(self, version: int) -> Config:
        """Give the settings with which a model version is made."""
        rounds = rounds_of(version, self.config.rounds, self.extensions)
        return replace(self.config, rounds=rounds)

    def tombstone(self, at: float, by: str) -> Experiment:
        """Give the record that stays when this experiment is deleted, without its contents.

        Raises Conflict if the experiment has not ended.
        """
        if not self.ended:
            raise Conflict(
                f"The experiment is {self.state}: stop it first, or delete it with stop=true.",
                code="not-ended",
            )
        return replace(
            self,
            name="",
            config=replace(self.config, dataset="", model=""),
            enrol_key_hash="",
            enrol_salt="",
            reason="",
            created_by="",
            ended_by="",
            revoked=(),
            rotations=(),
            pauses=(),
            budgets=(),
            extensions=(),
            origin=None,
            garbage=(),
            ledger=None,
            deleted_at=at,
            deleted_by=by,
        )

    def pause(self, at: float, by: str, reason: str, **changes: Any) -> Experiment:
        """Give this experiment paused after its round. Raises Conflict if it is not running."""
        pause = Pause(after_round=self.round, paused_at=at, paused_by=by, reason=reason)
        pauses = (*self.pauses, pause)[-MAX_PAUSES:]
        return self.move(
            ExperimentState.PAUSED, reason=reason, pausing="", pauses=pauses, **changes
        )

    def resume(self, at: float, by: str, **changes: Any) -> Experiment:
        """Give this experiment running, with its next round to open.

        Raises Conflict if it is not paused.
        """
        over = replace(self.pauses[-1], resumed_at=at, resumed_by=by)
        return self.move(
            ExperimentState.RUNNING,
            reason="",
            round=self.round + 1,
            pauses=(*self.pauses[:-1], over),
            **changes,
        )

    def extend(self, rounds: int, at: float, by: str) -> Experiment:
        """Give this experiment with more rounds; if it is completed, running with the next one.

        Raises Conflict if it has ended otherwise than by its last round, or as many rounds or more.
        """
        before = self.config.rounds
        if self.ended and (self.state is not ExperimentState.COMPLETED or self.round < before):
            raise Conflict(
                f"The experiment is {self.state} after round {self.round} of {before}: only one "
                "whose rounds are all closed can get more. Begin a new one from its model.",
                code="not-extendable",
            )
        if rounds < before or (self.ended and rounds == before):
            raise Conflict(
                f"The experiment has {before} rounds: rounds ({rounds}) must be more.",
                code="rounds-not-raised",
            )
        if rounds == before:
            return self
        if len(self.extensions) >= MAX_EXTENSIONS:
            raise Conflict(
                f"The rounds were raised {MAX_EXTENSIONS} times: begin a new experiment from its "
                "model.",
                code="not-extendable",
            )
        extension = Extension(
            before=before,
            rounds=rounds,
            after_round=self.round,
            extended_at=at,
            extended_by=by,
            ended_at=self.ended_at,
            ended_by=self.ended_by,
            reason=self.reason if self.ended else "",
        )
        longer = replace(
            self,
            config=replace(self.config, rounds=rounds),
            extensions=(*self.extensions, extension),
        )
        if not self.ended:
            return longer
        return longer.move(
            ExperimentState.RUNNING, round=self.round + 1, reason="", ended_at=None, ended_by=""
        )

    def move(self, state: ExperimentState, **changes: Any) -> Experiment:
        """Give this experiment in another state. Raises Conflict if `MOVES` lacks the move."""
        if state not in MOVES[self.state]:
            raise Conflict(f"The experiment is {self.state}; it cannot become {state}.")
        return replace(self, state=state, **changes)

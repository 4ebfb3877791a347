"""An experiment: its settings, its state and the legal moves between states."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from serverless_fl.domain.errors import Conflict, InvalidConfig
from serverless_fl.domain.prices import Usage

WEIGHTS = "weights"  # the encoding of an update, or of a model, that is in none


class ExperimentState(StrEnum):
    """Where an experiment stands."""

    AWAITING_MODEL = "awaiting_model"  # created; its initial weights are not uploaded yet
    ENROLLING = "enrolling"  # the model is there; slots are free
    RUNNING = "running"  # rounds are being trained
    PAUSED = "paused"  # between two rounds: the budget is reached, or the admin said so
    COMPLETED = "completed"  # all rounds are closed, or the target was reached
    FAILED = "failed"  # a round found no quorum in any attempt; the last good model is kept
    STOPPED = "stopped"  # the admin ended it


_S = ExperimentState
TERMINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.STOPPED})
MOVES: Mapping[ExperimentState, frozenset[ExperimentState]] = {
    _S.AWAITING_MODEL: frozenset({_S.ENROLLING, _S.STOPPED}),
    _S.ENROLLING: frozenset({_S.RUNNING, _S.STOPPED}),
    _S.RUNNING: frozenset({_S.RUNNING, _S.PAUSED, _S.COMPLETED, _S.FAILED, _S.STOPPED}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.STOPPED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.STOPPED: frozenset(),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of an experiment. Times are in seconds.

    Raises InvalidConfig where two settings contradict each other; each one's own range is checked
    where it comes in (`serverless_fl.wire.schema`).
    """

    dataset: str
    dataset_size: int
    model: str
    clients: int = 20
    clients_per_round: int = 10
    min_clients: int | None = None  # None: all of them
    rounds: int = 10
    local_epochs: int = 10
    batch_size: int = 50
    learning_rate: float = 0.05
    momentum: float = 0.5
    weight_decay: float = 0.0
    learning_rate_factor: float = 1.0  # on the learning rate, from round to round
    seed: int = 0
    deadline_seconds: float = 600.0
    quorum: int | None = None  # None: half of the cohort, rounded up
    max_attempts: int = 3
    target_accuracy: float | None = None
    patience: int = 1
    strategy: str = "fedavg"
    max_update_norm: float | None = None  # an update's distance from the base model
    norm_action: str = "clip"  # or "reject": what becomes of one beyond that
    keep_updates: int = 0  # rounds whose updates are kept, for `verify`
    keep_models: int | None = None  # the newest so many versions are kept; None: all
    budget_usd: float | None = None  # pause once the estimated cost has reached it; may be changed
    update_encoding: str = WEIGHTS  # or a delta, `serverless_fl.weights.encodings`
    download_encoding: str = WEIGHTS  # of the models that clients train from
    # Settings that no rule of the coordinator reads, where they are not at their defaults. The
    # coordinator keeps them and tells them to clients.
    others: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Config:
        """The settings in one flat mapping, as documents and bodies have them."""
        known = {f.name for f in fields(cls)} - {"others"}
        mine = {name: value for name, value in settings.items() if name in known}
        others = {name: value for name, value in settings.items() if name not in known}
        return cls(**mine, others=others)

    def flat(self) -> dict[str, Any]:
        """All settings in one flat mapping."""
        mine = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "others"}
        return mine | dict(self.others)

    def __post_init__(self) -> None:
        if self.clients_per_round > self.clients:
            raise InvalidConfig(
                f"clients_per_round ({self.clients_per_round}) is more than clients "
                f"({self.clients}): lower the one or raise the other."
            )
        if self.dataset_size < self.clients:
            raise InvalidConfig(
                f"A data set of {self.dataset_size} examples cannot be shared among "
                f"{self.clients} clients: each needs at least one."
            )
        if not self.clients_per_round <= self.clients_to_start <= self.clients:
            raise InvalidConfig(
                f"min_clients ({self.clients_to_start}) must lie between clients_per_round "
                f"({self.clients_per_round}) and clients ({self.clients})."
            )
        if self.updates_to_close > self.clients_per_round:
            raise InvalidConfig(
                f"quorum ({self.quorum}) is more than clients_per_round "
                f"({self.clients_per_round}): no round could ever close."
            )

    @property
    def of_training(self) -> Config:
        """Without what may be changed meanwhile, because it has no part in any model."""
        return replace(self, budget_usd=None)

    def learning_rate_in(self, number: int) -> float:
        """The learning rate of a round; the first is 1. It never becomes 0."""
        rate = self.learning_rate * self.learning_rate_factor ** (number - 1)
        return max(rate, sys.float_info.min)

    @property
    def clients_to_start(self) -> int:
        """How many clients must be enrolled before the first round opens."""
        return self.clients if self.min_clients is None else self.min_clients

    @property
    def updates_to_close(self) -> int:
        """How many updates a round needs to close at its deadline."""
        return math.ceil(self.clients_per_round / 2) if self.quorum is None else self.quorum


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A new enrolment key: when, by whom, and (hashed) by which Idempotency-Key."""

    generation: int
    unique: str
    rotated_at: float
    rotated_by: str


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A pause after a round: since when, by whom and why, and (once it is over) its end."""

    after_round: int
    paused_at: float
    paused_by: str
    reason: str
    resumed_at: float | None = None
    resumed_by: str = ""


@dataclass(frozen=True, kw_only=True)
class BudgetChange:
    """Another budget: how much, when and by whom."""

    usd: float
    changed_at: float
    changed_by: str


@dataclass(frozen=True, kw_only=True)
class Best:
    """The model version with the highest accuracy that was measured so far."""

    version: int
    accuracy: float


MAX_ROTATIONS = 100  # are remembered; the generation counts all of them
MAX_PAUSES = 100  # are remembered, and as many changes of the budget


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training run. `round` is the open one (0 before the first), `model_version` the newest.

    `streak` counts the rounds in a row whose global model met the target accuracy. `revoked` are
    the slots of clients that take part no more. `created_by` and `ended_by` name an admin key or
    the coordinator. `usage` is what it took until the last round that is closed, by estimate.
    `pausing` names who asked for a pause that comes once the open round is closed. `draw_version`
    is that of the rules by which its shards are drawn (`serverless_fl.domain.draws`); experiments
    from before there was a second version record none.

    Of its models, version 0, those from `models_from` on and the best ones are kept; `garbage` are
    versions that are kept no more, and whose bytes are not deleted yet. Once `deleted_at` is set
    there is no such experiment any more for anybody; `swept`: nothing of it is left in the store.
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
    enrol_generation: int = 0  # of the enrolment key
    enrol_salt: str = ""  # of the enrolment key; empty in experiments from before there was one
    rotations: tuple[Rotation, ...] = ()
    usage: Usage = field(default_factory=Usage)
    told: float = 0.0  # the share of its clients that somebody else tells when to ask
    pausing: str = ""
    pauses: tuple[Pause, ...] = ()
    budgets: tuple[BudgetChange, ...] = ()
    draw_version: int = 1
    models_from: int = 1
    best_held_out: Best | None = None  # by the cohorts' held-out examples
    best_central: Best | None = None  # by what the admin measured
    garbage: tuple[int, ...] = ()
    deleted_at: float | None = None
    deleted_by: str = ""
    swept: bool = False
    revision: int = field(default=0, compare=False)

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL

    @property
    def best_models(self) -> frozenset[int]:
        """The versions that stay for their accuracy."""
        return frozenset(b.version for b in (self.best_held_out, self.best_central) if b)

    def keeps(self, version: int) -> bool:
        """Whether a model version that there was is kept."""
        return version == 0 or version >= self.models_from or version in self.best_models

    def tombstone(self, at: float, by: str) -> Experiment:
        """What is left of this experiment when it is deleted: nothing that says what it was.

        Raises Conflict where it has not ended.
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
            garbage=(),
            deleted_at=at,
            deleted_by=by,
        )

    def pause(self, at: float, by: str, reason: str, **changes: Any) -> Experiment:
        """This experiment, paused after its round. Raises Conflict where it is not running."""
        pause = Pause(after_round=self.round, paused_at=at, paused_by=by, reason=reason)
        pauses = (*self.pauses, pause)[-MAX_PAUSES:]
        return self.move(
            ExperimentState.PAUSED, reason=reason, pausing="", pauses=pauses, **changes
        )

    def resume(self, at: float, by: str, **changes: Any) -> Experiment:
        """This experiment with its next round to be opened. Raises Conflict where it may not."""
        over = replace(self.pauses[-1], resumed_at=at, resumed_by=by)
        return self.move(
            ExperimentState.RUNNING,
            reason="",
            round=self.round + 1,
            pauses=(*self.pauses[:-1], over),
            **changes,
        )

    def move(self, state: ExperimentState, **changes: Any) -> Experiment:
        """This experiment in its next state. Raises Conflict where the move is not a legal one."""
        if state not in MOVES[self.state]:
            raise Conflict(f"The experiment is {self.state}; it cannot become {state}.")
        return replace(self, state=state, **changes)

"""The contract of a strategy: how a round's updates become the next model.

A strategy is one file: a pydantic model whose fields are its settings, and whose methods are its
rules. It works on flat arrays of float64; its caller maps them to tensors, calls it span by span,
and rounds the result to the model's dtypes. A strategy is pure and treats every element alike, so
the result does not depend on how the model is cut into spans. Tensors of whole numbers take the
weighted mean and never reach `step`.

Strategies import NumPy inside their methods, because a coordinator that only answers polls reads
their settings and never loads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from serverless_fl.alternatives import Alternative

if TYPE_CHECKING:
    import numpy as np

MAX_WEIGHT = 1 << 30  # of all updates together, so that no sum of weights' products overflows
MAX_COMPARED = 1000  # updates of which a Gram matrix is taken: it has 8 MB, as a span of a model

State = Mapping[str, "np.ndarray"]
"""The values of a strategy's state over one span, float64 [elements] each, by their names."""


class Reduction(StrEnum):
    """How the values of many updates become one value for each element."""

    MEAN = "mean"  # their weighted mean, one update at a time, weights by `Strategy.weight`
    COLUMNS = "columns"  # `Strategy.reduce` of all values of an element
    GEOMETRY = "geometry"  # their weighted mean, weights by `Strategy.weights` of all updates
    CHOSEN_COLUMNS = "chosen-columns"  # `reduce` of the updates whose `weights` are positive

    @property
    def weighs_all(self) -> bool:
        """Say whether an update's weight depends on all updates of the round."""
        return self in (Reduction.GEOMETRY, Reduction.CHOSEN_COLUMNS)

    @property
    def takes_columns(self) -> bool:
        """Say whether all values of an element are reduced at once."""
        return self in (Reduction.COLUMNS, Reduction.CHOSEN_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class UpdateFacts:
    """What is known of an accepted update beside its tensors.

    `norm` is its distance from the base model; None unless the strategy `needs_norm`.
    """

    client: int  # the client's slot
    num_examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """How the experiment tells its clients to train in this round."""

    local_epochs: int
    batch_size: int
    learning_rate: float  # of this round
    momentum: float


@dataclass(frozen=True, kw_only=True)
class RoundFacts:
    """What is known of the round: its number, its updates in their order, and all its clients.

    `clients` is the number of enrolled clients that were not revoked.
    """

    number: int
    updates: Sequence[UpdateFacts]
    clients: int
    training: TrainingFacts

    @property
    def participation(self) -> float:
        """The share of all clients whose updates the round has. A revoked one's may be among them,
        so it is bounded by 1.
        """
        return min(1.0, len(self.updates) / max(1, self.clients))


class Strategy(Alternative):
    """A strategy with its settings. A subclass adds a field `name: Literal["its-name"]`.

    Its docstring cites the paper and says when to choose it; docs/algorithms.md shows it.
    """

    reduction: ClassVar[Reduction] = Reduction.MEAN
    needs: ClassVar[tuple[str, ...]] = ()  # metrics that every update must carry
    needs_norm: ClassVar[bool] = False  # whether `UpdateFacts.norm` must be known
    # Further sets of floating-point tensors that an update carries; only with the reduction `MEAN`,
    # and by the same weights. `serverless_fl.weights.deltas.add_companions` puts them into a file.
    companions: ClassVar[tuple[str, ...]] = ()
    broadcast: ClassVar[tuple[str, ...]] = ()  # names in `state` that clients need to train
    remembers: ClassVar[bool] = False  # whether each client keeps an array, which begins at 0

    @property
    def averages_alone(self) -> bool:
        """Whether it reads a mean of the updates' weights, and nothing else of them."""
        return (
            self.reduction is Reduction.MEAN
            and not self.companions
            and not self.has_client_half
            and not self.needs_norm
        )

    @property
    def has_client_half(self) -> bool:
        """Say whether clients must know of the strategy; else it is not told them."""
        return bool(self.needs or self.broadcast or self.remembers or self.pull)

    @property
    def state(self) -> Mapping[str, float]:
        """The names of the state's arrays, each with the value that all its elements begin at.

        Each array is stored as a file like the model with every version, in the model's dtypes,
        but float32 where those have 16 bits.
        """
        return {}

    def fault(self, updates: int) -> str | None:
        """Say why a cohort of this many updates is too small; None if it suffices."""
        return None

    def training_fault(self, training: TrainingFacts) -> str | None:
        """Say why clients of this strategy cannot train so; None if they can."""
        return None

    def staleness_fault(self) -> str | None:
        """Say why a share of an update of an older model cannot be taken; None if it can.

        A buffered schedule takes such shares, of the weights and not of the companions.
        """
        return None

    def update_fault(self, update: UpdateFacts, training: TrainingFacts) -> str | None:
        """Say why an update cannot be taken; None if it can. By default: a needed metric lacks.

        The coordinator asks when an update arrives, before it knows `UpdateFacts.norm`.
        """
        for name in self.needs:
            if name not in update.metrics:
                return f"the update has no metric {name}, which {self.name} needs"
        return None

    def weight(self, update: UpdateFacts) -> float:
        """Give an update's weight in the mean: positive and finite. By default its examples.

        The coordinator refuses an update whose weight is neither, or beyond `MAX_WEIGHT` divided by
        the number of clients.
        """
        return update.num_examples

    def reduce(self, columns: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
        """Reduce values, float64 [updates, elements], to one for each element.

        Sort values before you sum them: `np.partition` leaves another order on another processor.
        `columns` has two elements or more, because NumPy sums the rows of a single one pairwise.
        Only called with the reductions `COLUMNS` and `CHOSEN_COLUMNS`; with the latter, both
        arguments have only the updates whose `weights` are positive, in their order.
        """
        raise NotImplementedError

    def weights(self, gram: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
        """Give each update's weight in the mean, float64 [updates]: not negative, one positive.

        `gram` [updates, updates] holds the inner products of the updates' differences from the
        base model, over all floating-point tensors; it is symmetric, and infinite or NaN where a
        product overflows. Only called with the reductions `GEOMETRY` and `CHOSEN_COLUMNS`.
        """
        raise NotImplementedError

    def step(
        self, base: np.ndarray, reduced: Mapping[str, np.ndarray], state: State, facts: RoundFacts
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Give the new weights and the new state of some elements.

        `base`: the weights that the clients trained from, float64 [elements]. `reduced`: the
        reduction of the updates' weights, under "weights", and of each companion, under its name.
        Take +, -, *, / and square roots only, which are the same on every machine. The caller turns
        values beyond a dtype's finite ones into the nearest finite one, and ends the experiment if
        one is NaN.
        """
        return reduced["weights"], {}

    # The half of the clients: only where `remembers` or `pull` is set

    @property
    def pull(self) -> float:
        """The share of its distance from the base model that a client adds to each gradient."""
        return 0.0

    def offset(self, own: np.ndarray, state: State) -> np.ndarray:
        """Give what a client adds to each gradient, float64 [elements].

        `own` is the array that it keeps, `state` has the arrays of `broadcast`.
        """
        return own

    def remember(
        self,
        own: np.ndarray,
        state: State,
        change: np.ndarray,
        steps: float,
        learning_rate: float,
    ) -> np.ndarray:
        """Give the array that a client keeps from now on, float64 [elements].

        `change`: its weights after the training less those before. `steps`: its effective steps.
        `learning_rate`: of this round.
        """
        return own

    def carried(self, own: np.ndarray, fresh: np.ndarray) -> Mapping[str, np.ndarray]:
        """Give the `companions` of an update [elements], by name.

        `own` and `fresh` are what the client has kept, and what it keeps from now on.
        """
        return {}

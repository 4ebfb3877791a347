"""The contract of a privacy mechanism: what each side asks of it.

A mechanism is an alternative whose fields are its settings, and whose methods are pure functions of
the settings and of their arguments. At the client, `before_upload` runs after the training. At the
coordinator, `share` runs when an update comes, and `wrap_step` when the strategy makes the next
model of all updates. A mechanism overrides what it needs.

This module imports NumPy for its types only, because a coordinator that only answers polls never
loads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from serverless_fl.alternatives import Alternative
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.ledger import LedgerEntry, most_participations

if TYPE_CHECKING:
    from serverless_fl.privacy.examples import ExampleNoise
    from serverless_fl.privacy.noise import Noise
    from serverless_fl.privacy.sending import Sending
    from serverless_fl.weights.spans import Piece, Step


class Bounds(Protocol):
    """The experiment's own settings of the group `privacy`, which both sides know."""

    @property
    def max_update_norm(self) -> float | None: ...

    @property
    def norm_action(self) -> str: ...


class Aggregator(Protocol):
    """What a mechanism reads of a strategy; see `serverless_fl.aggregation.strategy.Strategy`."""

    @property
    def name(self) -> str: ...

    @property
    def averages_alone(self) -> bool: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def companions(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The updates of a round: the weight of each, and whether it counts whole."""

    weights: Sequence[float]
    whole: Sequence[bool]


class Mechanism(Alternative):
    """A mechanism with its settings. A subclass adds a field `name: Literal["its-name"]`.

    Its docstring cites the paper and says when to choose it.
    """

    wraps_step: ClassVar[bool] = False
    keeps_ledger: ClassVar[bool] = False  # whether it adds noise of a secret, and writes `entry`

    def within(self, config: Config) -> Self:
        """Give the mechanism as it works in an experiment with these settings."""
        return self

    def fault(self, config: Config) -> str | None:
        """Say why the experiment's other settings do not suit; None if they do."""
        if config.max_update_norm is not None:
            return (
                f"max_update_norm ({config.max_update_norm:g}) is a bound of privacy none, and "
                f"privacy {self.name} knows no such bound: leave one of them out."
            )
        return None

    def strategy_fault(self, strategy: Aggregator) -> str | None:
        """Say why the experiment's strategy does not suit; None if it does."""
        return None

    # At a client

    @property
    def example_noise(self) -> ExampleNoise | None:
        """Give the noise of each step of a client's training; None: training adds none."""
        return None

    def has_client_half(self, bounds: Bounds) -> bool:
        """Say whether clients have a part in it; else they are not told of it."""
        return type(self).before_upload is not Mechanism.before_upload

    def before_upload(self, base: bytes, trained: bytes, sending: Sending, bounds: Bounds) -> bytes:
        """Give the file that leaves the client, in the encoding of `sending`.

        `trained` are the weights after the training, and `base` those before it (safetensors).
        Raises BadWeights if the two have different tensors.
        """
        return sending.encode(base, trained)

    # At the coordinator

    def needs_norm(self, bounds: Bounds) -> bool:
        """Say whether `share` must know an update's distance from its base model."""
        return type(self).share is not Mechanism.share

    def share(self, norm: float, bounds: Bounds, before: LedgerEntry | None = None) -> float:
        """Give the share of an update's distance from its base model that counts: 0 to 1.

        `norm` is that distance (Euclidean), `before` the base model's entry in the ledger, if it
        has one. Raises BadWeights if the update must not count at all.
        """
        return 1.0

    def weight(self, weight: float) -> float:
        """Give an update's weight in the mean, of the weight that the strategy gives it."""
        return weight

    def wrap_step(self, step: Step, elements: Piece, noise: Noise | None = None) -> Step:
        """Give the step to take in place of the strategy's over some elements of a tensor.

        Only called if `wraps_step`, and perhaps again for the same elements, cut otherwise: its
        result must depend on an element's place in the tensor and not on the cut. `noise` is the
        round's, if the mechanism `keeps_ledger`.
        """
        return step

    # Only where `keeps_ledger`

    def deviation(self, before: LedgerEntry | None, weights: Sequence[float]) -> float:
        """Give the deviation of the noise on each weight of the mean of updates so weighted.

        Take +, -, *, / and square roots only, as in `Strategy.step`.
        """
        raise NotImplementedError

    def participations(self, rounds: Iterable[Iterable[int]]) -> int:
        """Give how often a client has taken part at most, of the slots of each round's updates."""
        return most_participations(rounds)

    def epsilon(self, participations: int) -> float:
        """Give what rounds cost a client that takes part so often."""
        raise NotImplementedError

    def coming(self, entry: LedgerEntry | None) -> float:
        """Give what another round could raise epsilon to, after the version with this entry."""
        return self.epsilon(1 if entry is None else entry.participations + 1)

    def replaced(self, number: int) -> Sequence[int]:
        """Give the earlier rounds whose noise a round takes off when it adds its own."""
        return ()

    def entry(
        self,
        before: LedgerEntry | None,
        taken: Taken,
        key: bytes,
        rounds: Sequence[Sequence[int]],
        secret: str,
    ) -> LedgerEntry:
        """Give the ledger's entry of a version.

        `before` is the entry of the version before, `key` that of the round's noise, `rounds` the
        slots of each round's updates up to this one, `secret` the secret's SHA-256.
        """
        raise NotImplementedError

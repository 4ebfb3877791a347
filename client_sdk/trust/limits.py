"""A party's own limits: it takes part in nothing that exceeds them, whatever was agreed."""

from __future__ import annotations

from dataclasses import dataclass

from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import OFF
from serverless_fl.privacy import mechanism_of
from serverless_fl.wire.views import ExperimentView


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a party asks of an experiment.

    `min_participants`: the fewest clients whose updates may be in a sum, which asks for secure
    aggregation, too. `require_secure`: secure aggregation. `pinned`: the party pins the others,
    which asks for the same. `max_epsilon`: differential privacy, of which the client that took part
    most often, or with DP-SGD an example of this client, spends no more than this.
    """

    min_participants: int | None = None
    require_secure: bool = False
    pinned: bool = False
    max_epsilon: float | None = None

    def secure_fault(self, *, masked: bool) -> str | None:
        """Say why updates that are `masked` or not do not suit; None if they do."""
        asked = (
            *(["min_participants"] if self.min_participants else []),
            *(["require_secure"] if self.require_secure else []),
            *(["pins"] if self.pinned else []),
        )
        if masked or not asked:
            return None
        return (
            f"This client takes part under secure aggregation alone ({', '.join(asked)}), but the "
            "experiment's updates are not masked."
        )

    def epsilon_fault(self, view: ExperimentView) -> str | None:
        """Say why another round of the experiment does not suit; None if it does."""
        most = self.max_epsilon
        if most is None:
            return None
        try:
            mechanism = mechanism_of(view.config.to_config())
        except InvalidConfig as error:
            return f"The experiment's settings contradict each other: {error}"
        if mechanism.example_noise is not None:
            return (
                f"The experiment has privacy {mechanism.name}, but this task does not ask for its "
                "noise, so this client (max_epsilon) does not train."
            )
        if not mechanism.keeps_ledger:
            return (
                f"This client spends an epsilon of {most:g} at most (max_epsilon), but the "
                "experiment has no differential privacy."
            )
        shown = view.privacy
        coming = mechanism.epsilon(1 + (shown.participations if shown else 0))
        if shown is not None and shown.next_epsilon is not None:
            coming = shown.next_epsilon
        if coming <= most:
            return None
        return (
            f"Another round could raise epsilon to {coming:.4g}, more than the {most:g} that this "
            "client spends at most (max_epsilon)."
        )

    def fault(self, view: ExperimentView) -> str | None:
        """Say why the experiment does not suit; None if it does."""
        secure = view.config.secure_aggregation != OFF
        few = self.min_participants or 0
        if found := self.secure_fault(masked=secure):
            return found
        # With DP-SGD each client has a ledger of its own, which is asked before each training.
        if view.config.privacy.example_noise is None and (found := self.epsilon_fault(view)):
            return found
        if few > view.config.clients_per_round:
            return (
                f"A round of this experiment has {view.config.clients_per_round} clients, and this "
                f"client wants {few} (min_participants)."
            )
        return None

"""Secret selection: nobody who lacks the experiment's secret knows who takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from serverless_fl.domain.experiment import NO_MECHANISM, Config
from serverless_fl.schedule.selection.selection import Draw, Known, Reads, Selection


class Secret(Selection):
    """Every client has the same chance, by a secret, and nobody is shown who takes part.

    Each client is drawn or not whoever else is (Poisson sampling), so a cohort has
    `clients_per_round` clients on average, and now more, now fewer. Choose it with differential
    privacy and hundreds of clients: each round then costs the less, the smaller a client's chance
    is (Abadi et al., "Deep Learning with Differential Privacy", 2016, arXiv:1607.00133). Rounds are
    shown to the admin and the owner alone.
    """

    name: Literal["secret"] = "secret"

    reads: ClassVar[Reads] = Reads.SECRET

    def fault(self, config: Config) -> str | None:
        if config.privacy == NO_MECHANISM:
            return (
                f"selection ({self.name}) hides who takes part, so that differential privacy costs "
                "less: set privacy to dp-fedavg or dp-adaptive, or take selection uniform."
            )
        return None

    def draw(
        self, draw: Draw, slots: Sequence[int], size: int, known: Mapping[int, Known]
    ) -> list[int]:
        return draw.secretly(slots, size / draw.clients)

"""Selection of the least recent: clients take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from serverless_fl.schedule.selection.selection import UNKNOWN, Draw, Known, Reads, Selection


class LeastRecent(Selection):
    """The clients that were not invited for the longest time come first; chance decides ties.

    Choose it where each client's data must be seen early and equally often. The order of the
    clients' turns repeats, so a pattern in it (all sites of one country together) stays.
    """

    name: Literal["least-recent"] = "least-recent"

    reads: ClassVar[Reads] = Reads.ROUNDS

    def draw(
        self, draw: Draw, slots: Sequence[int], size: int, known: Mapping[int, Known]
    ) -> list[int]:
        def place(slot: int) -> tuple[int, float, int]:
            turns = known.get(slot, UNKNOWN).turns
            return (turns[0].round if turns else 0), draw.ticket(slot), slot

        return sorted(sorted(slots, key=place)[:size])

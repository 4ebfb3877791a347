"""Selection by loss: clients on whose data the model is bad are drawn more often."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from serverless_fl.schedule.selection.selection import UNKNOWN, Draw, Known, Reads, Selection


class ByLoss(Selection):
    """Draws candidates by their sizes, and takes those with the highest last loss.

    Cho et al., "Client selection in federated learning: convergence analysis and power-of-choice
    selection strategies", 2020, arXiv:2010.01243, in the form that needs no further message
    (rpow-d): the loss is the one that the client reported last, and that of a client that never
    reported is infinite. Choose it where few clients fit the model badly and speed counts; the
    model then favours them, and a client can lie about its loss to be drawn.
    """

    name: Literal["by-loss"] = "by-loss"
    candidates: float = Field(
        2.0, ge=1, le=100, description="Candidates for each place in the cohort"
    )

    reads: ClassVar[Reads] = Reads.EXAMPLES | Reads.UPDATES

    def draw(
        self, draw: Draw, slots: Sequence[int], size: int, known: Mapping[int, Known]
    ) -> list[int]:
        weights = {slot: known.get(slot, UNKNOWN).examples for slot in slots}
        candidates = draw.weighted(weights, math.ceil(self.candidates * size))

        def place(slot: int) -> tuple[float, float, int]:
            turns = known.get(slot, UNKNOWN).turns
            losses = (turn.loss for turn in turns if turn.loss is not None)
            return -next(losses, math.inf), draw.ticket(slot), slot

        return sorted(sorted(candidates, key=place)[:size])

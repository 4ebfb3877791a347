"""Selection by size: clients with more examples are drawn more often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from serverless_fl.schedule.selection.selection import UNKNOWN, Draw, Known, Reads, Selection


class BySize(Selection):
    """A client's chance grows with the number of examples that it declared.

    Li et al., "On the convergence of FedAvg on non-IID data", 2020, arXiv:1907.02189, scheme I.
    Choose it with a strategy that does not weigh updates by their examples, such as a median: with
    FedAvg, large clients count twice, by their chance and by their weight.
    """

    name: Literal["by-size"] = "by-size"

    reads: ClassVar[Reads] = Reads.EXAMPLES

    def draw(
        self, draw: Draw, slots: Sequence[int], size: int, known: Mapping[int, Known]
    ) -> list[int]:
        return draw.weighted({slot: known.get(slot, UNKNOWN).examples for slot in slots}, size)

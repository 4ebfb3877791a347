"""Uniform selection: every client has the same chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from serverless_fl.schedule.selection.selection import Draw, Known, Reads


class Uniform:
    """Every client has the same chance in every round (McMahan et al., 2017, arXiv:1602.05629).

    Choose it unless you know better: the mean of the updates is then right on average.
    """

    reads: ClassVar[Reads] = Reads.NOTHING

    def draw(
        self, draw: Draw, slots: Sequence[int], size: int, known: Mapping[int, Known]
    ) -> list[int]:
        return draw.uniform(slots, size)

"""Uniform selection: every client has the same chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from serverless_fl.schedule.selection.selection import Draw, Known, Selection


class Uniform(Selection):
    """Every client has the same chance in every round.

    McMahan et al., 2017, arXiv:1602.05629. Choose it unless you know better: it favours no client,
    so the mean of the updates is right on average.
    """

    name: Literal["uniform"] = "uniform"

    def draw(
        self, draw: Draw, slots: Sequence[int], size: int, known: Mapping[int, Known]
    ) -> list[int]:
        return draw.uniform(slots, size)

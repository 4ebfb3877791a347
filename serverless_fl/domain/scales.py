"""Adds up the parties' sums of columns to means and standard deviations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from serverless_fl.domain.agreement import ColumnSums, Scale

_NOISE = 1e-15  # a variance below this share of the squared mean is rounding


def scales_of(columns: Sequence[str], parties: Iterable[Sequence[ColumnSums]]) -> list[Scale]:
    """Give each column's mean and deviation over all parties.

    The sums are added exactly (`math.fsum`), so the order of the parties changes nothing. A column
    without values gets mean 0, and one whose values are all the same gets deviation 1.
    """
    by_column: dict[str, list[ColumnSums]] = {name: [] for name in columns}
    for sums in parties:
        for found in sums:
            by_column[found.column].append(found)
    return [_scale(name, found) for name, found in by_column.items()]


def _scale(column: str, found: Sequence[ColumnSums]) -> Scale:
    count = sum(one.count for one in found)
    if count == 0:
        return Scale(column=column, mean=0.0, deviation=1.0, count=0)
    mean = Fraction(math.fsum(one.sum for one in found)) / count
    squares = Fraction(math.fsum(one.squares for one in found)) / count
    variance = float(squares - mean**2)
    constant = variance <= _NOISE * float(mean) ** 2
    deviation = 1.0 if constant else math.sqrt(variance)
    return Scale(column=column, mean=float(mean), deviation=deviation, count=count)

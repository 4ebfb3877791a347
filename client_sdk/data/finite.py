"""Finds examples that have NaN or infinity, from which no task learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from client_sdk.data.data import Arrays, Data

_SHOWN = 5
_ROWS = 4096  # that are looked at together


def not_finite(data: Data, indices: Sequence[int]) -> str:
    """Name the first examples with NaN or infinity, by their places in the data; else empty.

    It knows arrays; other data sets are left to their task.
    """
    if not isinstance(data, Arrays):
        return ""
    for number, column in enumerate(data.columns):
        name = "xy"[number] if len(data.columns) <= 2 else f"part{number}"
        found = list(_places(column, indices))
        if found:
            more = f" and {len(found) - _SHOWN} more" if found[_SHOWN:] else ""
            named = ", ".join(
                f"{name}[{', '.join(map(str, place))}] is {value:g}"
                for place, value in found[:_SHOWN]
            )
            return (
                f"Not every value of the data is a finite number: {named}{more} (counted from 0). "
                "Fill these in, or leave the rows out."
            )
    return ""


def _places(column: Any, indices: Sequence[int]) -> Iterator[tuple[tuple[int, ...], float]]:
    """The first value of each row that is not finite: its place, and itself."""
    kind = str(getattr(column, "dtype", ""))
    if "float" not in kind:
        return
    for start in range(0, len(indices), _ROWS):
        rows = list(indices[start : start + _ROWS])
        part = column[rows]
        values = np.asarray(part.detach().cpu().float() if hasattr(part, "detach") else part)
        wrong = ~np.isfinite(values)
        for row in np.flatnonzero(wrong.reshape(len(rows), -1).any(1)).tolist():
            inner = tuple(int(n) for n in np.argwhere(wrong[row])[0])
            yield (int(rows[row]), *inner), float(values[(row, *inner)])

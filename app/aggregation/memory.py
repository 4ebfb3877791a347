"""Memory that NumPy's loops are fast over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LINE = 64  # bytes; vectors that lie across the ends of a cache's lines cost a sixth of the time
LINE = _LINE // 8  # in elements of eight bytes


def on_lines(sizes: Sequence[int]) -> list[np.ndarray]:
    """Float64 arrays, each from the start of a line of the caches on; what is in them is anything.

    They are one block of memory. What is freed in many is given back to the system, and to have it
    again takes as long as folding an update.
    """
    room = np.empty(sum(sizes) + (len(sizes) + 1) * LINE)
    place = -room.ctypes.data % _LINE // 8
    found = []
    for size in sizes:
        found.append(room[place : place + size])
        place += size + -size % LINE
    return found

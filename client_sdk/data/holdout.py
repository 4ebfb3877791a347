"""A client's held-out examples: a tenth of its shard never trains and measures every model."""

from __future__ import annotations

from collections.abc import Sequence

from client_sdk.data.seeds import SeededRandom


def hold_out(indices: Sequence[int], seed: int, share: float = 0.1) -> tuple[list[int], list[int]]:
    """Split a shard at random into (training, held-out) indices; a function of the seed.

    A shard of two examples or more holds out at least one, and at least one example always trains.
    Raises ValueError for an empty shard or a share outside of [0, 1).
    """
    if not indices:
        raise ValueError("The shard is empty: there is nothing to train on.")
    if not 0 <= share < 1:
        raise ValueError(f"share is a number from 0 to below 1, not {share}.")
    count = round(len(indices) * share)
    if share and len(indices) > 1:
        count = max(count, 1)
    count = min(count, len(indices) - 1)
    shuffled = [indices[i] for i in SeededRandom(seed).permutation(len(indices)).tolist()]
    return shuffled[count:], shuffled[:count]

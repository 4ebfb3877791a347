"""What a client does with its shard: most of it trains, a tenth is held out."""

from __future__ import annotations

from collections.abc import Sequence

from client_sdk.data.seeds import Dice


def split(indices: Sequence[int], seed: int, holdout: float = 0.1) -> tuple[list[int], list[int]]:
    """Split a shard at random into (training, held-out) indices; a function of the seed.

    At least one example of two or more is held out, and at least one always trains. Raises
    ValueError for an empty shard or a share outside of [0, 1).
    """
    if not indices:
        raise ValueError("The shard is empty: there is nothing to train on.")
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout is a share between 0 and 1, not {holdout}.")
    count = round(len(indices) * holdout)
    if holdout and len(indices) > 1:
        count = max(count, 1)
    count = min(count, len(indices) - 1)
    shuffled = [indices[i] for i in Dice(seed).permutation(len(indices)).tolist()]
    return shuffled[count:], shuffled[:count]

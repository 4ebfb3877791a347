"""Settings that a run derives from its data, where nobody gives them."""

from __future__ import annotations

SMALL_SHARD = 200  # examples; in a smaller one an epoch of batches of 50 has few steps
_COHORT, _BATCH, _SMALL_BATCH = 10, 50, 10


def derived(clients: int, examples: int) -> dict[str, int]:
    """The settings for so many clients that share so many examples."""
    return {
        "clients_per_round": min(_COHORT, clients),
        "batch_size": _SMALL_BATCH if examples // clients < SMALL_SHARD else _BATCH,
    }

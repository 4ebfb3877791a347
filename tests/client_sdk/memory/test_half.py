"""A client's half of a strategy takes of a coordinator what the strategy needs, and no more."""

from datetime import UTC, datetime

import numpy as np
import safetensors.numpy

from client_sdk.memory.half import KeptHalf
from client_sdk.memory.memory import Memory
from serverless_fl.wire.turns import Train

MODEL = safetensors.numpy.save({"w": np.zeros(3, np.float32)})


class Coordinator:
    """Serves any state, and notes which one it was asked for."""

    def __init__(self):
        self.asked = []

    async def download_state(self, experiment_id, version, name, part_bytes, *, direct, file):
        self.asked.append(name)
        return MODEL


async def test_only_the_state_that_the_strategy_needs_is_downloaded():
    """A coordinator that lists a hundred arrays does not fill the client's memory."""
    file = {"sha256": "a" * 64, "size": len(MODEL)}
    turn = Train(
        round=2,
        attempt=1,
        base_version=1,
        model=file,
        strategy="scaffold",
        state={"control": file} | {f"other_{n}": file for n in range(100)},
        deadline=datetime.now(UTC),
        seconds_left=60,
        training={
            "local_epochs": 1,
            "batch_size": 1,
            "learning_rate": 0.1,
            "momentum": 0,
            "seed": 0,
        },
        part_bytes=1 << 20,
        max_update_bytes=1 << 20,
    )
    coordinator = Coordinator()
    await KeptHalf.begin(coordinator, "e", "client-0", turn, MODEL, Memory())
    assert coordinator.asked == ["control"]

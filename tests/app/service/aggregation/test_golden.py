"""FedAvg's models have the SHA-256 that they had before there were other strategies."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from serverless_fl.weights.deltas import encode_update
from tests.support.gathering import Gathering

CLIENTS = 7


def values(seed: str, count: int) -> np.ndarray:
    """Integers below 2**31 that no version of NumPy draws otherwise."""
    return np.frombuffer(hashlib.shake_256(seed.encode()).digest(4 * count), "<i4")


def model(seed: int) -> bytes:
    return safetensors.numpy.save(
        {
            "a.weight": (values(f"a{seed}", 217) / 3e9).astype(np.float32).reshape(7, 31),
            "b.half": (values(f"b{seed}", 97) / 2.0**31).astype(np.float16),
            "c.steps": values(f"c{seed}", 33).astype(np.int64),
            "d.double": values(f"d{seed}", 41) / 3.0,
            "e.mask": values(f"e{seed}", 9) > 0,
        }
    )


async def digest_of_a_round(group, **settings) -> str:
    limits = Limits(part_bytes=512, group_size=group, lease_seconds=30)
    gathering = await Gathering.of(limits, CLIENTS, initial=model(1000), **settings)
    encoding = settings.get("update_encoding", "weights")
    for slot in range(CLIENTS):
        data = encode_update(model(1000), model(slot), encoding, seed=0)
        await gathering.upload(slot, data)
    return hashlib.sha256(await gathering.finish()).hexdigest()


PLAIN = "2a1c822d684a6e6ceaae02a3d9f1aeb080d594429a63920e0f4f3fc294a4fb6b"
GROUPED = "630ba434bfc4c2ab5aef685e1650b81924d885f8313eec9fbf882701d5a8b2bc"
CLIPPED = "e2691809f25d419f6d0410b8740233fa0d068f65face0798695f54a7edbb9bae"
DELTAS = "f316414be78e6375c5bae55881adb1fdd5dbc95b034f8039b9a81ee9d29e5e53"


@pytest.mark.parametrize(
    ("group", "settings", "expected"),
    [
        (64, {}, PLAIN),
        (3, {}, GROUPED),
        (64, {"max_update_norm": 3.0}, CLIPPED),
        (3, {"update_encoding": "delta-float16"}, DELTAS),
    ],
)
async def test_fedavg_gives_the_same_bytes(group, settings, expected):
    assert await digest_of_a_round(group, **settings) == expected

"""Strategies through every way in: state is served, and `verify` recomputes model and state."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from client_sdk.tools.verify import verify
from tests.support.ways import EACH_KIND


def model(*seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    return safetensors.numpy.save(
        {"w": draw.normal(size=(17, 33)).astype(np.float32), "n": draw.integers(0, 9, 3)}
    )


@EACH_KIND
@pytest.mark.parametrize("strategy", ["fedadam", "median", "krum"])
async def test_two_rounds(api, strategy):
    experiment, members = await api.start(
        model(0),
        clients=5,
        clients_per_round=5,
        quorum=5,
        rounds=2,
        dataset_size=100,
        keep_updates=2,
        strategy=strategy,
    )
    for number in (1, 2):
        for slot, member in enumerate(members):
            await member.upload_bytes(number, model(number, slot), 1 + slot)
        for _ in range(100):
            if (await api.admin.experiment(experiment)).model_version == number:
                break
    findings = await verify(api.admin, experiment)
    assert [finding.message for finding in findings if finding.good is not True] == []
    last = (await api.admin.models(experiment))[-1]
    assert sorted(last.state) == (
        ["first_moment", "second_moment"] if strategy == "fedadam" else []
    )
    for name, file in last.state.items():
        data = await members[0].api.download_state(experiment, 2, name, 1000, file=file)
        assert safetensors.numpy.load(data)["w"].shape == (17, 33)
    round_ = await api.admin.round(experiment, 1)
    weights = [update.weight for update in round_.updates]
    assert sorted(weights) == [0, 0, 0, 0, 1] if strategy == "krum" else weights == [None] * 5

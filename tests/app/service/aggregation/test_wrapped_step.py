"""A mechanism around the step sees each element once, wherever a model is cut; so does `verify`."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from client_sdk.tools.verify import verify
from serverless_fl.privacy import Mechanism
from tests.support.federation import Federation

START = {
    "a": np.linspace(0, 1, 100, dtype=np.float32),
    "n": np.arange(9),
    "z": np.zeros(70),
}


class Marking(Mechanism):
    """Adds to each element its place in its tensor; tests see where noise would go."""

    name: Literal["marking"] = "marking"

    wraps_step: ClassVar[bool] = True

    def wrap_step(self, step, elements, noise=None):
        def marked(base, reduced, state, facts):
            weights, after = step(base, reduced, state, facts)
            return weights + np.arange(elements.first, elements.last), after

        return marked


@pytest.mark.parametrize("strategy", ["fedavg", {"name": "fedavgm", "server_momentum": 0.5}])
@pytest.mark.parametrize("part_bytes", [1 << 20, 256, 64], ids=["one span", "spans", "many spans"])
async def test_a_wrapped_step_knows_the_place_of_each_element(
    store, monkeypatch, part_bytes, strategy
):
    for both in ("app.service.aggregation.tasks", "client_sdk.tools.verify"):
        monkeypatch.setattr(f"{both}.mechanism_of", lambda config: Marking())
    federation = Federation(store.documents, store.blobs, limits=Limits(part_bytes=part_bytes))
    initial = safetensors.numpy.save(START)
    async with federation.serving():
        settings = {"clients": 2, "rounds": 1, "strategy": strategy, "keep_updates": 1}
        experiment, members = await federation.start(initial=initial, **settings)
        for member in members.values():
            await member.upload_bytes(1, initial)
        assert all(finding.good for finding in await verify(federation.admin, experiment))
        found = safetensors.numpy.load(await federation.admin.download_model(experiment, 1))
    assert (found["a"] == (START["a"].astype(np.float64) + np.arange(100)).astype(np.float32)).all()
    assert (found["n"] == START["n"]).all()  # whole numbers are no matter of a step
    assert (found["z"] == np.arange(70)).all()

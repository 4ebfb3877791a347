"""A round under secure aggregation through every way in: all turns of its clients, and `verify`."""

from __future__ import annotations

import asyncio

import pytest
import safetensors.numpy

from tests.support.helped import HELPED
from tests.support.masked import INITIAL, MASKED, Drifting, enrolled, require_mean
from tests.support.ways import EACH_KIND

# No phase ends for want of time, however busy the machine is.
UNHURRIED = {"pairs": {"phase_seconds": 3600.0}, "helper": HELPED}


@EACH_KIND
@pytest.mark.parametrize("mode", ["pairs", "helper"])
async def test_a_masked_round(api, mode, helper):
    settings = MASKED | {"rounds": 1, "dataset_size": 42, "keep_updates": 1}
    settings |= {"deadline_seconds": 3600.0} | UNHURRIED[mode]
    if mode == "helper":
        settings["helper_key"] = helper.fingerprint()
    made = await api.create(**settings)
    initial = safetensors.numpy.save(INITIAL)
    await api.admin.upload_initial_model(made.id, initial, made.part_bytes)
    trainer = Drifting()
    clients = await enrolled(api, made.id, made.enrolment_key, trainer, 4)
    turns = [await client.turn() for client in clients]
    while not all(turn.done for turn in turns):
        if not any(turn.trained for turn in turns):  # the coordinator has work, or asks the helper
            await asyncio.sleep(min(0.2, *(turn.seconds for turn in turns)))
        turns = [await client.turn() for client in clients]
    assert {turn.done.state for turn in turns} == {"completed"}
    await require_mean(api, made.id, clients, trainer, range(4))
    round_ = await api.admin.round(made.id, 1)
    assert (round_.attempt, round_.num_examples) == (1, 42)
    assert trainer.trained == 4

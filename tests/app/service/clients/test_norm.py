"""The bound on an update's distance from its base model."""

import math

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from client_sdk.errors import RequestRefused
from tests.support.federation import value_of, weights
from tests.support.participants import Adding, take_part
from tests.support.some import some

DISTANCE = math.sqrt(6)  # of weights(v + 1) from weights(v): six numbers


async def run(federation, *values, **settings):
    """A round in which the cohort uploads these values; gives the experiment and who is in it."""
    experiment, members = await federation.start(
        clients=len(values), clients_per_round=len(values), rounds=2, **settings
    )
    cohort = await federation.cohort(experiment)
    for name, value in zip(cohort, values, strict=True):
        await members[name].upload(1, value)
    return experiment, cohort, members


@pytest.mark.parametrize("part_bytes", [1 << 20, 64], ids=["one span", "many spans"])
async def test_an_update_too_far_away_is_scaled_down(federation, part_bytes):
    federation.limits = Limits(part_bytes=part_bytes)
    federation.app.state.coordinator = federation.coordinator()
    bound = 2 * DISTANCE
    experiment, cohort, _ = await run(federation, 1.0, 100.0, max_update_norm=bound)
    model = await federation.admin.download_model(experiment, 1)
    assert value_of(model) == pytest.approx((1.0 + 2.0) / 2, rel=1e-6)
    shown = {u.client: u for u in (await federation.admin.round(experiment, 1)).updates}
    assert shown[cohort[0]].norm == pytest.approx(DISTANCE)
    assert shown[cohort[0]].scale == 1.0
    assert shown[cohort[1]].norm == pytest.approx(100 * DISTANCE)
    assert shown[cohort[1]].scale == pytest.approx(0.02)


async def test_the_distance_is_from_the_rounds_own_base_model(federation):
    bound = 10 * DISTANCE
    experiment, _, members = await run(federation, 9.0, 9.0, max_update_norm=bound)
    for name in await federation.cohort(experiment):
        await members[name].upload(2, 18.0)
    model = await federation.admin.download_model(experiment, 2)
    assert value_of(model) == 18.0
    made = await federation.admin.round(experiment, 2)
    assert all(u.scale == 1.0 for u in some(made.updates))


async def test_an_update_too_far_away_is_refused_and_the_round_goes_on(federation):
    settings = {"max_update_norm": 2 * DISTANCE, "norm_action": "reject", "quorum": 1}
    with pytest.raises(RequestRefused, match=r"at most 4.899 is allowed") as refused:
        await run(federation, 1.0, 100.0, **settings)
    assert (refused.value.status, refused.value.code) == (422, "norm-exceeded")
    experiment = (await federation.http.get("/v1/experiments")).json()[-1]["id"]
    round_ = await federation.admin.round(experiment, 1)
    assert (round_.state, len(round_.updates), len(round_.refused)) == ("closed", 1, 1)
    assert value_of(await federation.admin.download_model(experiment, 1)) == 1.0


async def test_whole_numbers_have_no_distance_and_huge_ones_no_infinity(federation):
    steps = np.array([7], np.int64)
    experiment, members = await federation.start(
        initial=weights(0, steps=steps, wide=np.zeros(2)),
        clients=2,
        clients_per_round=2,
        rounds=1,
        max_update_norm=DISTANCE,
    )
    cohort = await federation.cohort(experiment)
    await members[cohort[0]].upload_bytes(
        1, weights(2, steps=steps * 1000, wide=np.zeros(2)), examples=10
    )
    with pytest.raises(RequestRefused) as refused:
        await members[cohort[1]].upload_bytes(1, weights(0, steps=steps, wide=np.full(2, 1e200)))
    assert refused.value.code == "norm-exceeded"
    found = safetensors.numpy.load(await federation.admin.download_model(experiment, 1))
    assert found["steps"][0] == 7000
    assert found["w"][0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("encoding", ["weights", "delta-float16", "delta-int8"])
async def test_a_client_that_would_be_refused_shortens_its_update_itself(quick, encoding):
    """`Adding` trains by adding one to each of six numbers."""
    settings = {"max_update_norm": DISTANCE / 2, "norm_action": "reject"}
    shown, events = await take_part(quick, Adding(), update_encoding=encoding, **settings)
    assert not [e for e in events if e.kind == "refused"]
    model = value_of(await quick.admin.download_model(shown.id))
    assert model == pytest.approx(0.5 * shown.config.rounds, abs=0.02)
    first = (await quick.admin.round(shown.id, 1)).updates
    assert all(u.norm == pytest.approx(DISTANCE / 2, rel=0.02) for u in some(first))
    assert all(u.norm <= DISTANCE / 2 for u in first)
    assert all(u.scale == 1.0 for u in first)

"""An accepted update whose file is gone or altered is dropped alone, and the round goes on."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from client_sdk.errors import RequestRefused, StateConflict
from serverless_fl.wire.schema import UpdateCommit
from tests.support.federation import Federation, value_of, weights

PART = 400


def large(value: float) -> bytes:
    """A file of several parts, of which each has a span of the model."""
    return weights(value, big=np.full(300, value, np.float32))


@pytest.fixture
async def federation(store):
    federation = Federation(store.documents, store.blobs)
    federation.limits = Limits(part_bytes=PART, lease_seconds=30)
    async with federation.serving():
        yield federation


async def begun(federation, **changes):
    """All but the last of a cohort have uploaded: 1.0, 2.0, and so on."""
    settings = {"clients": 3, "clients_per_round": 3, "rounds": 1} | changes
    experiment, members = await federation.start(initial=large(0), **settings)
    cohort = [members[name] for name in await federation.cohort(experiment)]
    for n, member in enumerate(cohort[:-1], 1):
        await upload(member, experiment, float(n))
    return experiment, cohort


async def upload(member, experiment, value):
    await member.api.upload_update(experiment, 1, large(value), 5, {}, PART)


async def spoil(federation, experiment, member, part, content):
    """As whoever has a URL can, on a store that does not enforce what was signed."""
    prefix = f"uploads/{experiment}/0000001/{int(member.id[-2:]):07d}/"
    key = sorted(await federation.blobs.sizes(prefix))[part]
    await federation.blobs.delete(key)
    if content is not None:
        await federation.blobs.put(key, content)


def values(data: bytes) -> set[float]:
    return {float(v) for array in safetensors.numpy.load(data).values() for v in array.flat}


@pytest.mark.parametrize("content", [None, b"short", bytes(PART)], ids=["gone", "short", "other"])
@pytest.mark.parametrize("part", [0, -1], ids=["first", "last"])
async def test_a_spoilt_update_is_dropped_and_the_others_are_averaged(federation, content, part):
    """The last part is read when spans of the model are stored that have the update in them."""
    experiment, cohort = await begun(federation)
    await spoil(federation, experiment, cohort[0], part, content)
    await upload(cohort[2], experiment, 3.0)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 1)
    assert values(await federation.admin.download_model(experiment, 1)) == {2.5}
    round_ = await federation.admin.round(experiment, 1)
    assert round_.reported == [cohort[1].id, cohort[2].id]
    assert [(r.client, r.code) for r in round_.refused] == [(cohort[0].id, "update-lost")]
    data = large(1.0)
    digests = [hashlib.sha256(data[n : n + PART]).hexdigest() for n in range(0, len(data), PART)]
    commit = UpdateCommit(sha256=hashlib.sha256(data).hexdigest(), parts=digests, num_examples=5)
    with pytest.raises(StateConflict, match="The store lost the update"):
        await cohort[0].api.connection.post(f"/experiments/{experiment}/rounds/1/update", commit)
    kept = await federation.blobs.sizes(f"models/{experiment}/0000001/")
    assert sum(kept.values()) == len(large(0))  # nothing with the update in it is left


async def test_several_are_dropped_one_by_one_in_groups(federation):
    federation.limits = Limits(part_bytes=PART, group_size=2, step_updates=2)
    federation.app.state.coordinator = federation.coordinator()
    experiment, cohort = await begun(federation, clients=6, clients_per_round=6)
    await spoil(federation, experiment, cohort[0], -1, b"x")
    await spoil(federation, experiment, cohort[4], 0, None)
    # Sums that were kept while the update was whole are no reason to count it, nor not to.
    await upload(cohort[5], experiment, 6.0)
    for _ in range(60):
        await federation.app.state.coordinator.tick()
        federation.clock.now += 31
    shown = await federation.admin.round(experiment, 1)
    assert shown.state == "closed"
    accepted = [
        cohort.index(next(m for m in cohort if m.id == name)) + 1 for name in shown.reported
    ]
    assert values(await federation.admin.download_model(experiment, 1)) == {
        float(np.float32(np.mean(accepted)))
    }
    assert cohort[4].id not in shown.reported


async def test_with_fewer_than_a_round_needs_the_experiment_fails_and_says_why(federation):
    experiment, cohort = await begun(federation, quorum=3)
    await spoil(federation, experiment, cohort[0], 0, None)
    with pytest.raises(StateConflict):
        await upload(cohort[2], experiment, 3.0)
    shown = await federation.admin.experiment(experiment)
    assert shown.state == "failed"
    assert f"The file of {cohort[0].id}'s update is gone" in shown.reason
    assert "2 of the 3 that it needs are left" in shown.reason


async def test_a_base_model_that_is_gone_is_no_update_that_is_lost(federation):
    """To clip updates takes it twice: at the commit, and in the aggregation."""
    experiment, cohort = await begun(federation, max_update_norm=0.5, norm_action="clip")
    base, inner = f"models/{experiment}/0000000/", federation.blobs
    parts = len(await inner.sizes(base))

    class Losing:
        left = parts

        def __getattr__(self, name):
            return getattr(inner, name)

        async def get(self, key):
            self.left -= key.startswith(base)
            return None if key.startswith(base) and self.left < 0 else await inner.get(key)

    coordinator = federation.app.state.coordinator = federation.coordinator(blobs=Losing())
    with pytest.raises(StateConflict):
        await upload(cohort[2], experiment, 3.0)
    shown = await federation.admin.experiment(experiment)
    assert shown.state == "failed" and base in shown.reason
    assert (await coordinator.context.repo.round(experiment, 1)).lost == ()


async def test_an_upload_whose_base_model_is_gone_is_told_so(federation):
    experiment, cohort = await begun(federation, max_update_norm=0.5, norm_action="clip")
    await federation.blobs.delete(f"models/{experiment}/0000000/")
    with pytest.raises(RequestRefused) as caught:
        await upload(cohort[2], experiment, 3.0)
    assert (caught.value.status, caught.value.code) == (503, "store-unavailable")


async def test_an_owner_that_is_late_does_not_mix_the_lists(federation):
    """Parts of the model are of one list of updates: those of another one stand elsewhere."""
    experiment, cohort = await begun(federation)
    await spoil(federation, experiment, cohort[0], -1, None)
    inner = federation.blobs

    class Late:
        """Where the list has become shorter, an owner of before stores a part of the old one."""

        def __getattr__(self, name):
            return getattr(inner, name)

        async def delete(self, prefix):
            await inner.delete(prefix)
            if prefix == f"models/{experiment}/0000001/":
                await inner.put(f"{prefix}00000-{'0' * 64}", b"stale")

    federation.app.state.coordinator = federation.coordinator(blobs=Late())
    await upload(cohort[2], experiment, 3.0)
    assert values(await federation.admin.download_model(experiment, 1)) == {2.5}
    assert value_of(await federation.admin.download_model(experiment, 0)) == 0

"""`verify` finds every lie that the records could tell."""

import asyncio
import json

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from client_sdk.errors import NotAuthorised
from client_sdk.tools.verify import verify
from tests.support.federation import BOTH_STORES, weights


def model(seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    return safetensors.numpy.save(
        {
            "a": draw.normal(size=(50, 3)).astype(np.float32),
            "b": draw.normal(size=70).astype(np.float16),
            "c": draw.integers(-(2**60), 2**60, size=9),
            "d": draw.normal(size=33),
        }
    )


async def finished(federation, **settings):
    """An experiment of two rounds, closed; three updates each."""
    config = {"clients": 4, "clients_per_round": 3, "rounds": 2, "keep_updates": 2} | settings
    experiment, members = await federation.start(initial=model(0), **config)
    for number in (1, 2):
        for n, name in enumerate(await federation.cohort(experiment)):
            await members[name].upload_bytes(number, model(10 * number + n), examples=n + 1)
    return experiment


def faults(findings):
    return [(f.version, f.message) for f in findings if f.good is False]


@pytest.mark.parametrize("settings", [{}, {"max_update_norm": 5.0}], ids=["plain", "clipped"])
@pytest.mark.parametrize("group", [64, 2])
async def test_an_honest_coordinator_is_found_honest(federation, settings, group):
    federation.limits = Limits(part_bytes=256, group_size=group)
    federation.app.state.coordinator = federation.coordinator()
    experiment = await finished(federation, **settings)
    findings = await verify(federation.admin, experiment)
    assert [f.good for f in findings] == [True] * 5  # two for each version but the initial one
    assert [f.message for f in findings][2] == "recomputed of 3 updates"


async def test_rounds_that_are_not_kept_are_said_to_be_so(federation):
    experiment = await finished(federation, keep_updates=1)
    findings = await verify(federation.admin, experiment)
    assert [(f.version, f.good) for f in findings] == [
        (0, True), (1, True), (1, None), (2, True), (2, True),
    ]  # fmt: skip
    assert "keep_updates is 1" in findings[2].message
    assert not faults(await verify(federation.admin, experiment, [1]))  # it is no accusation
    left = [key for key in await federation.blobs.sizes("uploads/") if experiment in key]
    assert {key.split("/")[2] for key in left} == {"0000002"}
    await federation.app.state.coordinator.tick()
    again = [key for key in await federation.blobs.sizes("uploads/") if experiment in key]
    assert again == left  # what is kept is not swept


async def test_an_update_that_must_be_kept_and_is_not_is_a_fault(federation):
    experiment = await finished(federation, keep_updates=1)
    for key in await federation.blobs.sizes("uploads/"):
        await federation.blobs.delete(key)
    for rounds in (None, [2]):
        ((version, message),) = faults(await verify(federation.admin, experiment, rounds))
        assert version == 2
        assert "no update" in message


async def forge(federation, kind, key, change):
    """Alter a stored document, as someone with the database may."""
    found = await federation.documents.get(kind, key)
    body = json.loads(json.dumps(found.body))
    change(body)
    assert await federation.documents.replace(kind, key, found.revision, body)


@pytest.mark.parametrize(
    ("kind", "tail", "change", "says"),
    [
        ("models", "/0000001", {"parent_sha256": "0" * 64}, "parent is not the version before"),
        ("models", "/0000002", {"config_sha256": "0" * 64}, "settings are not those"),
        ("models", "/0000001", {"updates_sha256": "0" * 64}, "updates on record are not those"),
        ("rounds", "/0000002", {"state": "abandoned"}, "its round is abandoned"),
    ],
)
async def test_a_forged_record_is_found(federation, kind, tail, change, says):
    experiment = await finished(federation)
    await forge(federation, kind, f"{experiment}{tail}", lambda body: body.update(change))
    found = faults(await verify(federation.admin, experiment))
    assert any(version == int(tail[1:]) and says in message for version, message in found)


async def test_settings_changed_afterwards_are_found_in_every_version(federation):
    experiment = await finished(federation)
    await forge(
        federation, "experiments", experiment, lambda body: body["config"].update(learning_rate=1.0)
    )
    found = faults(await verify(federation.admin, experiment))
    assert [version for version, _ in found] == [0, 1, 2]


async def test_examples_changed_afterwards_are_found(federation):
    experiment = await finished(federation)
    round_ = await federation.admin.round(experiment, 1)
    slot = int(round_.updates[0].client.split("-")[1])
    key = f"{experiment}/0000001/{slot:07d}"
    await forge(federation, "updates", key, lambda body: body.update(num_examples=9))
    found = faults(await verify(federation.admin, experiment))
    assert {version for version, _ in found} == {1}


async def test_a_model_that_is_not_the_mean_is_told_by_tensor_and_place(federation):
    experiment = await finished(federation)
    honest = await federation.admin.download_model(experiment, 2)
    forged = safetensors.numpy.load(honest)
    forged["a"][7, 1] += 1e-3
    # The same header, other numbers.
    data = honest[:8] + honest[8 : 8 + int.from_bytes(honest[:8], "little")]
    import hashlib

    from serverless_fl.weights import codec, spans
    from serverless_fl.weights.header import layout_of

    layout = layout_of(honest)
    data = layout.header + bytes(codec.pack(spans.whole(layout), forged))
    sha256 = hashlib.sha256(data).hexdigest()
    prefix = f"models/{experiment}/forged"
    await federation.blobs.put(f"{prefix}/00000-{sha256}", data)
    blob = {"prefix": prefix, "sha256": sha256, "parts": [sha256], "sizes": [len(data)]}
    await forge(federation, "models", f"{experiment}/0000002", lambda body: body.update(blob=blob))
    ((version, message),) = faults(await verify(federation.admin, experiment))
    assert version == 2
    assert "tensor 'a' differs in 1 of 150 values, first at 22" in message


async def test_updates_that_are_not_those_on_record_are_found(federation, monkeypatch):
    """The mean of the same two updates is the same, whoever they are said to be of."""
    experiment, members = await federation.start(keep_updates=1, rounds=1)
    cohort = await federation.cohort(experiment)
    for n, name in enumerate(cohort):
        await members[name].upload(1, float(n))
    honest = federation.admin.download_update
    slots = [int(name.split("-")[1]) for name in cohort]

    async def swapped(experiment_id, number, slot, part_bytes):
        return await honest(experiment_id, number, slots[1 - slots.index(slot)], part_bytes)

    assert faults(await verify(federation.admin, experiment)) == []
    monkeypatch.setattr(federation.admin, "download_update", swapped)
    ((version, message),) = faults(await verify(federation.admin, experiment))
    assert version == 1
    assert f"the update of {cohort[0]} has the digest" in message


@pytest.mark.parametrize("what", ["models", "uploads"])
async def test_bytes_that_were_altered_are_a_finding_too(federation, what):
    experiment = await finished(federation)
    key = next(k for k in await federation.blobs.sizes(f"{what}/{experiment}/0000001/"))
    data = await federation.blobs.get(key)
    await federation.blobs.delete(key)
    await federation.blobs.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    found = faults(await verify(federation.admin, experiment))
    # Model 1 is what model 2 was made of.
    assert [version for version, _ in found] == ([1, 2] if what == "models" else [1])
    assert all("do not have the digest" in message for _, message in found)


async def test_a_round_without_updates_is_a_finding(federation):
    experiment = await finished(federation)
    await forge(
        federation, "rounds", f"{experiment}/0000002", lambda body: body.update(accepted=[])
    )
    found = faults(await verify(federation.admin, experiment))
    assert [version for version, _ in found] == [2, 2]
    assert "no updates with examples on record" in found[1][1]


async def test_kept_updates_are_for_the_admin_alone(federation):
    experiment, members = await federation.start(keep_updates=1, rounds=1)
    cohort = await federation.cohort(experiment)
    for name in cohort:
        await members[name].upload(1, 2.0)
    slot = int(cohort[0].split("-")[1])
    assert await federation.admin.download_update(experiment, 1, slot) == weights(2.0)
    assert await federation.admin.download_update(experiment, 1, slot, 7) == weights(2.0)
    with pytest.raises(NotAuthorised):
        await members[cohort[0]].api.download_update(experiment, 1, slot)


@BOTH_STORES
async def test_stopping_drops_the_open_rounds_uploads_and_keeps_the_kept(federation):
    experiment, members = await federation.start(keep_updates=5, rounds=5)
    for name in await federation.cohort(experiment):
        await members[name].upload(1, 2.0)
    cohort = await federation.cohort(experiment)
    await members[cohort[0]].upload(2, 2.0)
    await federation.admin.stop_experiment(experiment)
    left = [key for key in await federation.blobs.sizes("uploads/") if experiment in key]
    assert {key.split("/")[2] for key in left} == {"0000001"}
    assert faults(await asyncio.wait_for(verify(federation.admin, experiment), 60)) == []


@pytest.mark.parametrize(
    ("encoding", "dtype", "value"),
    [
        ("delta-float32", np.float32, 3e38),
        ("delta-float32", np.float16, 6e4),
        ("delta-int8", np.float16, 6e4),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
async def test_deltas_that_lead_beyond_a_types_range_end_at_it(
    federation, encoding, dtype, value, sign
):
    """Each number is finite, and so is each sum as it was agreed: at the type's largest."""
    start = np.full(5, sign * value, dtype)
    experiment, members = await federation.start(
        initial=safetensors.numpy.save({"w": start}),
        **{"clients": 2, "clients_per_round": 2, "rounds": 1},
        **{"keep_updates": 1, "update_encoding": encoding},
    )
    if encoding == "delta-int8":
        tensors = {"w": np.full(5, sign * 127, np.int8)}
        tensors["__scales__"] = np.array([value / 127], np.float32)
    else:
        tensors = {"w": np.full(5, sign * value, np.float32)}
    delta = safetensors.numpy.save(tensors, metadata={"encoding": encoding})
    for member in members.values():
        await member.upload_bytes(1, delta)
    findings = await verify(federation.admin, experiment)
    assert [f.good for f in findings] == [True] * 3
    made = safetensors.numpy.load(await federation.admin.download_model(experiment))["w"]
    assert made.dtype == dtype
    assert (made == sign * np.finfo(dtype).max).all()

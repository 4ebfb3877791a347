"""Rounds of deltas: the same machinery, fewer bytes, and the mean that float32 would have given."""

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from client_sdk.errors import DataError, RequestRefused
from client_sdk.participant import Participant
from client_sdk.task.task import LocalUpdate
from client_sdk.tools.verify import verify
from serverless_fl.weights import encodings
from serverless_fl.weights.deltas import encode_update
from serverless_fl.weights.header import layout_of
from tests.support.federation import value_of, weights
from tests.support.participants import Adding, take_part

ENCODINGS = list(encodings.UPDATE_ENCODINGS)
NEAR = {"delta-float32": 1e-6, "delta-float16": 1e-4, "delta-int8": 5e-3}  # of a delta of 0.4


def model(seed: int, by: float = 1.0) -> bytes:
    """Every kind of tensor; models of different seeds differ by about `by`."""
    draw, moved = np.random.default_rng(0), np.random.default_rng(seed)
    shapes = {"a": (50, 3), "b": (70,), "c": (33,)}
    values = {n: draw.normal(size=s) + by * moved.normal(size=s) for n, s in shapes.items()}
    return safetensors.numpy.save(
        {
            "a": values["a"].astype(np.float32),
            "b": values["b"].astype(np.float16),
            "c": values["c"],
            "d": moved.integers(-(2**60), 2**60, size=9),
        }
    )


def mean(*files: bytes) -> dict[str, np.ndarray]:
    """By the numbers of examples 1, 2, 3."""
    loaded = [safetensors.numpy.load(file) for file in files]
    share = np.arange(1, len(files) + 1) / sum(range(1, len(files) + 1))
    return {
        name: sum(w * f[name].astype(np.float64) for w, f in zip(share, loaded, strict=True))
        for name in ("a", "b", "c")
    }


async def run(federation, encoding, rounds=1, **settings):
    """Rounds of three updates each; gives the experiment and the updates' weights by round."""
    config = {"clients": 4, "clients_per_round": 3, "rounds": rounds, "keep_updates": rounds}
    experiment, members = await federation.start(
        initial=model(0, 0.0), update_encoding=encoding, **config | settings
    )
    trained = []
    for number in range(1, rounds + 1):
        base = await federation.admin.download_model(experiment, number - 1)
        trained.append([model(10 * number + n, 0.1) for n in range(3)])
        for n, name in enumerate(await federation.cohort(experiment)):
            data = encode_update(base, trained[-1][n], encoding, seed=n)
            await members[name].upload_bytes(number, data, examples=n + 1)
    return experiment, trained


def limits(federation, **changes):
    federation.limits = Limits(**changes)
    federation.app.state.coordinator = federation.coordinator()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("changes", [{}, {"part_bytes": 256, "group_size": 2}], ids=str)
async def test_the_model_is_the_mean_of_what_was_trained(federation, encoding, changes):
    limits(federation, **changes)
    experiment, ((*trained,),) = await run(federation, encoding)
    found = safetensors.numpy.load(await federation.admin.download_model(experiment, 1))
    for name, values in mean(*trained).items():
        rounding = 1e-3 if name == "b" else 0.0  # float16 is what the model itself has there
        np.testing.assert_allclose(found[name], values, rtol=0, atol=NEAR[encoding] + rounding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("settings", [{}, {"max_update_norm": 1.0}], ids=["plain", "clipped"])
async def test_verify_recomputes_models_of_deltas_bit_by_bit(federation, encoding, settings):
    limits(federation, part_bytes=256, group_size=2)
    experiment, _ = await run(federation, encoding, rounds=2, **settings)
    findings = await verify(federation.admin, experiment)
    assert [f.good for f in findings] == [True] * 5
    assert findings[2].message == "recomputed of 3 updates"
    scales = [u.scale for u in (await federation.admin.round(experiment, 2)).updates]
    assert all(s < 1 for s in scales) == bool(settings)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_whoever_sums_gives_the_same_bytes(fresh_store, encoding):
    """At one go, and one cell a call by coordinators that take turns."""
    from tests.support.federation import Federation

    found = []
    for step in (1e9, 0.0):
        store = await fresh_store()
        federation = Federation(store.documents, store.blobs)
        federation.limits = Limits(part_bytes=256, group_size=2, step_seconds=step)
        async with federation.serving():
            experiment, _ = await run(federation, encoding)
            for _ in range(100):
                federation.app.state.coordinator = federation.coordinator(worker="another")
                if (await federation.admin.experiment(experiment)).state == "completed":
                    break
            found.append(await federation.admin.download_model(experiment, 1))
    assert found[0] == found[1]


async def test_what_was_sent_is_what_is_told_and_limited(federation):
    sizes = {}
    for encoding in ("weights", *ENCODINGS):
        big = weights(1, big=np.zeros(100_000, np.float32))
        experiment, members = await federation.start(
            initial=big, update_encoding=encoding, rounds=1
        )
        cohort = await federation.cohort(experiment)
        status = await members[cohort[0]].status()
        assert status.update_encoding == encoding
        data = encode_update(big, weights(2, big=np.ones(100_000, np.float32)), encoding, 0)
        assert len(data) <= status.max_update_bytes <= len(data) + 70_000
        with pytest.raises(RequestRefused) as refused:
            await members[cohort[0]].upload_bytes(1, data + bytes(100_000))
        assert refused.value.code == "too-large"
        for name in cohort:
            await members[name].upload_bytes(1, data)
        shown = await federation.admin.experiment(experiment)
        assert shown.config.update_encoding == encoding
        assert shown.history[0].update_bytes == 2 * len(data)
        assert [u.size for u in shown.current_round.updates] == [len(data)] * 2
        closed = [e for e in await federation.admin.audit(experiment) if e.what == "round-closed"]
        assert f"{2 * len(data)} bytes as {encoding}" in closed[0].detail
        sizes[encoding] = len(data)
    assert sizes["delta-int8"] / sizes["delta-float32"] < 0.255


@pytest.mark.parametrize(
    ("expected", "sent"), [("delta-int8", "weights"), ("weights", "delta-float32")]
)
async def test_a_client_that_knows_nothing_of_encodings_is_told_so(federation, expected, sent):
    experiment, members = await federation.start(update_encoding=expected, quorum=1)
    cohort = await federation.cohort(experiment)
    says = f"as {expected}, but this update is {sent}"
    with pytest.raises(RequestRefused, match=says) as refused:
        await members[cohort[0]].upload_bytes(1, encode_update(weights(0), weights(1), sent, 0))
    assert refused.value.code == "encoding-mismatch"
    await members[cohort[1]].upload_bytes(1, encode_update(weights(0), weights(1), expected, 0))
    round_ = await federation.admin.round(experiment, 1)
    assert [r.code for r in round_.refused] == ["encoding-mismatch"]
    assert value_of(await federation.admin.download_model(experiment, 1)) == pytest.approx(1.0)


async def test_a_model_that_cannot_be_encoded_is_refused_at_the_start(federation):
    clash = weights(0, **{encodings.SCALES: np.zeros(1, np.float32)})
    with pytest.raises(RequestRefused, match="__scales__"):
        await federation.create(initial=clash, update_encoding="delta-int8")
    await federation.create(initial=clash, update_encoding="delta-float32")
    with pytest.raises(RequestRefused, match="is in delta-int8, no model"):
        await federation.create(
            initial=encode_update(weights(0), weights(1), "delta-int8", 0), seed=3
        )


async def test_tensors_in_another_order_are_found(federation):
    """As the safetensors library writes them: by dtype, then by name."""
    experiment, members = await federation.start(
        initial=weights(0, a=np.zeros(3, np.float32)), update_encoding="delta-int8", rounds=1
    )
    base = await federation.admin.download_model(experiment, 0)
    trained = weights(3, a=np.full(3, 7, np.float32))
    ours = encode_update(base, trained, "delta-int8", 0)
    theirs = safetensors.numpy.save(
        safetensors.numpy.load(ours), {encodings.KEY: "delta-int8", "who": "else"}
    )
    layouts = [layout_of(data) for data in (ours, theirs)]
    for name, data in zip(await federation.cohort(experiment), (ours, theirs), strict=True):
        await members[name].upload_bytes(1, data)
    found = safetensors.numpy.load(await federation.admin.download_model(experiment, 1))
    np.testing.assert_allclose(found["a"], 7, rtol=1e-6)
    np.testing.assert_allclose(found["w"], 3, rtol=1e-6)
    assert layouts[0].metadata != layouts[1].metadata


async def test_a_span_of_the_model_costs_its_own_bytes_of_a_delta(federation):
    """An upload in parts as the SDK cuts them: no part is read over and over for small spans."""
    part = 64 * 1024
    limits(federation, part_bytes=part)
    big = weights(0, big=np.zeros(200_000, np.float32))
    experiment, members = await federation.start(
        initial=big, update_encoding="delta-int8", rounds=1, clients=1, clients_per_round=1
    )
    trained = weights(1, big=np.linspace(0, 1, 200_000, dtype=np.float32))
    data = encode_update(big, trained, "delta-int8", 0)
    counted = []

    class Counting:
        """The blob store, noting how much of uploads is read."""

        def __getattr__(self, name):
            return getattr(federation.blobs, name)

        async def get(self, key):
            found = await federation.blobs.get(key)
            if key.startswith("uploads/"):
                counted.append(len(found))
            return found

    federation.app.state.coordinator = federation.coordinator(blobs=Counting())
    (member,) = members.values()
    own = encodings.part_bytes(part, len(data), len(big))
    await member.api.upload_update(experiment, 1, data, 10, {}, own)
    assert len(data) // own > 10
    # Once at the commit; then two parts a span at most, and the first one for the scales.
    assert sum(counted) < len(data) * 3 + 2 * own
    found = safetensors.numpy.load(await federation.admin.download_model(experiment, 1))
    np.testing.assert_allclose(found["big"], np.linspace(0, 1, 200_000), atol=1 / 127)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_participants_send_what_the_experiment_says(quick, encoding):
    shown, events = await take_part(quick, Adding(), rounds=3, update_encoding=encoding)
    found = safetensors.numpy.load(await quick.admin.download_model(shown.id))["w"]
    np.testing.assert_allclose(found, 3.0, rtol=1e-6)
    assert sum(e.kind == "uploaded" for e in events) == 6


async def test_weights_that_diverged_are_refused_and_the_round_goes_on(quick):
    trainer = Adding(spoilt=("client-01",))
    shown, events = await take_part(quick, trainer, rounds=4, update_encoding="delta-int8")
    refused = [e for e in events if e.kind == "refused"]
    assert refused
    assert all("NaN or infinity" in e.message for e in refused)
    assert value_of(await quick.admin.download_model(shown.id)) == pytest.approx(4.0)


async def test_what_a_client_cannot_do_is_said_before_it_trains(federation):
    class Other(Adding):
        async def train(self, client_id, indices, data, task):
            await super().train(client_id, indices, data, task)
            return LocalUpdate(safetensors.numpy.save({"v": np.zeros(1)}), 1, {})

    experiment, members = await federation.start(update_encoding="delta-int8")
    cohort = await federation.cohort(experiment)
    status = await members[cohort[0]].status()
    client = Participant(federation.admin, experiment, "k" * 40, trainer := Other())
    client._client = members[cohort[0]].api
    with pytest.raises(DataError, match="delta-int4, which this version does not know"):
        await client._take_part(status.model_copy(update={"update_encoding": "delta-int4"}))
    assert trainer.trained == []
    with pytest.raises(DataError, match=r"Tensor .[vw]. is"):
        await client._take_part(status)


async def test_an_experiment_stored_before_there_were_encodings_goes_on(federation):
    experiment, members = await federation.start(rounds=1)
    found = await federation.documents.get("experiments", experiment)
    body = found.body | {"config": dict(found.body["config"])}
    del body["config"]["update_encoding"]
    assert await federation.documents.replace("experiments", experiment, found.revision, body)
    cohort = await federation.cohort(experiment)
    assert (await members[cohort[0]].status()).update_encoding == "weights"
    for name in cohort:
        await members[name].upload(1, 2.0)
    assert value_of(await federation.admin.download_model(experiment, 1)) == 2.0
    assert [f.good for f in await verify(federation.admin, experiment)][:2] == [True, True]

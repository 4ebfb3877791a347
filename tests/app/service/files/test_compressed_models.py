"""Models that travel down in fewer bits: one copy for all, and updates that start from it."""

import json
import struct

import httpx
import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from client_sdk.errors import DataError, RequestRefused
from client_sdk.participant import Participant
from client_sdk.tools.verify import verify
from serverless_fl.domain.errors import BadWeights
from serverless_fl.weights import encodings
from serverless_fl.weights.deltas import compress_model, decompress_model, encode_update
from serverless_fl.weights.header import layout_of
from tests.support.federation import Federation, weights
from tests.support.participants import Adding, take_part
from tests.support.plain_http import bearer
from tests.support.some import some

COPIES = list(encodings.MODEL_ENCODINGS)
STEP = {"float16": 2**-11, "int8": 0.5 / 127}  # the most that a value is off, of the largest


def tensors(seed: int, by: float = 0.1) -> dict[str, np.ndarray]:
    draw, moved = np.random.default_rng(0), np.random.default_rng(seed)

    def floats(shape, dtype):
        return (draw.normal(size=shape) + by * moved.normal(size=shape)).astype(dtype)

    return {
        "a": floats((50, 3), np.float32),
        "b": floats(70, np.float16),
        "c": floats(33, np.float64),
        "small": np.arange(-5, 5, dtype=np.int8),
        "steps": moved.integers(-(2**60), 2**60, size=9),
        "empty": np.zeros((0, 3), np.float32),
    }


def model(seed: int, by: float = 0.1) -> bytes:
    return safetensors.numpy.save(tensors(seed, by), {"who": "we", "encoding": "none of ours"})


@pytest.mark.parametrize("encoding", COPIES)
def test_a_copy_is_near_the_model_and_says_what_it_is(encoding):
    whole, copy = model(1), compress_model(model(1), encoding)
    layout = layout_of(copy)
    assert encodings.encoding_of(layout) == encoding
    assert layout.metadata["who"] == "we"
    assert safetensors.numpy.load(copy).keys() == {*tensors(1), encodings.SCALES}
    found = safetensors.numpy.load(decompress_model(copy))
    for name, values in some(safetensors.numpy.load(whole).items()):
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape
        if values.dtype.kind != "f":
            np.testing.assert_array_equal(found[name], values)
        elif values.size:
            off = np.abs(found[name].astype(np.float64) - values).max()
            rounding = 2**-10 if values.dtype == np.float16 else 0
            assert off <= np.abs(values).max() * (STEP[encoding] * 1.01 + rounding)
    assert layout_of(decompress_model(copy)).metadata["who"] == "we"
    assert (
        compress_model(decompress_model(copy), encoding)[len(layout.header) :]
        == copy[len(layout.header) :]
    )


@pytest.mark.parametrize("encoding", COPIES)
@pytest.mark.parametrize("value", [0.0, 1e-45, 3e38])
def test_the_copy_of_any_finite_model_is_finite(encoding, value):
    whole = safetensors.numpy.save({"w": np.array([value, -value], np.float32)})
    found = safetensors.numpy.load(decompress_model(compress_model(whole, encoding)))["w"]
    assert np.isfinite(found).all()
    assert found[0] == -found[1]


def lying(change) -> bytes:
    data = compress_model(model(1), "int8")
    length = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[length:]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        model(1),
        encode_update(model(1), model(2), "delta-int8", 0),
        lying(lambda h: h["__metadata__"].update({encodings.TYPES: "{"})),
        lying(lambda h: h["__metadata__"].update({encodings.TYPES: "[1]"})),
        lying(lambda h: h["__metadata__"].update({encodings.TYPES: '{"b": "F3"}'})),
        lying(lambda h: h["__metadata__"].update({encodings.TYPES: '{"a": "I8", "small": "I8"}'})),
        lying(lambda h: h.update({"other": h.pop(encodings.SCALES)})),
    ],
    ids=range(8),
)
def test_what_is_no_copy_is_an_error(data):
    with pytest.raises(BadWeights):
        decompress_model(data)


async def run(federation, download, update, rounds=1, **settings):
    """Rounds of three updates each; gives the experiment and what was trained, by round."""
    config = {"clients": 4, "clients_per_round": 3, "rounds": rounds, "keep_updates": rounds}
    experiment, members = await federation.start(
        initial=model(0, 0.0),
        download_encoding=download,
        update_encoding=update,
        **config | settings,
    )
    trained = []
    for number in range(1, rounds + 1):
        cohort = await federation.cohort(experiment)
        task = await members[cohort[0]].status()
        copy = await federation.admin.download_model(experiment, number - 1, encoded=True)
        assert (task.download_encoding, task.model.size) == (download, len(copy))
        base = decompress_model(copy)
        trained.append([model(10 * number + n) for n in range(3)])
        for n, name in enumerate(cohort):
            data = encode_update(base, trained[-1][n], update, seed=n)
            await members[name].upload_bytes(number, data, examples=n + 1)
    return experiment, trained


@pytest.mark.parametrize("download", COPIES)
@pytest.mark.parametrize("update", ["weights", "delta-float32"])
@pytest.mark.parametrize("changes", [{}, {"part_bytes": 256, "group_size": 2}], ids=str)
async def test_updates_count_from_the_copy_that_they_were_trained_from(
    federation, download, update, changes
):
    """So the model is the mean of what was trained, whatever the copy's rounding was."""
    federation.limits = Limits(**changes)
    federation.app.state.coordinator = federation.coordinator()
    experiment, ((*trained,),) = await run(federation, download, update)
    found = safetensors.numpy.load(await federation.admin.download_model(experiment, 1))
    loaded = [safetensors.numpy.load(data) for data in trained]
    for name in ("a", "c"):
        mean = sum((n + 1) / 6 * w[name].astype(np.float64) for n, w in enumerate(loaded))
        np.testing.assert_allclose(found[name], mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("download", COPIES)
@pytest.mark.parametrize(
    ("update", "settings"),
    [("delta-int8", {}), ("delta-int8", {"max_update_norm": 1.0}), ("weights", {})],
)
async def test_verify_recomputes_what_was_trained_from_copies(
    federation, download, update, settings
):
    federation.limits = Limits(part_bytes=256, group_size=2)
    federation.app.state.coordinator = federation.coordinator()
    experiment, _ = await run(federation, download, update, rounds=2, **settings)
    assert [f.good for f in await verify(federation.admin, experiment)] == [True] * 5


async def test_verify_finds_a_copy_that_is_not_the_models(federation):
    experiment, _ = await run(federation, "int8", "delta-int8")
    key = f"{experiment}/0000000"
    found = await federation.documents.get("models", key)
    body = json.loads(json.dumps(found.body))
    body["copy"]["sha256"] = "0" * 64
    assert await federation.documents.replace("models", key, found.revision, body)
    bad = [f for f in await verify(federation.admin, experiment) if f.good is False]
    assert "the copy of model 0 has the digest" in bad[0].message


@pytest.mark.parametrize("download", COPIES)
async def test_the_copy_is_the_same_file_whoever_makes_it(fresh_store, download):
    for number, changes in enumerate([{}, {"part_bytes": 256, "step_seconds": 0.0}]):
        store = await fresh_store()
        federation = Federation(store.documents, store.blobs)
        federation.limits = Limits(**changes)
        async with federation.serving():
            experiment, _ = await run(federation, download, "weights", seed=number)
            for _ in range(100):
                federation.app.state.coordinator = federation.coordinator(worker="another")
                if (await federation.admin.experiment(experiment)).state == "completed":
                    break
            for shown in some(await federation.admin.models(experiment)):
                whole = await federation.admin.download_model(experiment, shown.version)
                copy = await federation.admin.download_model(
                    experiment, shown.version, 100, encoded=True
                )
                assert copy == compress_model(whole, download)
                assert (shown.encoded.size, shown.size) == (len(copy), len(whole))
                parts = await federation.http.get(
                    f"/v1/experiments/{experiment}/models/{shown.version}/encoded/parts",
                    headers=bearer(federation.admin.connection.key),
                )
                assert sum(part["size"] for part in parts.json()) == len(copy)


async def test_a_copy_is_not_sent_twice_and_not_to_strangers(federation):
    experiment, _ = await run(federation, "int8", "weights", rounds=1)
    path = f"/v1/experiments/{experiment}/models/1/encoded"
    assert (await federation.http.get(path)).status_code == httpx.codes.UNAUTHORIZED
    own = bearer(federation.admin.connection.key)
    first = await federation.http.get(path, headers=own)
    again = await federation.http.get(path, headers=own | {"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    plain, _ = await federation.start(seed=5)
    with pytest.raises(RequestRefused, match="download_encoding is weights"):
        await federation.admin.download_model(plain, 0, encoded=True)


async def test_what_a_stopped_experiment_leaves_is_deleted(federation):
    """A round that was stopped while it was aggregated may have begun its model's copy."""
    experiment, _ = await federation.start(download_encoding="int8")
    await federation.blobs.put(f"copies/{experiment}/0000001/00000-begun", b"x")
    await federation.admin.stop_experiment(experiment)
    left = [key for key in await federation.blobs.sizes("copies/") if experiment in key]
    assert [key.split("/")[2] for key in left] == ["0000000"]


async def test_a_model_of_which_there_can_be_no_copy_is_refused_at_the_start(federation):
    clash = weights(0, **{encodings.SCALES: np.zeros(1, np.float32)})
    with pytest.raises(RequestRefused, match="__scales__"):
        await federation.create(initial=clash, download_encoding="int8")


@pytest.mark.parametrize("download", COPIES)
@pytest.mark.parametrize("update", ["weights", "delta-int8"])
async def test_participants_train_from_the_copy(quick, download, update):
    settings = {"rounds": 3, "download_encoding": download, "update_encoding": update}
    shown, events = await take_part(quick, Adding(), **settings)
    found = safetensors.numpy.load(await quick.admin.download_model(shown.id))["w"]
    np.testing.assert_allclose(found, 3.0, rtol=1e-3)
    assert sum(e.kind == "uploaded" for e in events) == 6


async def test_a_client_that_does_not_know_the_copys_encoding_says_so(federation):
    experiment, members = await federation.start(download_encoding="int8")
    cohort = await federation.cohort(experiment)
    status = await members[cohort[0]].status()
    client = Participant(federation.admin, experiment, "k" * 40, trainer := Adding())
    client._client = members[cohort[0]].api
    with pytest.raises(DataError, match="sends models as int4, which this version does not know"):
        await client._take_part(status.model_copy(update={"download_encoding": "int4"}))
    assert trainer.trained == []

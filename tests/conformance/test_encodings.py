"""int8 both ways, in gzip where the way takes it: every way in gives the same bytes."""

from __future__ import annotations

import numpy as np
import safetensors.numpy

from serverless_fl.weights.deltas import compress_model, decompress_model, encode_update

PACKED_TO = 0.9  # of an update's bytes, at the most


def model(seed: int) -> bytes:
    """Large enough that packing pays; most values are small, as most of what is learned is."""
    draw = np.random.default_rng(seed)
    values = {"w": draw.normal(size=(40, 500)) ** 5, "b": draw.normal(size=7)}
    return safetensors.numpy.save({k: v.astype(np.float32) for k, v in values.items()})


async def test_a_round_in_fewer_bytes_gives_the_same_model_everywhere(api):
    experiment, members = await api.start(
        model(0),
        clients=2,
        clients_per_round=2,
        rounds=1,
        update_encoding="delta-int8",
        download_encoding="int8",
    )
    sent = []
    for seed, member in enumerate(members, 1):
        task = await member.status()
        assert (task.update_encoding, task.download_encoding) == ("delta-int8", "int8")
        copy = await member.api.download_model(experiment, 0, encoded=True)
        assert copy == compress_model(model(0), "int8")
        assert await member.api.download_model(experiment, 0, encoded=True, held=copy) == copy
        data = encode_update(decompress_model(copy), model(seed), "delta-int8", seed)
        before = member.api.traffic.sent
        await member.api.upload_update(
            experiment, 1, data, 10 * seed, {}, task.part_bytes, gzip="gzip" in task.content_codings
        )
        assert member.api.traffic.sent - before < PACKED_TO * len(data) + 500
        sent.append(data)
    assert await api.admin.download_model(experiment, 1) == weighted_mean(
        decompress_model(copy), sent
    )


def weighted_mean(base: bytes, sent: list[bytes]) -> bytes:
    """By the book: base + scale * delta in float64, then the mean by 10 and 20 examples."""
    start, (first, second) = safetensors.numpy.load(base), map(safetensors.numpy.load, sent)
    mean = {}
    for place, name in enumerate(["b", "w"]):  # the order of the model's file
        added = [
            start[name].astype(np.float64) + float(f["__scales__"][place]) * f[name]
            for f in (first, second)
        ]
        mean[name] = ((added[0] * 10 + added[1] * 20) / 30).astype(np.float32)
    return safetensors.numpy.save(mean)

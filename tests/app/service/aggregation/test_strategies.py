"""Whole runs of strategies, however their rounds are cut: `verify` computes each model again."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from app.store.mongo import MongoDocuments
from client_sdk.errors import NotThere, RequestRefused
from client_sdk.tools.verify import verify
from serverless_fl.aggregation.qfedavg import QFedAvg
from serverless_fl.weights.deltas import decompress_model, encode_update
from serverless_fl.wire.schema import BlobInfo
from tests.support.federation import BOTH_STORES, Federation
from tests.support.sample import sample, whole

# The second round is the first whose state and moments come from a round before it.
CLIENTS, ROUNDS = 7, 3 if whole() else 2
FEDADAM = {"name": "fedadam", "server_learning_rate": 0.1}
STRATEGIES = [
    "fedavg",
    "fedavgm",
    "fednova",
    FEDADAM,
    "qfedavg",
    "median",
    "trimmed-mean",
    "krum",
    {"name": "multi-krum", "byzantine": 2},
    "bulyan",
    "geometric-median",
]
PLAIN = ["median", "krum"]  # whose reductions add nothing up
CUTS = {
    "one task": Limits(lease_seconds=30),
    "many spans": Limits(part_bytes=256, lease_seconds=30),
    "groups of three": Limits(part_bytes=256, group_size=3, lease_seconds=30),
    "a task a call": Limits(
        part_bytes=256, group_size=3, step_seconds=0, step_updates=3, lease_seconds=30
    ),
}


def model(*seed: int) -> bytes:
    """Tensors that parts of 256 bytes cut at odd places; one of a single value, one empty."""
    draw = np.random.default_rng(seed)
    return safetensors.numpy.save(
        {
            "a.weight": draw.normal(size=(7, 31)).astype(np.float32),
            "b.none": np.zeros((0, 3), np.float32),
            "c.half": draw.normal(size=97).astype(np.float16),
            "d.steps": draw.integers(-(2**40), 2**40, size=33),
            "e.double": draw.normal(size=41),
            "f.scale": draw.normal(size=1).astype(np.float32),
        }
    )


async def run(federation, strategy, **settings):
    """A whole run; every call is another process. Gives the experiment's id."""
    initial = model(1000)
    given = {"clients": CLIENTS, "clients_per_round": CLIENTS, "quorum": CLIENTS}
    made, key = await federation.create(
        initial,
        **(given | {"rounds": ROUNDS, "keep_updates": ROUNDS, "strategy": strategy} | settings),
        dataset_size=1000,
    )
    members = [await federation.enrol(made, key, n) for n in range(CLIENTS)]
    members.sort(key=lambda member: member.id)
    for number in range(1, ROUNDS + 1):
        start = await federation.admin.download_model(
            made, number - 1, encoded="download_encoding" in settings
        )
        if "download_encoding" in settings:
            start = decompress_model(start)
        for slot, member in enumerate(members):
            federation.app.state.coordinator = federation.coordinator()
            encoding = settings.get("update_encoding", "weights")
            data = encode_update(start, model(number, slot), encoding, seed=0)
            metrics = {"loss_before": 0.5 + slot, "effective_steps": 1.0 + slot}
            await member.upload_bytes(number, data, slot + 1, **metrics)
        for _ in range(500):
            federation.app.state.coordinator = federation.coordinator()
            shown = await federation.admin.experiment(made)
            if shown.model_version == number:
                break
        assert shown.model_version == number, shown.reason
    return made


async def digests(federation, made):
    """The SHA-256 of each version and of its state."""
    return [
        (version.sha256, {name: file.sha256 for name, file in version.state.items()})
        for version in await federation.admin.models(made)
    ]


async def require_verified(federation, made):
    findings = await verify(federation.admin, made)
    assert [f.message for f in findings if f.good is not True] == []
    assert len(findings) == 1 + 2 * ROUNDS


# Each strategy in one cut, and each cut with a strategy of each reduction; `make soak` tries all.
RUNS = [(strategy, cut) for strategy in STRATEGIES for cut in CUTS]
FEW = [
    (strategy, cut)
    for strategy, cut in RUNS
    if cut == "groups of three" or strategy in (FEDADAM, "median", "geometric-median")
]


@pytest.mark.parametrize(("strategy", "cut"), sample(RUNS, FEW), ids=str)
async def test_verify_computes_every_model_again(store, strategy, cut):
    federation = Federation(store.documents, store.blobs, limits=CUTS[cut])
    async with federation.serving():
        made = await run(federation, strategy)
        await require_verified(federation, made)
        left = await store.blobs.sizes("uploads/")
    assert not [key for key in left if "/sums/" in key]


@pytest.mark.parametrize("strategy", [FEDADAM, "median", "geometric-median", "bulyan"], ids=str)
async def test_encodings_and_clipping(store, strategy):
    federation = Federation(store.documents, store.blobs, limits=CUTS["groups of three"])
    settings = {
        "update_encoding": "delta-float16",
        "download_encoding": "float16",
        "max_update_norm": 26.0,
    }
    async with federation.serving():
        made = await run(federation, strategy, **settings)
        await require_verified(federation, made)
        round_ = await federation.admin.round(made, 1)
    assert {update.scale < 1 for update in round_.updates} == {True, False}


# The code of the cuts knows no store.
ON_STORES = [(store, strategy) for store in ("sqlite", "mongo") for strategy in (FEDADAM, *PLAIN)]


@pytest.mark.parametrize(
    ("fresh_store", "strategy"),
    sample(ON_STORES, [*ON_STORES[:3], ("mongo", "median")]),
    indirect=["fresh_store"],
    ids=str,
)
async def test_the_cut_of_a_round_changes_no_bit_where_no_sum_is_bracketed(fresh_store, strategy):
    """Means of groups have brackets of their own; columns and choices have none."""
    cuts = ["one task", "many spans"] if strategy == FEDADAM else list(CUTS)
    if isinstance((await fresh_store()).documents, MongoDocuments):
        cuts = sample(cuts, ["one task", "groups of three"])
    found = []
    for cut in cuts:
        store = await fresh_store()
        federation = Federation(store.documents, store.blobs, limits=CUTS[cut])
        async with federation.serving():
            found.append(await digests(federation, await run(federation, strategy)))
    assert all(other == found[0] for other in found[1:])
    assert len({model for model, _ in found[0]}) == ROUNDS + 1


@BOTH_STORES
async def test_state_is_versioned_with_the_model_and_goes_with_it(store):
    federation = Federation(store.documents, store.blobs, limits=CUTS["many spans"])
    async with federation.serving():
        made = await run(federation, FEDADAM, keep_models=1)
        first, *_, last = await federation.admin.models(made)
        assert first.state == {}
        assert sorted(last.state) == ["first_moment", "second_moment"]
        for name, file in last.state.items():
            data = await federation.admin.download_state(made, ROUNDS, name, 100, file=file)
            assert BlobInfo(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) == file
            values = safetensors.numpy.load(data)
            assert values["a.weight"].shape == (7, 31)
            assert not values["d.steps"].any()
        with pytest.raises(NotThere, match="no state 'third'"):
            await federation.admin.download_state(made, ROUNDS, "third")
        with pytest.raises(NotThere, match="not kept"):
            await federation.admin.download_state(made, 1, "first_moment")
        await federation.admin.delete_experiment(made)
        assert not [key for key in await store.blobs.sizes("models/") if made in key]


async def test_adam_by_hand(store):
    federation = Federation(store.documents, store.blobs)
    async with federation.serving():
        made = await run(federation, FEDADAM)
        x = safetensors.numpy.load(model(1000))["a.weight"].astype(np.float64)
        m, v = np.zeros_like(x), np.full_like(x, 1e-6)
        for number in range(1, ROUNDS + 1):
            means = sum(
                safetensors.numpy.load(model(number, slot))["a.weight"] * float(slot + 1)
                for slot in range(CLIENTS)
            )
            change = means / 28 - x
            m, v = 0.9 * m + 0.1 * change, 0.99 * v + 0.01 * change**2
            x = x + 0.1 * m / (np.sqrt(v) + 1e-3)
            found = safetensors.numpy.load(await federation.admin.download_model(made, number))
            np.testing.assert_allclose(found["a.weight"], x, rtol=1e-5, atol=1e-6)


@BOTH_STORES
async def test_a_changed_state_is_found(store):
    federation = Federation(store.documents, store.blobs)
    async with federation.serving():
        made = await run(federation, FEDADAM)
        key = next(
            k for k in await store.blobs.sizes("models/") if f"{ROUNDS - 1:07d}/state/first" in k
        )
        data = bytearray(await store.blobs.get(key))
        data[-1] ^= 1
        await store.blobs.delete(key)
        await store.blobs.put(key, bytes(data))
        findings = await verify(federation.admin, made)
    assert {f.version for f in findings if not f.good} == {ROUNDS - 1, ROUNDS}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy": "bulyan", "quorum": 6},
            r"Bulyan with byzantine \(1\) needs at least 7 updates",
        ),
        (
            {"strategy": {"name": "krum", "byzantine": 3}},
            r"Krum with byzantine \(3\) needs at least 9 updates",
        ),
        (
            {"strategy": "krum", "clients": 2000, "clients_per_round": 1001, "dataset_size": 2000},
            "at most 1000 clients in a round, not 1001",
        ),
    ],
)
async def test_a_round_that_does_not_suit_the_strategy_is_refused(federation, settings, message):
    with pytest.raises(RequestRefused, match=message):
        await federation.create(**{"clients": 7, "clients_per_round": 7} | settings)


async def test_an_update_without_a_needed_metric_is_refused(federation):
    made, members = await federation.start(strategy="qfedavg", rounds=1)
    member = members[(await federation.cohort(made))[0]]
    with pytest.raises(RequestRefused, match="no metric loss_before") as refused:
        await member.upload(1, 2.0)
    assert refused.value.code == "strategy-refuses"
    await member.upload(1, 2.0, loss_before=1.0)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e300, float("inf"), float("nan")])
async def test_an_update_that_cannot_be_weighed_is_refused(federation, monkeypatch, weight):
    made, members = await federation.start(strategy="qfedavg", rounds=1)
    member = members[(await federation.cohort(made))[0]]
    with monkeypatch.context() as patched:  # a strategy of somebody's own may give any weight
        patched.setattr(QFedAvg, "weight", lambda self, update: weight)
        with pytest.raises(RequestRefused, match="check its metrics") as refused:
            await member.upload(1, 2.0, loss_before=1.0)
    assert refused.value.code == "strategy-refuses"


async def test_the_state_of_a_model_of_16_bits_is_float32(store):
    """A squared change of 0.001 has one digit in float16, and none once it is weighed."""
    federation = Federation(store.documents, store.blobs, limits=CUTS["many spans"])
    halves = {"w": np.zeros(300, np.float16), "n": np.zeros(2, np.int64)}
    sent = halves | {"w": np.full(300, 0.001, np.float16)}
    settings = {"clients": 1, "clients_per_round": 1, "rounds": 2, "keep_updates": 2}
    async with federation.serving():
        made, key = await federation.create(
            safetensors.numpy.save(halves), strategy="fedadam", **settings
        )
        member = await federation.enrol(made, key, 0)
        await member.upload_bytes(1, safetensors.numpy.save(sent))
        await member.upload_bytes(2, safetensors.numpy.save(sent))
        assert all(finding.good for finding in await verify(federation.admin, made))
        data = await federation.admin.download_state(made, 1, "second_moment")
    found = safetensors.numpy.load(data)
    assert (found["w"].dtype, found["n"].dtype) == (np.float32, np.int64)
    change = float(np.float16(0.001))
    np.testing.assert_allclose(found["w"], 0.99 * 1e-6 + 0.01 * change**2, rtol=1e-6)
    header = len(data) - 4 * 300 - 8 * 2
    sizes = await store.blobs.sizes("")
    parts = [size for key, size in sizes.items() if "second_moment" in key]
    assert len(parts) > 2 * 600 // 256
    assert max(parts) <= 256 + header

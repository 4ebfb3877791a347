"""A whole federated round: the mean is exact, to the byte, and everything around it is told."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from client_sdk.errors import RequestRefused, StateConflict
from tests.support.federation import value_of, weights
from tests.support.ways import EACH_KIND


def model(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    shapes = {"w": (17, 33), "b": (5,), "scale": ()}
    values = {k: generator.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    return values | {"counter": generator.integers(0, 1000, (3,))}


def weighted_mean(models: list[dict[str, np.ndarray]], counts: list[int]) -> bytes:
    """By the book, in float64; counters to the nearest whole number."""
    mean = {}
    for name, first in models[0].items():
        total = sum(m[name].astype(np.float64) * n for m, n in zip(models, counts, strict=True))
        value = total / sum(counts)
        mean[name] = np.asarray(np.rint(value) if first.dtype.kind == "i" else value, first.dtype)
    return safetensors.numpy.save(mean)


async def test_a_round_gives_the_exact_weighted_mean(api):
    initial = safetensors.numpy.save(model(0))
    experiment, members = await api.start(
        initial, clients=3, clients_per_round=3, rounds=1, dataset_size=60
    )
    updates, counts = [model(seed) for seed in (1, 2, 3)], [7, 20, 11]
    for place, member in enumerate(members):
        task = await member.status()
        assert (task.action, task.round, task.base_version) == ("train", 1, 0)
        assert task.part_bytes == api.way.part_bytes
        assert task.model.size == len(initial)
        data = safetensors.numpy.save(updates[place])
        receipt = await member.upload_bytes(1, data, counts[place], loss_before=float(place))
        assert (receipt.client_id, receipt.num_examples) == (member.id, counts[place])
        if place == 0:
            assert await member.upload_bytes(1, data, counts[0], loss_before=0.0) == receipt
            with pytest.raises(StateConflict) as other:
                await member.upload_bytes(1, initial, counts[0])
            assert other.value.code == "already-uploaded"
            waiting = await member.status()
            assert (waiting.action, waiting.round) == ("wait", 1)
            assert waiting.retry_after > 0
    done = await members[1].status()
    assert (done.action, done.state, done.model_version) == ("done", "completed", 1)
    assert await api.admin.download_model(experiment) == weighted_mean(updates, counts)
    round_ = await api.admin.round(experiment, 1)
    assert (round_.state, round_.num_examples) == ("closed", 38)
    assert round_.metrics == {"loss_before": pytest.approx((20 + 2 * 11) / 38)}
    versions = await api.admin.models(experiment)
    assert [m.version for m in versions] == [0, 1]
    assert versions[1].parent_sha256 == versions[0].sha256


@EACH_KIND
async def test_rounds_follow_one_another_and_take_nothing_out_of_turn(api):
    experiment, members = await api.start(clients=3, clients_per_round=2, rounds=2)
    for number in (1, 2):
        cohort = (await api.admin.experiment(experiment)).current_round.cohort
        (outside,) = [m for m in members if m.id not in cohort]
        assert (await outside.status()).action == "wait"
        with pytest.raises(StateConflict) as refused:
            await outside.upload(number, 1.0)
        assert refused.value.code == "out-of-turn"
        inside = [m for m in members if m.id in cohort]
        with pytest.raises(StateConflict):
            await inside[0].upload(number + 1, 1.0)
        await inside[0].upload(number, 2.0 * number, examples=10)
        await inside[1].upload(number, 4.0 * number, examples=10)
        assert value_of(await api.admin.download_model(experiment)) == 3.0 * number
    assert (await api.admin.experiment(experiment)).state == "completed"


@EACH_KIND
async def test_a_round_that_asks_more_clients_than_it_needs_closes_without_the_last(api):
    """And its grace is the deadline that clients are told."""
    schedule = {"name": "synchronous", "over_selection": 1, "grace_seconds": 20.0}
    experiment, (first, second, last) = await api.start(
        clients=3,
        clients_per_round=2,
        rounds=1,
        quorum=1,
        schedule=schedule,
        selection="responsive",
    )
    assert (await last.status()).seconds_left > 20
    await first.upload(1, 2.0)
    assert (await last.status()).seconds_left <= 20
    await second.upload(1, 4.0)
    with pytest.raises(StateConflict) as late:
        await last.upload(1, 99.0)
    assert late.value.code == "out-of-turn"
    round_ = await api.admin.round(experiment, 1)
    assert (round_.state, round_.reported, round_.missing) == (
        "closed",
        [first.id, second.id],
        [last.id],
    )
    assert value_of(await api.admin.download_model(experiment)) == 3.0
    assert (await last.status()).action == "done"


@EACH_KIND
async def test_a_buffered_round_takes_an_update_of_an_older_model(api):
    settings = {"clients": 2, "clients_per_round": 1, "rounds": 2, "schedule": "buffered"}
    experiment, (quick, slow) = await api.start(**settings)
    assert (await slow.status()).base_version == 0
    await quick.upload(1, 4.0)
    await slow.upload(1, 2.0)
    made = await api.admin.round(experiment, 2)
    assert [(u.client, u.base_version) for u in made.updates] == [(slow.id, 0)]
    found = value_of(await api.admin.download_model(experiment))
    assert found == pytest.approx(4.0 + 2.0 / np.sqrt(2))


@EACH_KIND
async def test_an_experiment_whose_rounds_are_closed_gets_more(api):
    experiment, members = await api.start(clients=1, clients_per_round=1, rounds=1)
    await members[0].upload(1, 2.0)
    assert (await members[0].status()).action == "done"
    for _ in range(2):
        shown = await api.admin.resume_experiment(experiment, rounds=2)
        assert (shown.state, shown.round, shown.extensions[0].before) == ("running", 2, 1)
    assert (await members[0].status()).action == "train"
    await members[0].upload(2, 3.0)
    assert (await api.admin.experiment(experiment)).state == "completed"
    assert value_of(await api.admin.download_model(experiment)) == 3.0
    with pytest.raises(StateConflict) as fewer:
        await api.admin.resume_experiment(experiment, rounds=1)
    assert fewer.value.code == "rounds-not-raised"


@EACH_KIND
async def test_an_update_of_another_kind_is_refused_by_name_and_the_round_goes_on(api):
    experiment, members = await api.start(clients=2, rounds=1, quorum=1)
    bad = safetensors.numpy.save({"w": np.full((2, 3), np.nan, np.float32)})
    with pytest.raises(RequestRefused) as refused:
        await members[0].upload_bytes(1, bad)
    assert (refused.value.status, refused.value.code) == (422, "non-finite")
    await members[1].upload(1, 5.0)
    round_ = await api.admin.round(experiment, 1)
    assert [(r.client, r.code) for r in round_.refused] == [(members[0].id, "non-finite")]
    assert value_of(await api.admin.download_model(experiment)) == 5.0


@EACH_KIND
async def test_evaluations_are_kept_by_who_measured(api):
    experiment, members = await api.start(clients=2)
    report = {"loss": 0.25, "accuracy": 0.75}
    for _ in range(2):
        await api.admin.report_evaluation(experiment, 0, 9, report)
    await members[0].api.report_evaluation(experiment, 0, 3, {"loss": 1.0})
    with pytest.raises(StateConflict) as other:
        await api.admin.report_evaluation(experiment, 0, 10, report)
    assert other.value.code == "already-evaluated"
    (found,) = await api.admin.models(experiment)
    assert [(e.source, e.num_examples, e.metrics) for e in found.evaluations] == [
        ("central", 9, report),
        (members[0].id, 3, {"loss": 1.0}),
    ]
    assert weights(0) == await members[1].api.download_model(experiment, 0)

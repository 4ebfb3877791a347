"""Rounds from their opening to their close, whoever does not turn up."""

import numpy as np
import pytest

from app.service.coordinator import Limits
from client_sdk.errors import RequestRefused, StateConflict
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.round import RoundState
from serverless_fl.learning_rate import learning_rate_in
from tests.support.federation import BOTH_STORES, config, value_of, weights
from tests.support.plain_http import bearer
from tests.support.some import some


@BOTH_STORES
async def test_two_rounds_of_fedavg_by_hand(federation):
    experiment, members = await federation.start()
    first = await federation.cohort(experiment)
    assert len(first) == 2
    await members[first[0]].upload(1, 1.0, 1)
    await members[first[1]].upload(1, 5.0, 3)
    assert value_of(await federation.admin.download_model(experiment, 1)) == 4.0
    second = await federation.cohort(experiment)
    for client in second:
        await members[client].upload(2, 8.0)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 2)
    assert value_of(await federation.admin.download_model(experiment)) == 8.0
    assert [(r.number, r.state, r.accepted) for r in shown.history] == [
        (1, "closed", 2),
        (2, "closed", 2),
    ]
    done = await members[first[0]].status()
    assert (done.action, done.state, done.model_version) == ("done", "completed", 2)


async def test_a_client_of_the_cohort_trains_and_the_others_wait(federation):
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    for client, member in members.items():
        status = await member.status()
        assert status.action == ("train" if client in cohort else "wait")
        assert status.round == 1
        if client in cohort:
            assert (status.base_version, status.seconds_left) == (0, 60)
            assert status.training.local_epochs == 10
        else:
            assert 0 < status.retry_after < 60
    await members[cohort[0]].upload(1, 1.0)
    assert (await members[cohort[0]].status()).action == "wait"


async def test_nothing_waits_silently(federation):
    experiment, key = await federation.create()
    members = [await federation.enrol(experiment, key, n) for n in range(3)]
    assert (await federation.admin.experiment(experiment)).progress == "3 of 4 clients enrolled."
    assert "3 of 4 clients" in (await members[0].status()).message
    members.append(await federation.enrol(experiment, key, 3))
    cohort = await federation.cohort(experiment)
    await next(m for m in members if m.id == cohort[0]).upload(1, 1.0)
    shown = await federation.admin.experiment(experiment)
    assert shown.current_round.missing == [cohort[1]]
    assert f"1 of 2 updates; waiting for {cohort[1]}, 60 s left" in shown.progress


async def test_at_its_deadline_a_round_closes_with_a_quorum_and_names_the_missing(federation):
    experiment, members = await federation.start(quorum=1)
    cohort = await federation.cohort(experiment)
    await members[cohort[0]].upload(1, 3.0)
    federation.clock.now += 59
    assert (await federation.admin.round(experiment, 1)).state == "collecting"
    federation.clock.now += 1
    await members[cohort[1]].status()  # any poll fires the deadline
    round_ = await federation.admin.round(experiment, 1)
    assert (round_.state, round_.reported, round_.missing) == ("closed", cohort[:1], cohort[1:])
    assert value_of(await federation.admin.download_model(experiment)) == 3.0
    with pytest.raises(StateConflict, match="Round 1 is closed and takes no more updates; round 2"):
        await members[cohort[1]].upload(1, 9.0)


async def test_without_a_quorum_a_fresh_cohort_tries_and_no_update_is_lost(federation):
    experiment, members = await federation.start(quorum=2)
    cohort = await federation.cohort(experiment)
    await members[cohort[0]].upload(1, 2.0)
    federation.clock.now += 60
    round_ = await federation.admin.round(experiment, 1)
    assert (round_.attempt, round_.state) == (2, "collecting")
    assert cohort[0] in round_.cohort
    assert cohort[1] not in round_.cohort
    assert round_.earlier_attempts[0].missing == [cohort[1]]
    (fresh,) = round_.missing
    await members[fresh].upload(1, 4.0)
    assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0


async def test_after_all_attempts_it_fails_with_a_reason_and_keeps_the_last_good_model(federation):
    experiment, members = await federation.start(max_attempts=2)
    for client in await federation.cohort(experiment):
        await members[client].upload(1, 7.0)
    for _ in range(2):
        federation.clock.now += 60
        shown = await federation.admin.experiment(experiment)
    assert shown.state == "failed"
    assert "Round 2 got 0 of the 1 updates that it needs, in 2 attempts. Missing:" in shown.reason
    assert (await federation.admin.round(experiment, 2)).state == "abandoned"
    assert value_of(await federation.admin.download_model(experiment)) == 7.0
    assert (await next(iter(members.values())).status()).action == "done"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (weights(float("nan")), "non-finite"),
        (weights(1, extra=np.zeros(1, np.float32)), "layout-mismatch"),
        (b"noise", "malformed-weights"),
        (weights(1)[:-1], "malformed-weights"),
    ],
)
async def test_a_refused_update_is_named_and_the_round_goes_on(federation, bad, code):
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    with pytest.raises(RequestRefused) as caught:
        await members[cohort[0]].upload_bytes(1, bad)
    assert (caught.value.status, caught.value.code) == (422, code)
    waiting = await members[cohort[0]].status()
    assert waiting.action == "wait"
    assert caught.value.detail in waiting.message
    await members[cohort[1]].upload(1, 6.0)
    round_ = await federation.admin.round(experiment, 1)
    assert round_.state == "closed"  # at once: nobody is left to wait for
    assert [(r.client, r.code) for r in round_.refused] == [(cohort[0], code)]
    assert value_of(await federation.admin.download_model(experiment, 1)) == 6.0


async def test_a_refused_client_may_still_send_a_sound_update(federation):
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    with pytest.raises(RequestRefused):
        await members[cohort[0]].upload(1, float("inf"))
    await members[cohort[0]].upload(1, 2.0)
    await members[cohort[1]].upload(1, 4.0)
    assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0
    assert (await federation.admin.round(experiment, 1)).refused == []


async def test_when_all_are_refused_others_are_asked_at_once(federation):
    experiment, members = await federation.start()
    first = await federation.cohort(experiment)
    for client in first:
        with pytest.raises(RequestRefused):
            await members[client].upload(1, float("nan"))
    second = await federation.cohort(experiment)
    assert not set(first) & set(second)


async def test_a_client_cannot_weigh_more_than_its_shard(federation):
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    with pytest.raises(RequestRefused) as caught:
        await members[cohort[0]].upload(1, 1.0, 11)
    assert caught.value.code == "examples-out-of-range"


async def test_the_first_accepted_update_stands(federation):
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    receipt = await members[cohort[0]].upload(1, 1.0)
    assert await members[cohort[0]].upload(1, 1.0) == receipt
    for other in (members[cohort[0]].upload(1, 2.0), members[cohort[0]].upload(1, 1.0, 9)):
        with pytest.raises(StateConflict) as caught:
            await other
        assert caught.value.code == "already-uploaded"
    await members[cohort[1]].upload(1, 3.0)
    assert value_of(await federation.admin.download_model(experiment, 1)) == 2.0


async def test_a_receipt_can_be_had_again_after_the_round_is_closed(federation):
    # The commit's answer was lost and the round went on: the client must learn that it counted.
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    for client in cohort:
        await members[client].upload(1, 1.0)
    committed = await federation.http.post(
        f"/v1/experiments/{experiment}/rounds/1/update",
        headers=bearer(members[cohort[0]].token),
        json=await _commit_of(federation, experiment, cohort[0]),
    )
    assert committed.status_code == 200


async def test_the_last_upload_has_its_receipt_though_the_aggregation_goes_on_in_later_calls(
    federation,
):
    federation.app.state.coordinator = federation.coordinator(
        limits=Limits(part_bytes=256, step_seconds=0)
    )
    initial = weights(0, big=np.zeros(200, np.float32))
    experiment, key = await federation.create(initial, clients=2, rounds=1)
    members = [await federation.enrol(experiment, key, n) for n in range(2)]
    for member in members:
        await member.upload_bytes(1, initial)
        shown = await federation.admin.round(experiment, 1)
        assert member.id in shown.reported
    assert shown.state == RoundState.AGGREGATING
    while (await members[0].status()).action == "wait":
        pass
    assert (await federation.admin.experiment(experiment)).state == "completed"


async def _commit_of(federation, experiment, client):
    updates = (await federation.admin.round(experiment, 1)).updates
    update = next(u for u in updates if u.client == client)
    return {
        "sha256": update.sha256,
        "parts": [update.sha256],
        "num_examples": update.num_examples,
    }


async def test_out_of_turn_says_what_the_turn_is(federation):
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    outsider = next(m for c, m in members.items() if c not in cohort)
    with pytest.raises(StateConflict, match="not in the cohort of round 1"):
        await outsider.upload(1, 1.0)
    with pytest.raises(StateConflict, match="Round 2 is not open yet; round 1 is"):
        await members[cohort[0]].upload(2, 1.0)


async def test_metrics_are_averaged_by_examples(federation):
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    await members[cohort[0]].upload(1, 1.0, 1, accuracy_before=0.1, loss=1e30)
    await members[cohort[1]].upload(1, 1.0, 3, accuracy_before=0.5, loss=1e30)
    (first, *_) = (await federation.admin.experiment(experiment)).history
    assert first.metrics == {"accuracy_before": pytest.approx(0.4), "loss": pytest.approx(1e30)}
    assert first.num_examples == 4


async def test_the_learning_rate_falls_from_round_to_round_as_the_settings_say(federation):
    settings = {"learning_rate": 0.8, "learning_rate_factor": 0.5, "weight_decay": 0.01}
    experiment, members = await federation.start(rounds=3, **settings)
    for number, rate in ((1, 0.8), (2, 0.4), (3, 0.2)):
        for client in await federation.cohort(experiment):
            training = (await members[client].status()).training
            assert training.learning_rate == pytest.approx(rate)
            assert training.weight_decay == 0.01
            await members[client].upload(number, 1.0)


def test_a_learning_rate_never_becomes_nothing():
    settings = config(rounds=1_000_000, learning_rate_factor=0.5).model_dump()
    assert learning_rate_in(Config.of(settings), 1_000_000) > 0
    assert learning_rate_in(Config.of(settings | {"learning_rate_factor": 1.0}), 500) == 0.05


@BOTH_STORES
async def test_stopping_keeps_the_model_and_drops_the_uploads(federation):
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    await members[cohort[0]].upload(1, 1.0)
    stopped = await federation.admin.stop_experiment(experiment)
    assert (stopped.state, stopped.current_round.state) == ("stopped", RoundState.ABANDONED)
    assert (await federation.admin.stop_experiment(experiment)).ended_at == stopped.ended_at
    with pytest.raises(StateConflict, match="stopped"):
        await members[cohort[1]].upload(1, 1.0)
    assert await federation.blobs.sizes(f"uploads/{experiment}/") == {}
    assert value_of(await federation.admin.download_model(experiment)) == 0.0


@BOTH_STORES
async def test_only_the_models_are_left_of_a_completed_experiment(federation):
    experiment, members = await federation.start()
    for number in (1, 2):
        for client in await federation.cohort(experiment):
            # The base model itself, unchanged: its bytes must survive the cleaning up.
            await members[client].upload(number, 0.0)
    left = [key for key in await federation.blobs.sizes("") if experiment in key]
    assert [key.split("/")[0] for key in left] == ["models"] * 3
    for version in range(3):
        assert value_of(await federation.admin.download_model(experiment, version)) == 0.0


async def test_integer_buffers_keep_their_dtype_through_a_round(federation):
    initial = weights(0, steps=np.array([0], np.int64))
    experiment, key = await federation.create(initial, clients=2, rounds=1)
    members = [await federation.enrol(experiment, key, n) for n in range(2)]
    for member, steps in zip(members, (10, 13), strict=True):
        await member.upload_bytes(1, weights(1, steps=np.array([steps], np.int64)))
    import safetensors.numpy

    result = safetensors.numpy.load(await federation.admin.download_model(experiment))["steps"]
    assert (result.dtype, result.tolist()) == (np.int64, [12])  # 11.5, ties to even


async def test_it_may_start_with_fewer_and_take_latecomers(federation):
    experiment, key = await federation.create(min_clients=2)
    members = [await federation.enrol(experiment, key, n) for n in range(2)]
    assert (await federation.admin.experiment(experiment)).state == "running"
    late = await federation.enrol(experiment, key, 2)
    for member in members:
        await member.upload(1, 1.0)
    assert (await federation.admin.experiment(experiment)).enrolled == 3
    assert (await late.status()).round == 2


async def test_who_seals_a_round_that_takes_long_to_aggregate_is_not_told_it_came_too_late(
    federation, monkeypatch
):
    async def time_is_over(*_):
        return False

    monkeypatch.setattr("app.service.aggregation.finish.aggregate", time_is_over)
    experiment, members = await federation.start()
    for client in some(await federation.cohort(experiment)):
        assert (await members[client].upload(1, 1.0)).client_id == client

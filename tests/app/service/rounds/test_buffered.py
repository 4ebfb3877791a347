"""Buffered rounds: late updates count, from their own base, exactly once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from client_sdk.errors import RequestRefused, StateConflict
from client_sdk.participant import Participant
from client_sdk.tools.verify import verify
from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import Config
from serverless_fl.schedule import schedule_of
from tests.support.federation import BOTH_STORES, Federation, config, value_of, weights
from tests.support.leases import Meanwhile
from tests.support.participants import Adding, take_part

ONE = {"schedule": "buffered", "clients": 3, "clients_per_round": 1, "quorum": 1, "rounds": 6}


@pytest.mark.parametrize(("age", "share"), [(0, 1.0), (1, 0.70710678), (3, 0.5)])
def test_the_share_of_an_update_falls_with_its_staleness(age, share):
    """Fresh updates count in full (NVFlare counts them half)."""
    found = Config(dataset="d", dataset_size=90, model="m", schedule=Choice("buffered"))
    assert schedule_of(found).share(age) == pytest.approx(share)


@BOTH_STORES
async def test_a_late_update_counts_from_its_own_base_and_less(federation):
    experiment, members = await federation.start(**ONE, keep_updates=9)
    first, third, second = members.values()
    for member in members.values():  # all are asked at once
        assert (await member.status()).base_version == 0
    await first.upload(1, 4.0)
    assert value_of(await federation.admin.download_model(experiment, 1)) == 4.0
    receipt = await second.upload(1, 2.0)  # trained from model 0, and comes into round 2
    expected = 4.0 + 2.0 / math.sqrt(2)
    found = value_of(await federation.admin.download_model(experiment, 2))
    assert found == pytest.approx(expected)
    assert await second.upload(1, 2.0) == receipt  # once, however often it is sent
    (update,) = (await federation.admin.round(experiment, 2)).updates
    assert (update.client, update.base_version) == (second.id, 0)
    assert update.scale == pytest.approx(1 / math.sqrt(2))
    await third.upload(1, -3.0)  # two versions old
    found = value_of(await federation.admin.download_model(experiment, 3))
    assert found == pytest.approx(expected - 3.0 / math.sqrt(3))
    findings = await verify(federation.admin, experiment)
    assert all(f.good for f in findings), findings


async def test_an_update_that_is_too_old_is_told_to_train_again(federation):
    schedule = {"name": "buffered", "max_staleness": 1}
    _, members = await federation.start(**{**ONE, "schedule": schedule})
    first, second, _ = members.values()
    await first.upload(1, 1.0)
    await first.upload(2, 2.0)
    with pytest.raises(StateConflict, match="more than 1 versions old"):
        await second.upload(1, 9.0)
    assert (await second.status()).base_version == 2


@BOTH_STORES
async def test_scaffolds_control_counts_in_full_however_late_an_update_is(federation):
    """Its client keeps all of it, and c has to stay the mean of what clients keep."""
    settings = {**ONE, "keep_updates": 9, "strategy": "scaffold", "momentum": 0.0}
    experiment, members = await federation.start(**settings)
    first, second, _ = members.values()

    def sent(value, control):
        return weights(value, **{"__control__.w": np.full((2, 3), control, np.float32)})

    await first.upload_bytes(1, sent(4.0, 2.0))
    await second.upload_bytes(1, sent(2.0, 3.0))  # trained from model 0, and comes into round 2
    found = value_of(await federation.admin.download_model(experiment, 2))
    assert found == pytest.approx(4.0 + 2.0 / math.sqrt(2))
    control = value_of(await federation.admin.download_state(experiment, 2, "control"))
    assert control == pytest.approx((2.0 + 3.0) / 3)
    findings = await verify(federation.admin, experiment)
    assert all(f.good for f in findings), findings


@pytest.mark.parametrize("slot", [1, 2], ids=["in parts", "at once"])
async def test_after_the_last_round_an_update_is_not_asked_for_again(federation, slot):
    """A client would send it for half a minute."""
    _, members = await federation.start(**{**ONE, "rounds": 1})
    first, *others = members.values()
    await first.upload(1, 1.0)
    with pytest.raises(StateConflict, match="is completed") as refused:
        await others[slot - 1].upload(1, 2.0)
    assert refused.value.code == "out-of-turn"


async def test_a_buffer_takes_one_update_of_a_client(federation):
    experiment, members = await federation.start(**{**ONE, "clients_per_round": 2})
    first, second, third = members.values()
    await first.upload(1, 1.0)
    assert (await first.status()).action == "wait"
    await second.upload(1, 1.0)
    await third.upload(1, 5.0)  # into round 2
    assert (await third.status()).action == "wait"
    with pytest.raises(StateConflict, match="it takes one of each client"):
        await third.upload(2, 7.0)
    assert (await federation.admin.round(experiment, 2)).reported == [third.id]
    await first.upload(2, 1.0)
    receipt = await third.upload(2, 7.0)  # its claim moves to the round that is open now
    assert (await federation.admin.round(experiment, 3)).reported == [third.id]
    assert receipt.num_examples == 10


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"keep_models": 5}, r"keep_models \(5\) must be more than max_staleness \(10\)"),
        ({"selection": "by-loss"}, "leave selection out"),
    ],
)
def test_settings_that_do_not_suit(settings, says):
    with pytest.raises(InvalidConfig, match=says):
        config(schedule="buffered", **settings).to_config()


async def test_feddyn_takes_no_share_of_a_change(federation):
    with pytest.raises(RequestRefused, match="counts a share of a change: choose the synchronous"):
        await federation.create(**{**ONE, "strategy": "feddyn"})


async def test_participants_go_on_without_waiting_for_each_other(quick):
    settings = {"clients": 4, "clients_per_round": 2, "rounds": 6, "schedule": "buffered"}
    shown, events = await take_part(quick, Adding(), **settings)
    assert (shown.state, shown.model_version) == ("completed", 6)
    assert not [e for e in events if e.kind == "refused"]
    assert all(r.accepted >= 2 for r in shown.history)


class Struck:
    """A federation whose coordinator lets something happen once, before a write of its choice."""

    def __init__(self, store, wanted, act):
        self.federation = Federation(store.documents, store.blobs)
        self._wanted, self._act, self.armed = wanted, act, False

    async def before(self, kind, *rest):
        if self.armed and kind == self._wanted:
            self.armed = False
            await self._act()

    def serving(self, write):
        documents = Meanwhile(self.federation.documents, write, self.before)
        return self.federation.serving(self.federation.coordinator(documents))


async def counted(federation, experiment, slot_id):
    """The rounds whose lists hold an update of the client."""
    shown = await federation.admin.experiment(experiment)
    return [r.number for r in shown.history if slot_id in r.contributors]


@BOTH_STORES
async def test_an_update_behind_a_frozen_list_counts_in_the_next_round_once_it_is_sent_again(store):
    members = {}

    async def close_the_round():
        await members["client-00"].upload(1, 4.0)

    struck = Struck(store, "updates", close_the_round)
    async with struck.serving("insert"):
        federation = struck.federation
        experiment, found = await federation.start(**ONE)
        members |= found
        struck.armed = True
        with pytest.raises(StateConflict, match="closed before the update arrived") as late:
            await members["client-02"].upload(1, 2.0)
        assert late.value.code == "send-again"
        receipt = await members["client-02"].upload(1, 2.0)
        assert await members["client-02"].upload(1, 2.0) == receipt
        assert await counted(federation, experiment, "client-02") == [2]
        found = value_of(await federation.admin.download_model(experiment, 2))
        assert found == pytest.approx(4.0 + 2.0 / math.sqrt(2))


@BOTH_STORES
@pytest.mark.parametrize("write", ["insert", "replace"])
async def test_two_deliveries_of_one_update_count_once(store, write):
    """The second overtakes the first before its claim is written, or moved."""
    members = {}

    async def deliver_again():
        await members["client-02"].upload(1, 2.0)

    async def close_the_round():
        await members["client-00"].upload(1, 4.0)

    struck = Struck(store, "buffered" if write == "insert" else "updates", deliver_again)
    async with struck.serving(write):
        federation = struck.federation
        experiment, found = await federation.start(**ONE)
        members |= found
        if write == "replace":  # so that there is a claim to move
            behind = Struck(store, "updates", close_the_round)
            behind.armed = True
            documents = Meanwhile(store.documents, "insert", behind.before)
            usual = federation.app.state.coordinator
            federation.app.state.coordinator = federation.coordinator(documents)
            with pytest.raises(StateConflict):
                await members["client-02"].upload(1, 2.0)
            federation.app.state.coordinator = usual
            struck._wanted = "buffered"
        struck.armed = True
        await members["client-02"].upload(1, 2.0)
        assert not struck.armed
        assert await counted(federation, experiment, "client-02") == [1 if write == "insert" else 2]


async def test_a_participant_sends_an_update_again_that_a_round_was_closed_over(quick, monkeypatch):
    monkeypatch.setattr("client_sdk.participant.PAUSE_SECONDS", 0.0)
    struck = []

    class Racing(Adding):
        async def train(self, client_id, indices, data, task):
            update = await super().train(client_id, indices, data, task)
            if not struck:
                struck.append(client_id)

                async def close_over(kind, key, body, **_):
                    if kind == "updates" and len(struck) == 1:
                        struck.append("closed")
                        other = 1 - int(client_id[-1])
                        await clients[other].turn()

                documents = Meanwhile(quick.documents, "insert", close_over)
                quick.app.state.coordinator = quick.coordinator(documents)
            return update

    settings = {**ONE, "clients": 2, "rounds": 2}
    experiment, key = await quick.create(**settings)
    clients = [Participant(quick.admin, experiment, f"{n}" * 40, Racing()) for n in range(2)]
    for client in clients:
        await client.enrol(key)
    turn = await clients[0].turn()
    assert turn.trained
    shown = await quick.admin.experiment(experiment)
    assert [r.contributors for r in shown.history] == [["client-01"], ["client-00"]]

"""A client's life with a trainer that does as it is told."""

import asyncio
import math

import pytest

from client_sdk.errors import NotAuthorised
from client_sdk.participant import Participant
from client_sdk.train import LocalUpdate
from tests.federation import value_of, weights


class Adding:
    """Answers with the base model plus one; `spoilt` clients answer with NaN."""

    def __init__(self, spoilt=()):
        self.spoilt = spoilt
        self.trained = []

    async def train(self, client_id, indices, data, task):
        self.trained.append((client_id, task.round))
        value = math.nan if client_id in self.spoilt else value_of(data) + 1
        metrics = {"loss_before": value, "accuracy_before": 0.5}
        return LocalUpdate(weights(value), len(indices), metrics)


async def take_part(federation, trainer, tell=lambda event: None, **changes):
    """All clients at once, until the experiment is over; gives it and their events."""
    experiment, key = await federation.create(**changes)
    events = []

    def on_event(event):
        events.append(event)
        tell(event)

    clients = [
        Participant(federation.admin, experiment, f"{n}" * 40, trainer, on_event=on_event)
        for n in range(changes.get("clients", 4))
    ]
    for client in clients:
        await client.enrol(key)
    async with asyncio.timeout(30):
        results = await asyncio.gather(*(client.run() for client in clients))
    assert {r.state for r in results} == {"completed"}
    return await federation.admin.experiment(experiment), events


@pytest.fixture
def quick(federation):
    from dataclasses import replace

    federation.limits = replace(federation.limits, poll_min_seconds=0.01)
    federation.app.state.coordinator = federation.coordinator()
    return federation


async def test_each_client_of_a_cohort_trains_once_a_round(quick):
    trainer = Adding()
    shown, events = await take_part(quick, trainer, rounds=3)
    assert len(trainer.trained) == len(set(trainer.trained)) == 6
    assert value_of(await quick.admin.download_model(shown.id)) == 3.0
    uploaded = [(e.client_id, e.round) for e in events if e.kind == "uploaded"]
    assert sorted(uploaded) == sorted(trainer.trained)


async def test_a_refused_client_does_not_try_the_same_again_and_the_rest_go_on(quick):
    trainer = Adding(spoilt=("client-01",))
    shown, events = await take_part(quick, trainer, rounds=4)
    assert len(trainer.trained) == len(set(trainer.trained)) == 8
    refused = [e for e in events if e.kind == "refused"]
    assert refused
    assert all("NaN or infinity" in e.message for e in refused)
    assert {e.client_id for e in refused} == {"client-01"}
    assert value_of(await quick.admin.download_model(shown.id)) == 4.0
    assert [r.metrics["loss_before"] for r in shown.history] == [1, 2, 3, 4]


async def test_one_who_comes_too_late_goes_on_with_the_next_round(quick):
    other_is_in = asyncio.Event()

    class Slow(Adding):
        async def train(self, client_id, indices, data, task):
            if task.round == 1 and client_id == "client-03":
                await other_is_in.wait()
                quick.clock.now += 61  # past the deadline
                await asyncio.sleep(0.2)  # someone polls, and the round closes
            return await super().train(client_id, indices, data, task)

    def tell(event):
        if (event.client_id, event.kind, event.round) == ("client-02", "uploaded", 1):
            other_is_in.set()

    trainer = Slow()
    shown, events = await take_part(quick, trainer, tell, rounds=3, seed=1)
    late = [e for e in events if e.kind == "late"]
    assert [(e.client_id, e.round) for e in late] == [("client-03", 1)]
    assert shown.history[0].accepted == 1
    assert ("client-03", 2) in trainer.trained


async def test_a_restarted_client_is_the_same_client(quick):
    experiment, key = await quick.create()
    one = Participant(quick.admin, experiment, "k" * 40, Adding())
    await one.enrol(key)
    other = Participant(quick.admin, experiment, "k" * 40, Adding())
    await other.enrol(key)
    assert other.id == one.id
    assert (await quick.admin.experiment(experiment)).enrolled == 1


async def test_a_wrong_enrolment_key_is_an_error(quick):
    experiment, _ = await quick.create()
    with pytest.raises(NotAuthorised):
        await Participant(quick.admin, experiment, "k" * 40, Adding()).enrol("wrong")

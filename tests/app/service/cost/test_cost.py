"""What a poll and an upload cost the store, whatever the number of clients and of rounds
(docs/decisions/0015), and that nothing is overlooked for it.
"""

import asyncio
import hashlib
import random
from contextlib import suppress
from dataclasses import replace

import pytest

from app.service.coordinator import Subscriber
from app.service.rounds.progress import blocks, check_after, check_sample
from benchmarks.load.cost import Cost, Meter
from serverless_fl.domain.errors import ExperimentFull
from serverless_fl.domain.experiment import Config, Experiment, ExperimentState
from serverless_fl.domain.records import Blob, Refusal, Update, UpdateCommit, WeightsCommit
from serverless_fl.domain.round import Round
from tests.support.dying import Died
from tests.support.federation import Federation, config, weights
from tests.support.network import open_in_memory

SIZES = {"ten clients": 10, "two hundred clients": 200}


class Crowd:
    """An experiment and its clients, straight over the service; `meter` counts."""

    def __init__(self, federation, meter):
        self.federation, self.meter = federation, meter
        self.service = federation.coordinator()

    @classmethod
    async def of(cls, clients, **changes):
        meter = Meter()
        documents, blobs = await open_in_memory()
        crowd = cls(Federation(meter.wrap(documents), meter.wrap(blobs)), meter)
        settings = config(**{"clients": clients, "clients_per_round": clients // 2} | changes)
        settings.dataset_size = clients * 10
        made, crowd.key = await crowd.service.experiments.create("x", settings.to_config(), "once")
        crowd.id = made.id
        data = weights(0)
        sha = hashlib.sha256(data).hexdigest()
        await crowd.service.experiments.store_initial_part(made.id, 0, sha, data)
        commit = WeightsCommit(sha256=sha, parts=[sha])
        await crowd.service.experiments.commit_initial(made.id, commit)
        crowd.clients = {}
        return crowd

    async def enrol(self, count):
        for _ in range(count):
            await self.subscribe()
        return self

    async def subscribe(self):
        request = Subscriber(client_key=f"{len(self.clients):04d}" * 10)
        got = await self.service.enrolment.subscribe(self.id, self.key, request)
        client = await self.service.enrolment.client_of(self.id, got.token)
        self.clients[client.slot] = client

    async def round(self):
        experiment = await self.service.context.repo.experiment(self.id)
        return await self.service.context.repo.round(self.id, experiment.round)

    async def cost(self, work):
        self.meter.take()
        await work
        return self.meter.take()

    async def poll(self, slot):
        return await self.cost(self.service.turns.status(self.clients[slot]))

    async def upload(self, slot, number, service=None):
        """The cost of the part and of the commit."""
        updates = (service or self.service).updates
        data = weights(slot)
        sha = hashlib.sha256(data).hexdigest()
        client = self.clients[slot]
        sent = await self.cost(updates.store_part(client, number, 0, sha, data))
        commit = UpdateCommit(sha256=sha, parts=[sha], num_examples=1)
        return sent, await self.cost(updates.commit(client, number, commit))

    async def upload_at_once(self, slot, number):
        data = weights(slot)
        sha = hashlib.sha256(data).hexdigest()
        commit = UpdateCommit(sha256=sha, parts=[sha], num_examples=1)
        updates = self.service.updates
        return await self.cost(updates.commit(self.clients[slot], number, commit, data))

    async def finish_round(self):
        round_ = await self.round()
        for slot in round_.cohort:
            await self.upload(slot, round_.number)


async def costs_of_a_round(crowd):
    """What each kind of poll and of upload costs while a round collects."""
    round_ = await crowd.round()
    first, *others, last_but_one, last = round_.cohort
    outsider = next(s for s in crowd.clients if s not in round_.cohort)
    found = {"before": await crowd.poll(first)}
    found["part"], found["first commit"] = await crowd.upload(first, round_.number)
    at_once = await crowd.upload_at_once(others.pop(), round_.number)
    assert at_once.calls <= 11 < found["part"].calls + found["first commit"].calls
    for slot in others:
        await crowd.upload(slot, round_.number)
    found["waiting"] = await crowd.poll(first)  # nearly all updates are in
    found["training"] = await crowd.poll(last)
    found["outside"] = await crowd.poll(outsider)
    found["part late"], _ = await crowd.upload(last_but_one, round_.number)
    assert (await crowd.round()).number == round_.number
    await crowd.upload(last, round_.number)
    assert (await crowd.round()).number == round_.number + 1
    return found


async def test_polls_and_uploads_cost_the_same_with_ten_clients_and_with_two_hundred():
    few, many = [await (await Crowd.of(n)).enrol(n) for n in (10, 200)]
    costs = await costs_of_a_round(few)
    assert await costs_of_a_round(many) == costs
    assert max(cost.calls for cost in costs.values()) <= 12  # one is the turn, asked again
    assert max(cost.rows for cost in costs.values()) <= 11


async def test_polls_and_uploads_cost_the_same_in_round_one_and_in_round_twenty():
    crowd = await (await Crowd.of(10, rounds=21)).enrol(10)
    await crowd.service.context.repo.layout(crowd.id)  # is read once a process
    costs = await costs_of_a_round(crowd)
    for _ in range(18):
        await crowd.finish_round()
    assert (await crowd.round()).number == 20
    assert await costs_of_a_round(crowd) == costs


@pytest.mark.parametrize("order", ["ascending", "random"])
async def test_the_commits_of_a_round_cost_a_few_keys_each_on_average(order):
    averages = {}
    for clients in (20, 200, 1000):
        crowd = await (await Crowd.of(clients)).enrol(clients)
        round_ = await crowd.round()
        slots = list(round_.cohort)
        if order == "random":
            random.Random(clients).shuffle(slots)
        total = Cost()
        for slot in slots[:-1]:  # the last one closes the round
            total += (await crowd.upload(slot, round_.number))[1]
        assert (await crowd.round()).number == 1
        await crowd.upload(slots[-1], round_.number)
        assert (await crowd.round()).number == 2
        averages[clients] = total.rows / (len(slots) - 1)
    # Ten keys a decimal of the number of clients at most; and where a group of the cohort fills,
    # each update of it is read once more, and its weights.
    assert averages[200] <= averages[20] + 10 + 3
    assert averages[1000] <= averages[20] + 20 + 3


async def test_joining_and_asking_cost_the_same_for_the_second_and_for_the_last_but_one():
    crowd = await (await Crowd.of(200)).enrol(1)
    joined, asked = await crowd.cost(crowd.subscribe()), await crowd.poll(0)
    await crowd.enrol(196)
    assert await crowd.cost(crowd.subscribe()) == joined
    assert await crowd.poll(0) == asked
    assert (await crowd.service.turns.status(crowd.clients[0])).message == (
        "199 of 200 clients enrolled."
    )
    await crowd.enrol(1)
    assert await crowd.round() is not None


async def test_a_crowd_that_joins_at_once_does_not_fight_over_each_slot():
    crowd = await Crowd.of(40)
    alone = await crowd.cost(crowd.subscribe())

    async def join(n):
        request = Subscriber(client_key=f"{n:04d}" * 10)
        return await crowd.service.enrolment.subscribe(crowd.id, crowd.key, request)

    crowd.meter.take()
    joined = await asyncio.gather(*(join(n) for n in range(1, 40)))
    assert len({got.client_id for got in joined}) == 39
    assert crowd.meter.take().calls <= 39 * (alone.calls + 2)  # and the first round is opened


@pytest.mark.parametrize("clients", SIZES.values(), ids=SIZES)
async def test_to_be_told_that_an_experiment_is_full_costs_a_few_calls(clients):
    crowd = await (await Crowd.of(clients)).enrol(clients)
    crowd.meter.take()
    with pytest.raises(ExperimentFull):
        await crowd.subscribe()
    assert crowd.meter.take().calls <= 3


# Nothing is overlooked


def test_blocks_grow_until_just_below_the_whole_cohort():
    cohort = (3, 5, 12, 120, 125, 1000, 1001)
    assert list(blocks(cohort, 3)) == [
        ("000000", (3, 5)),
        ("00000", (3, 5, 12)),
        ("0000", (3, 5, 12, 120, 125)),
    ]
    assert list(blocks(cohort, 12)) == [
        ("00000", (3, 5, 12)),
        ("0000", (3, 5, 12, 120, 125)),
    ]
    assert list(blocks((3, 5), 5)) == []
    widest = list(blocks(range(2_000_000), 5))[-1][1]
    assert widest == range(1_000_000)


def of_slot(kind, slot, **more):
    return kind(experiment_id="e", round=1, slot=slot, **more)


@pytest.mark.parametrize("seed", range(30))
async def test_of_calls_that_settle_a_cohort_at_once_one_looks_at_all_of_it(seed):
    """Their writes and looks mix in any order; some are refusals, some slots are revoked."""
    dice = random.Random(seed)
    spread = dice.choice([30, 300, 3000])
    cohort = sorted(dice.sample(range(spread), dice.randint(1, 30)))
    revoked = tuple(s for s in cohort[1:] if dice.random() < 0.1)
    documents, blobs = await open_in_memory()

    class Mixed:
        def __getattr__(self, name):
            async def call(*args, **kwargs):
                for _ in range(dice.randrange(5)):
                    await asyncio.sleep(0)
                return await getattr(documents, name)(*args, **kwargs)

            return call

    context = Federation(Mixed(), blobs).coordinator().context
    settings = Config(dataset="x", dataset_size=spread, model="x", clients=spread)
    experiment = Experiment(
        **{"id": "e", "name": "", "config": settings, "created_at": 0, "enrol_key_hash": ""},
        **{"state": ExperimentState.RUNNING, "round": 1, "revoked": revoked},
    )
    round_ = Round(
        experiment_id="e", number=1, cohort=tuple(cohort), opened_at=0, deadline=context.clock() + 1
    )
    blob = Blob(prefix="", sha256="", parts=(), sizes=())

    async def settle(slot, pause):
        for _ in range(pause):
            await asyncio.sleep(0)
        if dice.random() < 0.2:
            refused = of_slot(Refusal, slot, code="", reason="", refused_at=0)
            await context.repo.add_refusal(refused)
        else:
            more = {"num_examples": 1, "metrics": {}, "received_at": 0}
            await context.repo.add_update(of_slot(Update, slot, blob=blob, offset=0, **more))
        return await check_after(slot)(context, experiment, round_)

    slots = [s for s in cohort if s not in revoked]
    found = await asyncio.gather(*(settle(s, dice.randrange(100)) for s in slots))
    assert any(progress.step_due for progress in found)
    await documents.close()


async def died_before_it_looked(clients):
    """A crowd whose last update is stored, but the process ended before it saw that."""
    crowd = await (await Crowd.of(clients)).enrol(clients)
    cohort = (await crowd.round()).cohort
    for slot in cohort[:-1]:
        await crowd.upload(slot, 1)

    class Dying:
        def __getattr__(self, name):
            return getattr(crowd.federation.documents, name)

        async def insert(self, kind, *args, **kwargs):
            await crowd.federation.documents.insert(kind, *args, **kwargs)
            if kind == "updates":
                raise Died

    with suppress(Died):
        await crowd.upload(cohort[-1], 1, crowd.federation.coordinator(Dying()))
    assert (await crowd.round()).number == 1
    return crowd, cohort


async def test_polls_find_what_a_commit_died_over_before_long():
    crowd, cohort = await died_before_it_looked(40)
    crowd.service = crowd.federation.coordinator(jitter=random.Random(1).random)
    polls = 0
    while (await crowd.round()).number == 1:
        await crowd.poll(cohort[polls % len(cohort)])
        polls += 1
        assert polls < 10 * len(cohort), "nobody ever looks"


@pytest.mark.parametrize("by", ["the commit again", "the tick", "a view", "the deadline"])
async def test_others_find_it_at_once(by):
    crowd, cohort = await died_before_it_looked(10)
    if by == "the commit again":
        await crowd.upload(cohort[-1], 1)
    elif by == "the tick":
        await crowd.service.tick()
    elif by == "a view":
        await crowd.service.views.experiment(crowd.id)
    else:
        crowd.federation.clock.now += 61
        await crowd.poll(cohort[0])
    assert (await crowd.round()).number == 2


async def test_a_poll_looks_at_a_key_of_the_cohort_on_average():
    crowd = await (await Crowd.of(40)).enrol(40)
    experiment = await crowd.service.context.repo.experiment(crowd.id)
    round_ = await crowd.round()
    context = replace(crowd.service.context, jitter=random.Random(1).random)
    looks = [await check_sample(context, experiment, round_) for _ in range(4000)]
    assert 100 < sum(look.step_due for look in looks) < 300  # one in twenty

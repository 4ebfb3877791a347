"""What a run would cost, as the coordinator derives it: by hand, and beside what really came."""

import heapq
import json
import random

import numpy as np
import pytest
import safetensors.numpy

from app.main import create_app
from app.service.cost.usage import Report, Terms, pause, paused_bounds, polls
from client_sdk.simulation.simulate import Watchers
from client_sdk.task.task import LocalUpdate
from serverless_fl.domain.prices import BadPrices, Prices, Usage, dollars, priced
from serverless_fl.domain.round import Attempt, Round
from tests.support.digits import digits_simulation
from tests.support.federation import Federation as AnyFederation
from tests.support.federation import config, weights

TERMS = Terms(
    part_bytes=1000, direct=False, poll_min=0.2, poll_max=15.0, metered_bytes=400, each=0.0
)


def a_round(**changes) -> Round:
    settings = {"number": 1, "cohort": (0, 1), "opened_at": 100.0, "deadline": 700.0}
    return Round(experiment_id="e", **settings | changes)


# By hand


def test_an_amount_by_hand():
    table = json.loads(json.dumps(Prices.load().__dict__))
    table |= {"lambda_per_million_requests": 0.2, "lambda_per_gb_second": 1e-5}
    table |= {"http_api_per_million_requests": 1.0, "data_out_per_gb": 0.1}
    table |= {"memory_mb": 2048, "request_ms": 10, "ms_per_mb": 5}
    usage = Usage(
        requests=1e6,
        http_api_calls=2e6,
        ticks=1e6,
        bytes_in=1e9,
        bytes_out=2e9,
        bytes_direct=3e9,
        aggregation_seconds=50,
    )
    found = priced(usage, Prices(**table))
    assert found.gb_seconds == pytest.approx(2 * (20_000 + 3000 * 0.005 + 50))
    assert found.items == {
        "lambda_requests": pytest.approx(0.4),
        "lambda_gb_seconds": pytest.approx(0.4013),
        "http_api_calls": pytest.approx(2.0),
        "data_out": pytest.approx(0.5),
    }
    assert found.usd == pytest.approx(3.3013)
    assert (dollars(found.usd), dollars(0.00216), dollars(0)) == (
        *("3.30 USD", "0.0022 USD", "0.0000 USD"),
    )


def test_a_file_goes_in_parts_which_the_http_api_meters():
    assert TERMS.download(1000) == Usage(requests=1, http_api_calls=3, bytes_out=1000)
    assert TERMS.download(2500) == Usage(requests=3, http_api_calls=7, bytes_out=2500)
    one, three = TERMS.upload(900), TERMS.upload(2500)
    assert (one.requests, three.requests) == (2, 5)  # part, commit; of several, an announcement
    assert three.bytes_in - one.bytes_in > 2500 - 900
    direct = Terms(**TERMS.__dict__ | {"direct": True})
    assert direct.download(2500).bytes_direct == 2500
    assert direct.download(2500).bytes_out < 1000
    assert direct.upload(2500).requests == 2  # the announcement, which gives the URLs, and commit


def test_an_update_of_one_part_is_one_request_where_it_passes_the_coordinator():
    assert TERMS.upload(TERMS.part_bytes, at_once=True).requests == 1
    assert TERMS.upload(TERMS.part_bytes + 1, at_once=True) == TERMS.upload(TERMS.part_bytes + 1)
    direct = Terms(**TERMS.__dict__ | {"direct": True})
    assert direct.upload(10, at_once=True) == direct.upload(10)


def test_who_was_drawn_downloads_once_an_attempt_and_who_was_not_asks():
    quiet = Terms(**TERMS.__dict__ | {"poll_min": 1e9, "poll_max": 1e9})
    done = [Report(at=110.0, size=500), Report(at=120.0, size=500)]
    found = quiet.round(a_round(), done, 800, 5, 130.0)
    # Twice status, download, upload, and the question after it.
    assert found.requests == pytest.approx(2 * 4)
    again = Attempt(attempt=1, cohort=(0, 2), reported=(0,), refused=(), ended_at=105.0)
    found = quiet.round(a_round(earlier=(again,)), done, 800, 5, 130.0)
    assert found.requests == pytest.approx(3 * 2 + 2 * 2)  # client 2 got as far as the model
    asked = TERMS.round(a_round(), done, 800, 5, 130.0).requests - 2 * 4
    # Three outside for 30 s, and two from their upload on, less half a pause.
    assert asked == pytest.approx(
        3 * TERMS.polling(0, 30) + TERMS.polling(10, 30) + TERMS.polling(20, 30) - 1
    )


def test_the_state_that_clients_need_is_downloaded_with_the_model():
    plain = TERMS.round(a_round(), [], 800, 5, 130.0)
    found = TERMS.round(a_round(), [], 800, 5, 130.0, state_sizes=[1500])
    assert found.bytes_out - plain.bytes_out == pytest.approx(2 * 1500)
    assert found.requests - plain.requests == pytest.approx(2 * TERMS.download(1500).requests)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 4, 20),
        (20 / 3, 500, np.log(75) / 0.03),
        (500, 530, 2),
        (0, 0, 0),
        (510, 505, 0),
        (2, 3, 5),
    ],
)
def test_how_often_one_asks_by_hand(start, end, expected):
    assert polls(start, end, 0.2, 15.0, 0.0) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_how_often_one_asks_as_if_one_did(seed):
    dice = random.Random(seed)
    least, most, each = dice.uniform(0.1, 2), dice.uniform(2, 30), dice.uniform(0, 0.2)
    start = dice.choice([0, dice.uniform(0, 100)])
    end = start + dice.uniform(100, 5000)
    now, asked = start, 0
    while now < end:
        asked += 1
        now += each + pause(now, least, most) * (0.75 + 0.5 * dice.random())
    assert polls(start, end, least, most, each) == pytest.approx(asked, rel=0.08)


def test_of_whom_somebody_else_tells_when_to_ask_it_expects_a_question_a_minute():
    assert TERMS.polling(0, 120, told=1.0) == pytest.approx(2)
    assert TERMS.polling(0, 120, told=0.25) == pytest.approx(0.5 + 0.75 * TERMS.polling(0, 120))


def test_who_waits_for_the_end_of_a_pause_is_back_before_the_deadline():
    for deadline in (0.5, 10, 100, 600, 1e6):
        settings = config(deadline_seconds=deadline)
        least, most = paused_bounds(settings, 0.2, 15.0)
        assert least <= most <= max(deadline / 4, 0.2)
    assert (least, most) == (15, 300)


def test_a_table_that_is_wrong_is_named(tmp_path):
    table = tmp_path / "prices.json"
    good = json.loads(json.dumps(Prices.load().__dict__))
    for change, word in (
        ({"request_ms": -1}, "request_ms"),
        ({"data_out_per_gb": "much"}, "data_out_per_gb"),
        ({"http_api_metered_bytes": 0}, "http_api_metered_bytes"),
        ({"currency": "EUR"}, "budgets"),
        ({"tax": 1}, "tax"),
        ({"memory_mb": True}, "memory_mb"),
    ):
        table.write_text(json.dumps(good | change))
        with pytest.raises(BadPrices, match=word) as caught:
            Prices.load(table)
        assert str(table) in str(caught.value)
    for text in ("", "[]", "{}", "NaN"):
        table.write_text(text)
        with pytest.raises(BadPrices):
            Prices.load(table)
    with pytest.raises(BadPrices):
        Prices.load(tmp_path / "nowhere")
    from app.config import Settings

    with pytest.raises(BadPrices):  # the operator learns it when the server starts
        create_app(Settings(prices=table))


# Beside what really came


class Played:
    """Clients that train for some seconds and ask as they are advised, by a clock that jumps."""

    def __init__(self, federation: AnyFederation, seed: int) -> None:
        self.federation, self.dice = federation, random.Random(seed)
        self.turns: list = []
        self.data = weights(1.0, more=np.zeros(5000, np.float32))

    def at(self, delay, what, *args) -> None:
        now = self.federation.clock.now
        heapq.heappush(self.turns, (now + delay, self.dice.random(), what, args))

    async def run(self, until=lambda: False) -> None:
        while self.turns and not until():
            when, _, what, args = heapq.heappop(self.turns)
            self.federation.clock.now = max(when, self.federation.clock.now)
            await what(*args)

    async def ask(self, member) -> None:
        status = await member.status()
        each = 0.009
        if status.action == "wait":
            self.at(status.retry_after + each, self.ask, member)
        elif status.action == "train":
            await member.api.download_model(member.experiment_id, status.base_version)
            self.at(self.dice.uniform(5, 40), self.upload, member, status.round)

    async def upload(self, member, number) -> None:
        await member.upload_bytes(number, self.data)
        await self.ask(member)

    async def watch(self, experiment) -> None:
        view = await self.federation.admin.experiment(experiment)
        if view.ended_at is None:
            self.at(view.retry_after, self.watch, experiment)

    async def enrol(self, experiment, key, number) -> None:
        member = await self.federation.enrol(experiment, key, number)
        await self.ask(member)


@pytest.mark.parametrize("clients", [3, 8])
async def test_it_is_near_what_was_really_asked_and_moved(federation, clients):
    coordinator = federation.app.state.coordinator
    dice = random.Random(clients)
    federation.app.state.coordinator = federation.coordinator(jitter=dice.random)
    assert coordinator is not federation.app.state.coordinator
    played = Played(federation, clients)
    changes = {"clients": clients, "clients_per_round": clients // 2, "rounds": 3}
    experiment, key = await federation.create(
        played.data, **changes, dataset_size=200, deadline_seconds=3600
    )
    for n in range(clients):  # they come over half a minute
        played.at(30 * n / clients, played.enrol, experiment, key, n)
    played.at(0, played.watch, experiment)
    await played.run()
    traffic = federation.admin.traffic
    requests, sent, received = traffic.requests, traffic.sent, traffic.received
    view = await federation.admin.experiment(experiment)
    assert view.state == "completed"
    assert view.cost.requests == pytest.approx(requests, rel=0.1)
    assert view.cost.bytes_up == pytest.approx(sent, rel=0.1)
    assert view.cost.bytes_down == pytest.approx(received, rel=0.25)  # views are what they are
    assert sum(r.cost_usd for r in view.history) < view.cost.usd == sum(view.cost.items.values())
    federation.clock.now += 86400  # what is over costs no more
    assert (await federation.admin.experiment(experiment)).cost == view.cost


class Adding:
    """Trains at once: every weight grows by one."""

    async def train(self, client_id, indices, data, task):
        grown = {name: w + 1 for name, w in safetensors.numpy.load(data).items()}
        return LocalUpdate(safetensors.numpy.save(grown), len(indices), {})


@pytest.mark.parametrize("rounds", [1, 4])
async def test_of_a_simulation_it_is_what_was_asked_but_for_the_looks(federation, rounds):
    """The clock stands still, so that the estimate has no looks; all else must be there once."""
    looks = []
    simulation = digits_simulation(federation, Adding(), clients=3, rounds=rounds)
    simulation.watchers = Watchers(on_experiment=looks.append)
    await simulation.create()
    outcome = await simulation.run()
    at_the_end = 2  # the simulation reads the experiment and the list of all models
    asked = federation.admin.traffic.requests - len(looks) - at_the_end
    assert outcome.experiment.cost.requests == pytest.approx(asked, abs=1)


async def test_it_grows_while_clients_wait_and_train_and_never_falls(federation):
    experiment, key = await federation.create(rounds=2)
    amounts = []

    async def look():
        amounts.append((await federation.admin.experiment(experiment)).cost.usd)

    await look()
    members = {}
    for n in range(4):
        member = await federation.enrol(experiment, key, n)
        members[member.id] = member
        await look()
        federation.clock.now += 10
        await look()
    for number in (1, 2):
        for client in await federation.cohort(experiment):
            federation.clock.now += 10
            await look()
            await members[client].upload(number, 1.0)
            await look()
    await federation.admin.report_evaluation(experiment, 2, 5, {"loss": 0.5})
    await look()
    assert amounts == sorted(amounts)
    assert len(set(amounts)) > 12


async def test_clients_that_are_told_when_to_ask_cost_less(federation):
    requests = {}
    for told in (False, True):
        experiment, key = await federation.create(rounds=2, seed=int(told))
        for n in range(4):
            secret = f"{told} {n}".replace(" ", "_") * 10
            await federation.admin.using(key).subscribe(experiment, secret, told=told)
        federation.clock.now += 600
        found = await federation.app.state.coordinator.context.repo.experiment(experiment)
        assert found.told == told
        terms = federation.app.state.coordinator.rounds.metering
        round_ = await terms.repo.round(experiment, 1)
        requests[told] = (await terms.of_round(found, round_)).requests
    assert requests[True] < requests[False] / 3


@pytest.mark.parametrize("when", ["enrolling", "collecting", "paused"])
async def test_of_a_stopped_one_it_stands(federation, when):
    experiment, key = await federation.create(rounds=3, budget_usd=1e-9)
    for n in range(0 if when == "enrolling" else 4):
        await federation.enrol(experiment, key, n)
    if when == "paused":
        members = [await federation.enrol(experiment, key, n) for n in range(4)]
        cohort = await federation.cohort(experiment)
        for member in members:
            if member.id in cohort:
                await member.upload(1, 1.0)
    federation.clock.now += 50
    running = (await federation.admin.experiment(experiment)).cost
    stopped = (await federation.admin.stop_experiment(experiment)).cost
    assert running.usd <= stopped.usd < running.usd + 1e-5  # the clients are told
    federation.clock.now += 86400
    assert (await federation.admin.experiment(experiment)).cost == stopped


async def test_an_experiment_of_an_older_version_is_shown_all_the_same(federation):
    """Its records know nothing of what was used."""
    experiment, members = await federation.start(rounds=2)
    for client in await federation.cohort(experiment):
        await members[client].upload(1, 1.0)
    for kind, key in (("experiments", experiment), ("rounds", f"{experiment}/0000001")):
        found = await federation.documents.get(kind, key)
        body = {k: v for k, v in found.body.items() if k not in ("usage", "pauses", "budgets")}
        body.pop("pausing", None)
        if kind == "experiments":
            del body["config"]["budget_usd"]
        assert await federation.documents.replace(kind, key, found.revision, body)
    view = await federation.admin.experiment(experiment)
    assert view.history[0].cost_usd is None
    assert view.cost.usd > 0

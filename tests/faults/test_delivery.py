"""Every request is delivered zero to three times, in any order, to processes that die at writes
and whose clocks disagree: after each step, all that must hold holds.

`make soak` runs the same machine for minutes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections import Counter
from contextlib import suppress

import numpy as np
import safetensors.numpy
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.service.coordinator import Limits, Subscriber, Train
from serverless_fl.domain import draws
from serverless_fl.domain.errors import CoordinatorError, OutOfTurn
from serverless_fl.domain.experiment import MOVES, TERMINAL, ExperimentState
from serverless_fl.domain.records import UpdateCommit, WeightsCommit
from serverless_fl.domain.round import RoundState
from tests.support.federation import config
from tests.support.network import Inline, Network, Risk, open_in_memory

SLOTS, PARTIES, SIZE = 5, 7, 40
SEED = st.integers(0, 2**32)
RISK = st.builds(Risk, st.sampled_from([0.0, 0.0, 0.02]), st.just(0) | st.integers(10, 150))
LIMITS = Limits(part_bytes=256, group_size=2, lease_seconds=20, step_seconds=0)
TALLY: Counter[str] = Counter()  # over all examples, for the soak's table


def values_of(*seed: int) -> np.ndarray:
    """Whole numbers, so that sums are exact in whatever order they are formed."""
    return np.random.default_rng(seed).integers(-(10**6), 10**6, SIZE).astype(np.float64)


def reachable(state: ExperimentState) -> set[ExperimentState]:
    found, new = {state}, {state}
    while new:
        new = {after for before in new for after in MOVES[before]} - found
        found |= new
    return found


class Party:
    """A client as it sees itself: it knows what answers have reached it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.key = f"{number}" * 40
        self.token: str | None = None
        self.slot: int | None = None
        self.round: int | None = None  # that it was told to train for


class Delivery(RuleBasedStateMachine):
    @initialize(seed=SEED, risk=RISK)
    def start(self, seed: int, risk: Risk) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(Inline(1))
        self.parties = [Party(n) for n in range(PARTIES)]
        self.sent: dict[str, tuple[np.ndarray, int]] = {}  # values and slot by SHA-256
        self.receipts: dict[tuple[int, int], tuple[str, int]] = {}  # by round and slot
        self.too_late: set[tuple[int, int, str]] = set()
        self.closed: dict[int, tuple] = {}
        self.state = ExperimentState.AWAITING_MODEL
        self.go(self._create())
        for party in self.parties:
            self.net.send(lambda c, p=party: self._subscribe(c, p), 3)
        self.go(self.net.deliver(1000, seed, risk))

    def go(self, work):
        return self.loop.run_until_complete(work)

    async def _create(self) -> None:
        self.net = Network(*await open_in_memory(), LIMITS)
        service = self.net.process()
        settings_ = config(
            clients=SLOTS, clients_per_round=4, rounds=3, quorum=1, max_attempts=5, seed=7
        )
        made, self.enrol_key = await service.experiments.create(
            "x", settings_.to_config(), "only-once"
        )
        self.id, self.config = made.id, settings_
        data = safetensors.numpy.save({"w": values_of(0)})
        sha = hashlib.sha256(data).hexdigest()
        self.initial = sha
        await service.experiments.store_initial_part(made.id, 0, sha, data)
        commit = WeightsCommit(sha256=sha, parts=[sha])
        await service.experiments.commit_initial(made.id, commit)

    # What clients send

    @rule(seed=SEED, share=st.sampled_from([0.5, 0.9, 1.0]), risk=RISK)
    def everyone_acts(self, seed: int, share: float, risk: Risk) -> None:
        """Each sends what its state asks for, and some of what is on its way arrives."""
        dice = random.Random(seed)
        for party in self.parties:
            if party.token is None:
                self.net.send(lambda c, p=party: self._subscribe(c, p), dice.randrange(4))
            else:
                self.net.send(lambda c, p=party: self._poll(c, p), dice.randrange(4))
            if party.round is not None:
                kind = dice.choice(["good"] * 8 + ["other", "nan"])
                self._upload(party, kind, dice.randrange(4), dice.randrange(4))
        self.go(self.net.deliver(int(share * len(self.net.pending)), seed, risk))

    @rule(count=st.integers(1, 30), seed=SEED, risk=RISK)
    def deliver(self, count: int, seed: int, risk: Risk) -> None:
        self.go(self.net.deliver(count, seed, risk))

    async def _subscribe(self, service, party: Party) -> None:
        request = Subscriber(client_key=party.key)
        with suppress(CoordinatorError):
            got = await service.enrolment.subscribe(self.id, self.enrol_key, request)
            assert party.token in (None, got.token), "a client has two slots"
            party.token, party.slot = got.token, int(got.client_id.removeprefix("client-"))

    async def _poll(self, service, party: Party) -> None:
        if party.token is None:
            return
        client = await service.enrolment.client_of(self.id, party.token)
        status = await service.turns.status(client)
        party.round = status.round.number if isinstance(status, Train) else None

    def _upload(self, party: Party, kind: str, parts: int, commits: int) -> None:
        number = party.round
        values = values_of(number, party.number, kind == "other")
        if kind == "nan":
            values[3] = np.nan
        data = safetensors.numpy.save({"w": values})
        sha = hashlib.sha256(data).hexdigest()
        self.sent[sha] = (values, party.slot)
        self.net.send(lambda c: self._part(c, party, number, sha, data), parts)
        self.net.send(lambda c: self._commit(c, party, number, sha), commits)

    async def _part(self, service, party: Party, number: int, sha: str, data: bytes) -> None:
        client = await service.enrolment.client_of(self.id, party.token)
        with suppress(CoordinatorError):
            await service.updates.store_part(client, number, 0, sha, data)

    async def _commit(self, service, party: Party, number: int, sha: str) -> None:
        client = await service.enrolment.client_of(self.id, party.token)
        examples = 1 + party.number
        commit = UpdateCommit(sha256=sha, parts=[sha], num_examples=examples)
        try:
            await service.updates.commit(client, number, commit)
        except OutOfTurn as error:
            if "closed before the update arrived" in error.message:
                self.too_late.add((number, party.slot, sha))
        except CoordinatorError:
            pass
        else:
            standing = self.receipts.setdefault((number, party.slot), (sha, examples))
            assert standing == (sha, examples), "two updates of one client were accepted"

    # What happens to them

    @rule(seconds=st.sampled_from([1, 1, 21]))
    def time_passes(self, seconds: int) -> None:
        self.net.clock.now += seconds

    @rule(chance=st.integers(0, 100))
    def stop(self, chance: int) -> None:
        if chance == 77:
            self.net.send(self._stop, 2)

    async def _stop(self, service) -> None:
        await service.experiments.stop(self.id, "Enough.")

    # What must hold

    @invariant()
    def all_holds(self) -> None:
        if hasattr(self, "net"):
            self.go(self._check())

    async def _check(self) -> None:
        repo = self.net.process().context.repo
        experiment = await repo.experiment(self.id)
        assert experiment.state in reachable(self.state)
        self.state = experiment.state
        clients = await repo.clients(self.id, "", 100)
        assert len({c.token_hash for c in clients}) == len(clients)
        shards = [draws.shard(7, 40, SLOTS, c.slot) for c in clients]
        assert len({i for shard in shards for i in shard}) == sum(map(len, shards))
        rounds = await repo.rounds(self.id)
        assert [r.number for r in rounds] == list(range(1, len(rounds) + 1))
        for round_ in rounds:
            await self._check_round(repo, round_)
        blobs = await self.net.blobs.sizes("")
        models = {m.version: m for m in await repo.models(self.id)}
        newest = experiment.model_version
        for version in range(newest + 1):
            model = models[version]
            parent = models[version - 1].blob.sha256 if version else None
            assert model.parent_sha256 == parent, "the chain of models is broken"
            data = b"".join(
                [
                    await self.net.blobs.get(k)
                    for k in map(model.blob.key, range(len(model.blob.parts)))
                ]
            )
            assert hashlib.sha256(data).hexdigest() == model.blob.sha256
        assert models[0].blob.sha256 == self.initial
        if experiment.state not in TERMINAL and experiment.round:
            current = rounds[-1] if len(rounds) == experiment.round else None
            if current and current.state is not RoundState.CLOSED:
                for update in await repo.updates(current):
                    assert update.blob.key(0) in blobs, "an accepted update lost its bytes"

    async def _check_round(self, repo, round_) -> None:
        number = round_.number
        if round_.state is not RoundState.CLOSED:
            assert number not in self.closed, "a closed round is open again"
            return
        assert self.net.closes[f"{self.id}/{number:07d}"] == 1, "a round was closed twice"
        updates = {u.slot: u for u in await repo.updates(round_)}
        total, examples = np.zeros(SIZE), 0
        for slot in round_.accepted:
            values, owner = self.sent[updates[slot].blob.sha256]
            assert owner == slot
            total += values * updates[slot].num_examples
            examples += updates[slot].num_examples
        mean = safetensors.numpy.save({"w": total / examples})
        model = await repo.model(self.id, number)
        found = (round_.accepted, model.blob.sha256, round_.num_examples)
        assert found == (round_.accepted, hashlib.sha256(mean).hexdigest(), examples)
        assert self.closed.setdefault(number, found) == found, "a closed round has changed"
        assert round_.attempt > 1 or set(round_.accepted) <= set(round_.cohort)
        for (of, slot), (sha, _) in self.receipts.items():
            if of == number:
                assert slot in round_.accepted, "an update with a receipt was not averaged"
                assert updates[slot].blob.sha256 == sha
        for of, slot, sha in self.too_late:
            if of == number and slot in round_.accepted:
                assert updates[slot].blob.sha256 != sha, "a refused update was averaged"

    def teardown(self) -> None:
        """Whatever has happened: once clients and network behave, it comes to its end."""
        if hasattr(self, "net"):
            self.go(self._finish())
            self.loop.close()

    async def _finish(self) -> None:
        self.net.pending.clear()
        service = self.net.process()
        self.net.clock.now += 1000
        for _ in range(200):
            for party in self.parties:
                await self._subscribe(service, party)
                await self._poll(service, party)
                if party.round is not None:
                    values = values_of(party.round, party.number, 2)
                    data = safetensors.numpy.save({"w": values})
                    sha = hashlib.sha256(data).hexdigest()
                    self.sent[sha] = (values, party.slot)
                    await self._part(service, party, party.round, sha, data)
                    await self._commit(service, party, party.round, sha)
            await self._check()
            self.net.clock.now += 15
            if self.state in TERMINAL:
                break
        assert self.state in TERMINAL, "it never ends"
        await service.rounds.advance(self.id)
        await service.tick()
        assert await self.net.blobs.sizes("uploads/") == {}
        await self.net.documents.close()
        TALLY.update(examples=1, rounds=len(self.closed), receipts=len(self.receipts))
        TALLY.update(requests=self.net.delivered, deaths=self.net.deaths)


class TestDelivery(Delivery.TestCase):
    @classmethod
    def tearDownClass(cls) -> None:
        print("figure:", ", ".join(f"{count} {what}" for what, count in TALLY.items()))


TestDelivery.settings = settings(
    max_examples=int(os.environ.get("DELIVERY_EXAMPLES", "6")),
    stateful_step_count=60,
    deadline=None,
    derandomize="DELIVERY_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes, and the steps tell enough
)

"""A whole experiment under secure aggregation, over coordinators that die at their writes.

Keys are drawn anew in each run, so masked updates have other bytes. The models have the same ones.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace

import numpy as np

from app.service.coordinator import Declaration, Done, Phase, Subscriber, Train
from app.store.sqlite import SQLiteDocuments
from serverless_fl.domain.errors import OutOfTurn
from serverless_fl.domain.records import (
    PhaseAnswer,
    PhaseBoxes,
    PhaseConfirmation,
    PhaseKeys,
    UpdateCommit,
    WeightsCommit,
)
from serverless_fl.domain.round import RoundState
from serverless_fl.privacy.secure import party
from serverless_fl.privacy.secure.fixed_point import FixedPoint, encode_counts
from serverless_fl.privacy.secure.identity import Identity
from serverless_fl.privacy.secure.party import Party
from serverless_fl.privacy.secure.unmasking import counts_to_text
from serverless_fl.weights import codec, encodings, spans
from serverless_fl.weights.header import layout_of
from tests.support import sample
from tests.support.crashes import noise
from tests.support.dying import Died, DyingStore, Fuse
from tests.support.federation import Federation, config

SIZE = 40
MOVING = 6  # writes from an aggregation that fails to the first of the next attempt, and more


class Client:
    """A client of the coordinator's own calls; a call is repeated until it is answered."""

    def __init__(self, run, record, lies=0):
        self.run, self.record, self.notes, self.sent = run, record, None, {}
        self.identity = Identity.new() if run.identities else None
        self.lies = lies  # the last attempt at a round in which it hands in wrong shares

    async def take_turn(self, silent):
        """Do what there is to do; gives the turn. `silent` is the state in which it is silent."""
        turn = await self.run.call(lambda c: c.turns.status(self.record))
        if isinstance(turn, Phase) and turn.round.state != silent:
            await self._phase(turn.round)
        elif isinstance(turn, Train) and silent != "collecting":
            await self._train(turn.round)
        return turn

    async def _read(self, round_):
        return await self.run.call(
            lambda c: c.maskings.read(round_.experiment_id, round_.number, self.record)
        )

    async def _party(self, round_):
        found = await self._read(round_)
        return found, Party(self.record.slot, self.notes, found.context)

    async def _phase(self, round_):
        number, attempt = round_.number, round_.attempt
        slot = self.record.slot
        self.notes = party.begin(round_.experiment_id, number, attempt, self.notes)
        if round_.state is RoundState.ADVERTISING:
            own = party.advertised(self.notes, slot)
            keys = PhaseKeys(slot=slot, box_key=own.box_key.hex(), mask_key=own.mask_key.hex())
            if self.identity is not None:
                found = await self._read(round_)
                proof = self.identity.sign(found.context, own)
                keys = replace(keys, identity=proof.identity.hex(), signature=proof.signature.hex())
            await self.run.late(lambda c: c.maskings.add_keys(self.record, number, attempt, keys))
            return
        found, one = await self._party(round_)
        if round_.state is RoundState.SHARING:
            self.notes = one.share()
            boxes = PhaseBoxes(slot=slot, boxes=self.notes.boxes)
            await self.run.late(lambda c: c.maskings.add_boxes(self.record, number, attempt, boxes))
            return
        summed = found.round.accepted
        self.notes = one.settle_summed(found.sharers, summed)
        if round_.state is RoundState.CONFIRMING:
            sent = PhaseConfirmation(
                slot=slot, signature=self.identity.confirm(found.context, summed).hex()
            )
            await self.run.late(
                lambda c: c.maskings.add_confirmation(self.record, number, attempt, sent)
            )
            return
        boxes = {sender: bytes.fromhex(box) for sender, box in found.boxes.items()}
        shares = one.answer(boxes, found.sharers, summed)
        answer = PhaseAnswer(
            slot=slot,
            seeds={
                s: "1" * 132 if attempt <= self.lies else share.hex()
                for s, share in shares.seeds.items()
            },
            keys={s: share.hex() for s, share in shares.keys.items()},
        )
        await self.run.late(lambda c: c.maskings.add_answer(self.record, number, attempt, answer))

    async def _train(self, round_):
        slot, number = self.record.slot, round_.number
        found, one = await self._party(round_)
        self.notes = one.settle_sharers(found.sharers)
        terms, draw = one.context.terms, np.random.default_rng([number, slot])
        words = FixedPoint.of(terms).encode(draw.uniform(-1, 1, SIZE), 5 + slot, draw)
        counts = encode_counts(terms.metrics, 5 + slot, {"loss_before": float(slot)})
        one.mask(words, counts, found.sharers)
        await self._send(round_, words, counts)

    async def _send(self, round_, words, counts, seal=""):
        """Send a masked update and its counts; `seal` is that of an update for a helper."""
        form = encodings.encoded_layout(layout_of(noise(0, size=SIZE)), "masked-uint32")
        data = form.header + bytes(codec.pack(spans.whole(form), {"w": words}))
        sha = hashlib.sha256(data).hexdigest()
        commit = UpdateCommit(
            sha256=sha,
            parts=[sha],
            num_examples=1,
            attempt=round_.attempt,
            counts=counts_to_text(counts),
            seal=seal,
        )
        await self.run.late(lambda c: c.updates.commit(self.record, round_.number, commit, data))


class Run:
    """Coordinators over one store; another takes over where one dies."""

    identities = False
    client, settings = Client, {"secure_aggregation": "pairs", "phase_seconds": 10**6}

    def __init__(self, federation, coordinators):
        self.federation, self.coordinators = federation, coordinators

    def another(self):
        return self.federation.coordinator()

    async def call(self, work):
        while True:
            try:
                return await work(self.coordinators[-1])
            except Died:
                self.coordinators.append(self.another())
                self.federation.clock.now += self.federation.limits.lease_seconds

    async def late(self, work):
        """A call that a client repeats; the coordinator that died may have gone on already, and
        then the client hears so.
        """
        with suppress(OutOfTurn):
            await self.call(work)

    async def whole(self, silent, lies=None, loses=None, rounds=2):
        """`silent` gives the state in which slots are lost, `lies` the last attempt in which slots
        hand in wrong shares, `loses` a slot whose file is lost in the first attempt.
        """
        settings = config(
            clients_per_round=4,
            rounds=rounds,
            deadline_seconds=10**6,
            keep_updates=1,
            **self.settings,
        )
        made, key = await self.call(
            lambda c: c.experiments.create("x", settings.to_config(), "o" * 32)
        )
        initial = noise(0, size=SIZE)
        sha = hashlib.sha256(initial).hexdigest()

        async def settle(c):
            if (await c.context.repo.experiment(made.id)).state == "awaiting_model":
                await c.experiments.store_initial_part(made.id, 0, sha, initial)
            await c.experiments.commit_initial(made.id, WeightsCommit(sha256=sha, parts=[sha]))

        await self.call(settle)
        clients = []
        for n in range(4):
            asked = Subscriber(client_key=f"{n}" * 40, declared=Declaration())
            got = await self.call(lambda c, a=asked: c.enrolment.subscribe(made.id, key, a))
            record = await self.call(lambda c, t=got.token: c.enrolment.client_of(made.id, t))
            clients.append(self.client(self, record, (lies or {}).get(n, 0)))
        idle = 0
        for turn in range(2000):
            client = clients[turn % 4]
            if loses is not None:
                await self.lose(made.id, loses)
            found = await client.take_turn(silent.get(client.record.slot))
            if isinstance(found, Done):
                break
            acts = isinstance(found, Phase | Train) and client.record.slot not in silent
            idle = 0 if acts else idle + 1
            if idle > 8:
                self.federation.clock.now += 2 * 10**6
                idle = 0
        return await self.left(made.id)

    async def lose(self, experiment_id, slot):
        """Delete the file of a client's update while the first attempt is unmasked."""
        repo = self.coordinators[-1].context.repo
        round_ = await repo.round(experiment_id, 1)
        if round_ is not None and (round_.attempt, round_.state) == (1, RoundState.UNMASKING):
            for update in await repo.accepted_updates(round_):
                if update.slot == slot:
                    await self.federation.blobs.delete(update.blob.prefix)

    async def left(self, experiment_id):
        repo = self.coordinators[-1].context.repo
        experiment = await repo.experiment(experiment_id)
        return (
            experiment.state,
            [
                (r.number, r.attempt, r.state, r.cohort, r.accepted, r.num_examples, r.metrics)
                for r in await repo.rounds(experiment_id)
            ],
            [(m.version, m.blob.sha256) for m in await repo.models(experiment_id)],
            [len(await repo.phase_boxes(r)) for r in await repo.rounds(experiment_id)],
            len([k for k in await self.federation.blobs.sizes("") if experiment_id in k]),
        )


class IdentifiedRun(Run):
    """All clients have identities, so they sign who is in a sum before they open it."""

    identities = True


async def masked_deaths_that_change_nothing(
    store, fresh_store, limits, *, after, every, sqlite, silent=(), run=Run
):
    """As `crashes.deaths_that_change_nothing`; `silent` gives the state in which slots are lost."""
    quiet = Federation(store.documents, store.blobs, limits=limits)
    expected = await run(quiet, [quiet.coordinator()]).whole(dict(silent))
    assert expected[0] == "completed"
    on_sqlite = 1 if sample.whole() else sqlite
    step = on_sqlite if isinstance(store.documents, SQLiteDocuments) else every
    for n in range(step, 500, step):
        other = await fresh_store()
        federation = Federation(other.documents, other.blobs, limits=limits)
        fuse = Fuse(n, after)
        dying = federation.coordinator(
            DyingStore(other.documents, fuse), DyingStore(other.blobs, fuse)
        )
        coordinators = [dying]
        assert await run(federation, coordinators).whole(dict(silent)) == expected, f"write {n}"
        if len(coordinators) == 1:
            return n - 1
    raise AssertionError("the writes have no end")


async def deaths_in_a_move_that_change_nothing(store, fresh_store, limits, *, after, **faults):
    """Die at each write from the start of the first aggregation to the next attempt's keys.

    `make test` tries every second one: see `crashes.every_write`.
    """
    quiet = Federation(store.documents, store.blobs, limits=limits)
    expected = await Run(quiet, [quiet.coordinator()]).whole({}, rounds=1, **faults)
    assert expected[0] == "completed"
    (round_,) = expected[1]
    assert round_[1] == 2  # attempts
    for n in range(1, MOVING + 1, 1 if sample.whole() else 2):
        other = await fresh_store()
        federation = Federation(other.documents, other.blobs, limits=limits)
        fuse = Fuse(n, after, lit=False)
        dying = federation.coordinator(
            DyingStore(other.documents, fuse), DyingStore(other.blobs, fuse)
        )
        coordinators = [dying]
        found = await Run(federation, coordinators).whole({}, rounds=1, **faults)
        assert found == expected, f"write {n}"
        assert len(coordinators) > 1

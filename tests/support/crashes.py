"""A whole experiment over processes that die: what is left must not depend on where."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress

import numpy as np
import safetensors.numpy

from app.service.coordinator import Declaration, Done, Subscriber, Wait
from app.store.sqlite import SQLiteDocuments
from serverless_fl.domain.errors import OutOfTurn
from serverless_fl.domain.records import UpdateCommit, WeightsCommit
from serverless_fl.weights.encodings import companion_name
from tests.support.dying import Died, DyingStore, Fuse
from tests.support.federation import Federation, config
from tests.support.own_data import FACTS, OWN, sums, with_terms
from tests.support.sample import whole


def noise(*seed, size=6, companions=()):
    """A model of random weights: a wrong order or a wrong set of updates gives other bytes."""
    names = ["w", *(companion_name(companion, "w") for companion in companions)]
    draw = np.random.default_rng(seed)
    return safetensors.numpy.save({name: draw.normal(size=size) for name in names})


async def whole_experiment(
    federation, coordinators, *, size=6, own=False, silent=(), slow=(), more=0, **changes
):
    """Run a small experiment; on each death another coordinator takes over. Gives what is left.

    `own`: the parties bring data of their own, and their sums fix the normalisation. The clients in
    the slots `silent` never train; the clock moves on where all others wait. Those in the slots
    `slow` send what they trained three turns later. Once all rounds are closed, the admin gives it
    `more` rounds.
    """

    async def call(work):
        """A client's request, repeated until some process lives long enough to answer it."""
        while True:
            try:
                return await work(coordinators[-1])
            except Died:
                coordinators.append(federation.coordinator())
                federation.clock.now += federation.limits.lease_seconds

    brought = OWN | {"normalisation": "federated"} if own else {}
    settings = config(**({"deadline_seconds": 10**6} | brought | changes))
    before = len(await coordinators[-1].context.repo.experiments("", 1000))
    once = secrets.token_hex(8)
    made, key = await call(lambda c: c.experiments.create("x", settings.to_config(), once))
    initial = noise(0, size=size)
    if own:
        initial = with_terms(initial, "age")
    sha = hashlib.sha256(initial).hexdigest()

    async def settle_model(c):
        experiment = await c.context.repo.experiment(made.id)
        if experiment.state == "awaiting_model":
            await c.experiments.store_initial_part(made.id, 0, sha, initial)
        await c.experiments.commit_initial(made.id, WeightsCommit(sha256=sha, parts=[sha]))

    await call(settle_model)
    clients = []
    for n in range(4):
        declared = Declaration(examples=100 + n, facts=FACTS, sums=[sums("age", 1.0, 0.1 * n)])
        subscribe = Subscriber(client_key=f"{n}" * 40, declared=declared if own else Declaration())
        got = await call(lambda c, s=subscribe: c.enrolment.subscribe(made.id, key, s))
        clients.append(await call(lambda c, t=got.token: c.enrolment.client_of(made.id, t)))
    waiting, training = 0, {}
    for turn in range(1000):
        client = clients[turn % 4]
        status = await call(lambda c, who=client: c.turns.status(who))
        if isinstance(status, Done):
            if not more:
                break
            rounds, more = settings.rounds + more, 0
            await call(lambda c, n=rounds: c.pausing.resume(made.id, None, "admin", n))
            continue
        if client.slot in training:
            status = training[client.slot][1]
        if isinstance(status, Wait) or client.slot in silent:
            waiting += 1
            if waiting > 8:
                federation.clock.now += 10**4
            continue
        waiting = 0
        if client.slot in slow:
            since, status = training.setdefault(client.slot, (turn, status))
            if turn - since < 3 * len(clients):
                continue
            del training[client.slot]
        data = noise(
            *(status.round.number, client.slot), size=size, companions=settings.strategy.companions
        )
        digest = hashlib.sha256(data).hexdigest()
        commit = UpdateCommit(
            sha256=digest,
            parts=[digest],
            num_examples=5 + client.slot,
            metrics={"loss_before": float((client.slot + status.round.number) % 3)},
        )

        async def upload(c, who=client, n=status.round.number, d=data, h=digest, m=commit):
            with suppress(OutOfTurn):  # the round may have closed over it: the commit tells
                await c.updates.store_part(who, n, 0, h, d)
            return await c.updates.commit(who, n, m)

        await call(upload)
    repo = coordinators[-1].context.repo
    experiment = await repo.experiment(made.id)
    models = await repo.models(made.id)
    return (
        experiment.state,
        [
            (r.number, r.attempt, r.state, r.cohort, r.accepted, r.num_examples)
            for r in await repo.rounds(made.id)
        ],
        [
            (u.round, u.slot, u.base_version, u.scale, u.blob.sha256)
            for r in await repo.rounds(made.id)
            for u in await repo.updates(r)
        ],
        [
            (m.version, m.blob.sha256, m.parent_sha256, {n: f.sha256 for n, f in m.state.items()})
            for m in models
        ],
        sorted(k.replace(made.id, "") for k in await federation.blobs.sizes("") if made.id in k),
        len(await repo.experiments("", 1000)) - before,
        await repo.count_clients(made.id),
        [(c.slot, c.examples, c.sums) for c in await repo.clients(made.id, "", 10)],
        (found := await repo.normalisation(made.id)) and (found.scales, found.slots),
    )


def every_write(store) -> int:
    """The step from death to death of a test that dies before and after writes.

    A death after a write leaves the store as one before the next write does: every second write
    leaves all that there is to leave. MongoDB's writes are slower, and the service's code is the
    same.
    """
    if not isinstance(store.documents, SQLiteDocuments):
        return 5
    return 1 if whole() else 2


async def deaths_that_change_nothing(
    store, fresh_store, limits, *, after, lit=True, every, sqlite=2, **run
):
    """Die at the writes in turn; the end is always that of an undisturbed run. Gives the deaths.

    On SQLite each `sqlite`-th write is tried, on MongoDB each `every`-th. `make soak` tries each
    write on SQLite.
    """
    quiet = Federation(store.documents, store.blobs, limits=limits)
    expected = await whole_experiment(quiet, [quiet.coordinator()], **run)
    assert expected[0] == "completed"
    # MongoDB's writes are slower, and the service's code is the same: there, not every write.
    on_sqlite, on_mongo = (1, every) if whole() else (sqlite, 3 * every)
    step = on_sqlite if isinstance(store.documents, SQLiteDocuments) else on_mongo
    for n in range((step + 1) // 2, 500, step):
        other = await fresh_store()
        federation = Federation(other.documents, other.blobs, limits=limits)
        fuse = Fuse(n, after, lit)
        coordinators = [
            federation.coordinator(DyingStore(other.documents, fuse), DyingStore(other.blobs, fuse))
        ]
        assert await whole_experiment(federation, coordinators, **run) == expected, f"write {n}"
        if len(coordinators) == 1:
            return n - 1
    raise AssertionError("the writes have no end")

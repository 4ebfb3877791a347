"""A whole experiment with a helper, over coordinators and helpers that die at their writes."""

from __future__ import annotations

import numpy as np

from app.store.sqlite import SQLiteDocuments
from serverless_fl.privacy.secure.fixed_point import FixedPoint, encode_counts
from serverless_fl.privacy.secure.helper import seal
from serverless_fl.privacy.secure.streams import COUNTS, apply_streams
from tests.support import sample
from tests.support.dying import Died, DyingStore, Fuse
from tests.support.federation import Federation
from tests.support.helped import NearHelper, fingerprint, helping
from tests.support.masked_crashes import SIZE, Client, Run


class HelpedClient(Client):
    """A client whose mask the helper knows."""

    async def _train(self, round_):
        slot, number = self.record.slot, round_.number
        found = await self.run.call(
            lambda c: c.maskings.read(round_.experiment_id, number, self.record)
        )
        made, stream = seal(found.context, slot, bytes.fromhex(found.helper))
        terms, draw = found.context.terms, np.random.default_rng([number, slot])
        words = FixedPoint.of(terms).encode(draw.uniform(-1, 1, SIZE), 5 + slot, draw)
        counts = encode_counts(terms.metrics, 5 + slot, {"loss_before": float(slot)})
        apply_streams(words, [stream])
        apply_streams(counts, [stream], sequence=COUNTS)
        await self._send(round_, words, counts, made.text)


class Mortal(NearHelper):
    """A helper that is started again over its store, in place of one that has died."""

    def __init__(self, app, again):
        super().__init__(app)
        self._again, self.deaths = again, 0

    async def _exchange(self, method, path, body):
        try:
            return await super()._exchange(method, path, body)
        except Died as error:
            self._http, self.deaths = (await self._again())._http, self.deaths + 1
            raise ConnectionResetError from error


class HelpedRun(Run):
    """Coordinators over one store, with a helper."""

    client = HelpedClient

    def __init__(self, federation, near, app, documents=None, blobs=None):
        self.near = near
        self.settings = {"secure_aggregation": "helper", "helper_key": fingerprint(app)}
        self.federation = federation
        super().__init__(federation, [federation.coordinator(documents, blobs, helper=near)])

    def another(self):
        return self.federation.coordinator(helper=self.near)


async def quiet(store, of_helper, limits, silent):
    federation = Federation(store.documents, store.blobs, limits=limits)
    app = await helping(of_helper.documents, of_helper.blobs, federation.clock)
    return await HelpedRun(federation, NearHelper(app), app).whole(silent)


async def coordinators_that_die_change_nothing(
    fresh_store, limits, *, after, every, sqlite, silent
):
    """Die at every n-th write of the coordinator; gives the number of writes."""
    store, of_helper = await fresh_store(), await fresh_store()
    expected = await quiet(store, of_helper, limits, silent)
    assert expected[0] == "completed"
    on_sqlite = 1 if sample.whole() else sqlite
    step = on_sqlite if isinstance(store.documents, SQLiteDocuments) else every
    for n in range(step, 500, step):
        other = await fresh_store()
        federation = Federation(other.documents, other.blobs, limits=limits)
        app = await helping(of_helper.documents, of_helper.blobs, federation.clock)
        fuse = Fuse(n, after)
        dying = DyingStore(other.documents, fuse), DyingStore(other.blobs, fuse)
        run = HelpedRun(federation, NearHelper(app), app, *dying)
        assert await run.whole(silent) == expected, f"write {n}"
        if len(run.coordinators) == 1:
            return n - 1
    raise AssertionError("the writes have no end")


async def helpers_that_die_change_nothing(fresh_store, limits, *, after):
    """Die at each write of the helper, those of its start too; gives the number of writes."""
    store, of_helper = await fresh_store(), await fresh_store()
    expected = await quiet(store, of_helper, limits, {})
    assert expected[0] == "completed"
    for n in range(1, 20):
        other, theirs = await fresh_store(), await fresh_store()
        federation = Federation(other.documents, other.blobs, limits=limits)
        fuse = Fuse(n, after)

        async def again(theirs=theirs, federation=federation):
            return NearHelper(await helping(theirs.documents, theirs.blobs, federation.clock))

        try:
            app = await helping(DyingStore(theirs.documents, fuse), theirs.blobs, federation.clock)
        except Died:
            app = await helping(theirs.documents, theirs.blobs, federation.clock)
        near = Mortal(app, again)
        assert await HelpedRun(federation, near, app).whole({}) == expected, f"write {n}"
        if fuse.left > 0:
            return n - 1
    raise AssertionError("the writes have no end")

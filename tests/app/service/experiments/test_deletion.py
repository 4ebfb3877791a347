"""A deleted experiment: gone for everybody at once, and from the store in the end."""

import asyncio
import hashlib
import secrets
import sqlite3

import pytest

from app.service.coordinator import Limits
from app.service.records.repository import KINDS_OF_AN_EXPERIMENT
from client_sdk.errors import NotThere, RequestRefused, StateConflict
from serverless_fl.domain.errors import NotFound
from serverless_fl.privacy.secure.identity import Identity
from tests.support.crashes import every_write
from tests.support.dying import Died, DyingStore, Fuse
from tests.support.federation import ADMIN_KEY, BOTH_STORES, Federation, config, weights
from tests.support.masked import MASKED, Drifting, enrolled
from tests.support.sample import deaths

# Small cohorts have no groups, only a bucket's URLs are announced, and no round is buffered, or has
# masks or noise; nobody is woken up.
MASKS = {"phase_keys", "phase_boxes", "phase_answers", "phase_confirmations"}
UNUSED = {"sums", "claims", "groups", "announced", "announced_initial", "normalisations"}
UNUSED |= {"buffered", "secrets", "notices", "wake_ups", *MASKS}
SETTLED = 20 * 30 + 1  # seconds: the leases after which no stale call writes any more


async def full(federation, name="Alder clinic", **changes):
    """An experiment with something of every kind, in its second round."""
    settings = {"clients": 4, "clients_per_round": 3, "keep_updates": 5, "rounds": 3, "quorum": 1}
    settings |= {"download_encoding": "int8"} | changes
    made = await federation.admin.create_experiment(name, config(**settings), f"make-{name}")
    await federation.admin.upload_initial_model(made.id, weights(0), made.part_bytes)
    members = {}
    for n in range(4):
        member = await federation.enrol(made.id, made.enrolment_key, n)
        members[member.id] = member
    first, second, third = await federation.cohort(made.id)
    await members[first].upload(1, 1.0)
    await members[second].upload(1, 2.0)
    with pytest.raises(RequestRefused):
        await members[third].upload_bytes(1, b"no model")
    await federation.admin.report_evaluation(made.id, 1, 10, {"accuracy": 0.5})
    await members[(await federation.cohort(made.id))[0]].upload(2, 1.0)
    return made, members


async def left_of(store, experiment, tmp_path):
    """Every document and blob that has the experiment's id in its key or its body."""
    blobs = [key for key in await store.blobs.sizes("") if experiment in key]
    if hasattr(store.documents, "_client"):
        database = store.documents._database
        kinds = await database.list_collection_names()
        found = [
            (kind, d["_id"])
            for kind in kinds
            if kind not in ("blobs", "blob_sizes")
            async for d in database[kind].find({})
            if experiment in str(d)
        ]
    else:
        with sqlite3.connect(store.documents._database.path) as raw:
            rows = raw.execute("SELECT kind, key, second, body FROM documents").fetchall()
        raw.close()
        found = [(kind, key) for kind, key, *rest in rows if experiment in f"{key}{rest}"]
    return sorted(found) + blobs


@BOTH_STORES
async def test_what_buffered_rounds_keep_is_gone_too(federation, store, tmp_path):
    made, members = await federation.start(schedule="buffered", rounds=2, clients_per_round=2)
    for member in list(members.values())[:2]:
        await member.upload(1, 1.0)
    assert "buffered" in {place[0] for place in await left_of(store, made, tmp_path)}
    await federation.admin.delete_experiment(made, stop=True)
    assert await left_of(store, made, tmp_path) == [("experiments", made)]


@BOTH_STORES
async def test_what_masked_rounds_keep_is_gone_too(federation, store, tmp_path):
    made, key = await federation.create(**MASKED, keep_updates=5)
    identities = {n: {"identity": Identity.new()} for n in range(4)}  # so they sign the list, too
    clients = await enrolled(federation, made, key, Drifting(), 4, options=identities)
    while (await federation.admin.round(made, 1)).state != "closed":
        for client in clients:
            await client.turn()
    while (await federation.admin.round(made, 2)).state != "collecting":
        for client in clients:
            await client.turn()
    assert {place[0] for place in await left_of(store, made, tmp_path)} >= MASKS
    await federation.admin.delete_experiment(made, stop=True)
    assert await left_of(store, made, tmp_path) == [("experiments", made)]


async def refused_as(status, call):
    with pytest.raises(RequestRefused) as caught:
        await call
    assert caught.value.status == status
    return caught.value


@BOTH_STORES
async def test_it_is_gone_for_everybody_and_from_the_store(federation, store, tmp_path):
    made, members = await full(federation)
    other, _ = await full(federation, "other")
    before = len(await left_of(store, other.id, tmp_path))
    assert before > 10
    kinds = {place[0] for place in await left_of(store, made.id, tmp_path)}
    assert set(KINDS_OF_AN_EXPERIMENT) - UNUSED <= kinds
    error = await refused_as(409, federation.admin.delete_experiment(made.id))
    assert error.code == "not-ended"
    assert (await federation.admin.experiment(made.id)).state == "running"
    await federation.admin.stop_experiment(made.id)
    await federation.admin.delete_experiment(made.id)

    assert await left_of(store, made.id, tmp_path) == [("experiments", made.id)]
    body = (await store.documents.get("experiments", made.id)).body
    assert not [w for w in ("Alder", "toy", made.enrolment_key) if w in str(body.values())]
    assert len(await left_of(store, other.id, tmp_path)) == before
    member = next(iter(members.values()))
    for call in (
        federation.admin.experiment(made.id),
        federation.admin.models(made.id),
        federation.admin.audit(made.id),
        federation.admin.download_model(made.id),
        federation.admin.stop_experiment(made.id),
        federation.admin.enrolment_key(made.id),
        federation.admin.round(made.id, 1),
        member.status(),
        member.api.shard(made.id),
        member.upload(2, 1.0),
        federation.enrol(made.id, made.enrolment_key, 9),
    ):
        error = await refused_as(404, call)
        assert (error.code, error.detail) == ("deleted", "The experiment was deleted.")
    listed = (await federation.http.get("/v1/experiments")).json()
    assert other.id in {e["id"] for e in listed}
    assert made.id not in {e["id"] for e in listed}
    await federation.admin.delete_experiment(made.id)  # safe to repeat
    await refused_as(404, federation.admin.delete_experiment("nowhere"))


@BOTH_STORES
async def test_it_may_be_stopped_by_the_same_call(federation, store, tmp_path):
    made, _ = await full(federation)
    await federation.admin.delete_experiment(made.id, stop=True)
    assert await left_of(store, made.id, tmp_path) == [("experiments", made.id)]


@BOTH_STORES
async def test_one_without_a_model_can_be_deleted(federation, store, tmp_path):
    made = await federation.admin.create_experiment("x", config(), "no-model-yet")
    await federation.admin.delete_experiment(made.id, stop=True)
    assert await left_of(store, made.id, tmp_path) == [("experiments", made.id)]


@BOTH_STORES
async def test_the_key_that_made_it_makes_no_second_one_unseen(federation):
    made, _ = await full(federation)
    await federation.admin.delete_experiment(made.id, stop=True)
    with pytest.raises(StateConflict, match="was deleted: use a new key") as caught:
        await federation.admin.create_experiment("x", config(), "make-Alder clinic")
    assert caught.value.code == "idempotency-key-reused"


@BOTH_STORES
async def test_lists_go_on_over_what_was_deleted(federation):
    ids = []
    for n in range(6):
        federation.clock.now += 1
        made = await federation.admin.create_experiment("x", config(), f"number-{n}")
        ids.append(made.id)
    for gone in (1, 2, 3):
        await federation.admin.delete_experiment(ids[gone], stop=True)
    repo = federation.coordinator().context.repo
    kept = [ids[0], ids[4], ids[5]]
    for limit in (1, 2, 3, 100):
        found, after = [], ids[0][:-1]
        while page := await repo.experiments(after, limit):
            found += [experiment.id for experiment in page]
            after = found[-1]
        assert [i for i in found if i in ids] == kept


@BOTH_STORES
async def test_what_is_large_goes_with_ticks(store, tmp_path):
    federation = Federation(store.documents, store.blobs, limits=Limits(drop_bytes=10))
    async with federation.serving():
        made, _ = await full(federation)
        await federation.admin.delete_experiment(made.id, stop=True)
        await refused_as(404, federation.admin.experiment(made.id))
        assert len(await left_of(store, made.id, tmp_path)) > 1  # models
        await federation.coordinator().tick()
        assert await left_of(store, made.id, tmp_path) == [("experiments", made.id)]


@BOTH_STORES
async def test_ticks_clear_up_behind_calls_that_began_before(federation, store, tmp_path):
    made, _ = await full(federation)
    await federation.admin.delete_experiment(made.id, stop=True)
    await store.documents.insert("updates", f"{made.id}/0000002/0000001", {})
    await store.blobs.put(f"models/{made.id}/0000002/00000-x", b"of a stale owner")
    await federation.coordinator().tick()
    assert await left_of(store, made.id, tmp_path) == [("experiments", made.id)]
    federation.clock.now += SETTLED
    await federation.coordinator().tick()
    tombstone = await federation.coordinator().context.repo.tombstone(made.id)
    assert tombstone.swept
    # By then only a presigned URL can bring anything.
    await store.blobs.put(f"uploads/{made.id}/0000002/0000001/00000-x", b"by its URL")
    await federation.coordinator().tick()
    assert await left_of(store, made.id, tmp_path) == [("experiments", made.id)]


async def test_clients_may_be_uploading_meanwhile(federation, store, tmp_path):
    """None of them gets a receipt for an update of which nothing is left."""
    made, members = await full(federation, rounds=50)
    shown = await federation.admin.experiment(made.id)

    async def upload(name):
        try:
            await members[name].upload(shown.round, 1.0)
        except RequestRefused as error:
            return error.status
        return 200

    calls = [upload(name) for name in members]
    deletion = federation.admin.delete_experiment(made.id, stop=True)
    got = await asyncio.gather(*calls, deletion)
    assert set(got[:-1]) <= {200, 404, 409}
    federation.clock.now += SETTLED
    await federation.coordinator().tick()
    assert await left_of(store, made.id, tmp_path) == [("experiments", made.id)]


@BOTH_STORES
async def test_many_may_delete_at_once(federation, store, tmp_path):
    made, _ = await full(federation)
    others = [federation.coordinator() for _ in range(5)]
    await asyncio.gather(*(c.deletion.delete(made.id, "admin", stop=True) for c in others))
    assert await left_of(store, made.id, tmp_path) == [("experiments", made.id)]


@deaths("after")
async def test_dying_at_any_write_of_a_deletion_ends_in_it_or_in_nothing(
    store, fresh_store, tmp_path, after
):
    every = every_write(store)
    n, died = 1 - every, True
    while died:
        n += every
        other = await fresh_store()
        federation = Federation(other.documents, other.blobs)
        async with federation.serving():
            made, _ = await full(federation, secrets.token_hex(6))
            fuse = Fuse(n, after)
            dying = federation.coordinator(
                DyingStore(other.documents, fuse), DyingStore(other.blobs, fuse)
            )
            died = False
            try:
                await dying.deletion.delete(made.id, "admin", stop=True)
            except Died:
                died = True
            survivor = federation.coordinator()
            await survivor.tick()
            try:
                shown = await survivor.views.experiment(made.id)
            except NotFound:  # the tombstone stood: ticks do the rest
                assert await left_of(other, made.id, tmp_path) == [("experiments", made.id)]
            else:  # nothing of it is gone
                assert shown.experiment.model_version == 1
                assert len(await survivor.views.models(made.id)) == 2
                assert shown.enrolled == 4
                data = await federation.admin.download_model(made.id, 1)
                assert hashlib.sha256(data).hexdigest() == (
                    (await survivor.views.models(made.id))[1].model.blob.sha256
                )
            await survivor.deletion.delete(made.id, "admin", stop=True)
            assert await left_of(other, made.id, tmp_path) == [("experiments", made.id)], n
    assert n > 12  # the loop ended because all writes were tried


async def test_who_deleted_it_is_logged(federation, caplog):
    caplog.set_level("INFO")
    made, _ = await full(federation)
    await federation.admin.delete_experiment(made.id, stop=True)
    assert "experiment deleted request_id=" in caplog.text
    assert ADMIN_KEY not in caplog.text
    with pytest.raises(NotThere):
        await federation.admin.experiment(made.id)

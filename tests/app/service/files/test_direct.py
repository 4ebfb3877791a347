"""Clients that write to the store of weights themselves: what one of them may leave there.

moto takes what real S3 refuses, as many an imitation does.
"""

import asyncio
import hashlib

import httpx
import numpy as np
import pytest

from app.service.coordinator import Limits
from app.store.s3 import S3Blobs
from app.store.sqlite import open_sqlite
from client_sdk import errors
from serverless_fl.wire import schema
from serverless_fl.wire.parts import PartAnnouncement, PartAnnouncements
from tests.support.federation import Federation, config, value_of, weights

SIZE = 60_000  # of a part that is not of the model


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def junk(number: int, size: int = SIZE) -> bytes:
    return np.random.default_rng(number).bytes(size)


@pytest.fixture
async def direct(bucket, tmp_path):
    documents, _ = await open_sqlite(tmp_path / "f")
    federation = Federation(documents, S3Blobs(bucket, url_seconds=900))
    async with federation.serving():
        yield federation
    await documents.close()


async def plan(member, experiment, *parts, number=1):
    """URLs for these parts, by their order."""
    announced = PartAnnouncements(
        parts=[
            PartAnnouncement(number=n, sha256=sha(part), size=len(part))
            for n, part in enumerate(parts)
        ]
    )
    path = f"/experiments/{experiment}/rounds/{number}/update/parts"
    answer = (await member.api.connection.post(path, announced)).json()
    return [part["upload"] for part in answer]


async def put(upload, data, headers=None):
    async with httpx.AsyncClient(trust_env=False) as http:
        headers = upload["headers"] if headers is None else headers
        return (await http.put(upload["url"], headers=headers, content=data)).status_code


async def refused(call):
    with pytest.raises(errors.RequestRefused) as caught:
        await call
    return caught.value


async def running(federation, **changes):
    settings = {"clients": 2, "clients_per_round": 2, "rounds": 1} | changes
    experiment, members = await federation.start(**settings)
    return experiment, [members[name] for name in await federation.cohort(experiment)]


async def test_the_quota_is_of_what_was_announced_though_nothing_is_stored(direct):
    experiment, (one, two) = await running(direct)
    most = 2 * (await one.status()).max_update_bytes
    given, refusals = 0, set()
    for n in range(20):
        try:
            await plan(one, experiment, junk(n))
            given += SIZE
        except errors.RequestRefused as error:
            refusals.add(error.code)
    assert most - SIZE < given <= most
    assert refusals == {"quota"}
    await plan(one, experiment, junk(0))  # what was announced before is no more by that
    await plan(two, experiment, junk(0))  # and is the one client's own


async def test_announcements_at_one_moment_do_not_pass_the_quota_together(direct):
    experiment, (one, _) = await running(direct)
    most = 2 * (await one.status()).max_update_bytes
    calls = (plan(one, experiment, junk(n)) for n in range(20))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert SIZE * sum(isinstance(urls, list) for urls in found) <= most


async def test_a_file_is_not_cut_into_dust(direct):
    experiment, (one, _) = await running(direct)
    parts = [bytes([n]) for n in range(65)]
    assert len(await plan(one, experiment, *parts[:64])) == 64
    assert (await refused(plan(one, experiment, *parts))).code == "quota"


async def test_what_came_through_the_coordinator_counts_too(direct):
    experiment, (one, _) = await running(direct)
    coordinator = direct.app.state.coordinator
    client = await coordinator.context.repo.client(experiment, int(one.id[-2:]))
    await plan(one, experiment, junk(0), junk(1))
    store = coordinator.updates.store_part
    with pytest.raises(Exception, match="Too many different parts"):
        await store(client, 1, 0, sha(junk(2)), junk(2))
    await store(client, 1, 0, sha(junk(0)), junk(0))
    assert sum((await direct.blobs.sizes("uploads/")).values()) == SIZE


@pytest.mark.parametrize(
    ("size", "part_bytes", "parts", "life"),
    [(1000, 8 << 20, 1, 60), (SIZE, 8 << 20, 2, 61), (1 << 20, 1 << 20, 4, 124)],
)
async def test_a_url_lives_as_long_as_its_parts_take_on_a_slow_line(
    direct, size, part_bytes, parts, life
):
    large = weights(0, big=np.zeros(1 << 20, np.float32))
    experiment, (one, _) = await running(direct, initial=large)
    direct.limits = Limits(part_bytes=part_bytes)
    direct.app.state.coordinator = direct.coordinator()
    urls = await plan(one, experiment, *(junk(n, size) for n in range(parts)))
    assert {url["seconds"] for url in urls} == {life}
    assert all(f"X-Amz-Expires={life}&" in url["url"] for url in urls)


async def test_of_a_url_that_is_used_after_the_close_nothing_stays(direct):
    experiment, members = await running(direct, keep_updates=1)
    urls = await plan(members[0], experiment, junk(0), junk(1))
    for member in members:
        await member.upload(1, 3.0)
    kept = await direct.blobs.sizes("uploads/")
    assert len(kept) == 2
    for n, url in enumerate(urls):
        assert await put(url, junk(n)) == 200
    await direct.blobs.put(f"uploads/{experiment}/0000001/sums/00000-a/00000-b", b"late sums")
    await direct.app.state.coordinator.tick()
    assert await direct.blobs.sizes("uploads/") == kept
    await direct.app.state.coordinator.tick()
    assert await direct.blobs.sizes("uploads/") == kept
    assert await direct.documents.keys("announced", "") == []


async def test_nothing_stays_beside_an_initial_model_that_came_late(direct):
    made = await direct.create(initial=weights(0))
    experiment = made[0]
    direct.app.state.coordinator = direct.coordinator()
    other = (await direct.admin.create_experiment("y", config(), "late-initial")).id
    announced = PartAnnouncements(
        parts=[PartAnnouncement(number=n, sha256=sha(junk(n)), size=SIZE) for n in range(2)]
    )
    path = f"/experiments/{other}/initial-model/parts"
    urls = [part["upload"] for part in (await direct.admin.connection.post(path, announced)).json()]
    await direct.admin.upload_initial_model(other, weights(1), 1 << 20)
    own = await direct.blobs.sizes("models/")
    for wait in (0, 300):
        assert await put(urls[bool(wait)], junk(bool(wait))) == 200
        direct.clock.now += wait
        await direct.app.state.coordinator.tick()
        assert await direct.blobs.sizes("models/") == own
    assert await direct.documents.keys("announced_initial", f"{other}/")
    direct.clock.now += 1000
    await direct.app.state.coordinator.tick()
    assert await direct.documents.keys("announced_initial", "") == []
    assert value_of(await direct.admin.download_model(experiment, 0)) == 0


async def test_a_present_key_is_not_trusted(direct):
    """Whoever has a URL may store other bytes under a digest, where nobody checks that."""
    experiment, (one, two) = await running(direct)
    data = weights(4.0)
    for content in (b"junk", bytes(len(data))):
        (url,) = await plan(one, experiment, data)
        assert await put(url, content, {}) == 200
    receipt = await one.api.upload_update(experiment, 1, data, 10, {}, 1 << 20, at_once=True)
    assert receipt.sha256 == sha(data)
    await two.upload(1, 2.0)
    assert (await direct.admin.experiment(experiment)).state == "completed"
    assert value_of(await direct.admin.download_model(experiment, 1)) == 3.0


async def test_an_object_that_is_larger_than_any_part_is_deleted_unread(direct, monkeypatch):
    experiment, (one, _) = await running(direct)
    direct.limits = Limits(part_bytes=64 * 1024)
    direct.app.state.coordinator = direct.coordinator()
    data = weights(4.0)
    key = f"uploads/{experiment}/0000001/{int(one.id[-2:]):07d}/00000-{sha(data)}"
    read = []
    get = S3Blobs.get

    async def heard(self, key):
        read.append(key)
        return await get(self, key)

    monkeypatch.setattr(S3Blobs, "get", heard)
    commit = schema.UpdateCommit(sha256=sha(data), parts=[sha(data)], num_examples=10)
    (url,) = await plan(one, experiment, data)
    assert await put(url, bytes(100_000), {}) == 200
    error = await refused(
        one.api.connection.post(f"/experiments/{experiment}/rounds/1/update", commit)
    )
    assert error.code == "parts-missing"  # and the client is not refused: it sends it again
    assert await direct.blobs.sizes("uploads/") == {}
    assert await put(url, bytes(100_000), {}) == 200
    (url,) = await plan(one, experiment, data)
    assert await direct.blobs.sizes("uploads/") == {}
    assert key not in read
    assert await put(url, data) == 200
    await one.api.connection.post(f"/experiments/{experiment}/rounds/1/update", commit)
    assert (await direct.admin.round(experiment, 1)).reported == [one.id]

"""The database is away, locked or full: 503 with Retry-After, nothing broken, work goes on."""

import asyncio
import os
import sqlite3
import subprocess

import httpx
import pytest

from app.store import sqlite_file as sqlite_store
from app.store.mongo import open_mongo
from app.store.sqlite import open_sqlite
from client_sdk.errors import RequestRefused
from tests.support.federation import Federation, value_of, weights
from tests.support.mongo import MongoServer
from tests.support.processes import Server, wait_for


def is_away(error: RequestRefused) -> bool:
    return (error.status, error.code) == (503, "store-unavailable")


async def finishes(federation, experiment, members) -> None:
    """The open round and all others close over what their cohorts send."""
    while (shown := await federation.admin.experiment(experiment)).state == "running":
        for client in shown.current_round.missing:
            await members[client].upload(shown.round, 6.0)
    assert shown.state == "completed"
    assert value_of(await federation.admin.download_model(experiment)) == 6.0


async def test_mongodb_goes_and_comes_back_in_mid_round(tmp_path, monkeypatch):
    server = MongoServer(tmp_path)
    server.start()
    documents, blobs = await open_mongo(server.url, "away")
    federation = Federation(documents, blobs)
    try:
        async with federation.serving():
            experiment, members = await federation.start(rounds=2)
            cohort = await federation.cohort(experiment)
            await members[cohort[0]].upload(1, 2.0)
            server.stop()
            with monkeypatch.context() as hurried:  # to be told so takes as long each time
                hurried.setattr("app.store.mongo.OPERATION_MS", 300)
                for call in (
                    members[cohort[1]].status(),
                    members[cohort[1]].upload(1, 4.0),
                    federation.admin.experiment(experiment),
                ):
                    with pytest.raises(RequestRefused) as caught:
                        await call
                    assert is_away(caught.value)
                answer = await federation.http.get(f"/v1/experiments/{experiment}")
                assert int(answer.headers["retry-after"]) > 0
            server.start()
            assert (await federation.admin.round(experiment, 1)).reported == cohort[:1]
            await members[cohort[1]].upload(1, 4.0)
            assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0
            await finishes(federation, experiment, members)
    finally:
        await documents.close()
        server.stop()


async def test_a_locked_file_is_a_503_until_the_lock_is_gone(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_store, "BUSY_SECONDS", 0.1)
    path = tmp_path / "c.sqlite3"
    documents, blobs = await open_sqlite(path)
    federation = Federation(documents, blobs)
    async with federation.serving():
        experiment, members = await federation.start(rounds=2)
        cohort = await federation.cohort(experiment)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RequestRefused) as caught:
            await members[cohort[0]].upload(1, 2.0)
        assert is_away(caught.value)
        assert "database is locked" in caplog.text
        assert (await members[cohort[0]].status()).action == "train"  # reading needs no lock
        other.execute("ROLLBACK")
        other.close()
        await finishes(federation, experiment, members)
    await documents.close()


async def fill(documents, blobs) -> int:
    """Blobs until nothing more goes in; gives how many did."""
    from serverless_fl.domain.errors import StoreUnavailable

    for n in range(10_000):
        try:
            await blobs.put(f"ballast/{n:05d}", os.urandom(4096))
        except StoreUnavailable as error:
            assert "full" in str(error)
            return n
    raise AssertionError("it is never full")


async def full_disk(path, room) -> None:
    """Run into a full disk in mid-round: `room` makes it, and is called again to end it."""
    documents, blobs = await open_sqlite(path)
    federation = Federation(documents, blobs)
    async with federation.serving():
        experiment, members = await federation.start(rounds=2)
        cohort = await federation.cohort(experiment)
        await members[cohort[0]].upload(1, 2.0)
        await room(documents, False)
        await fill(documents, blobs)
        refused = 0
        for client in cohort[1:]:
            try:
                await members[client].upload_bytes(1, weights(4.0))
            except RequestRefused as error:
                assert is_away(error)
                refused += 1
        shown = await federation.admin.round(experiment, 1)
        assert cohort[0] in shown.reported
        # The disk may be full before the update is in, or just after, where the round is folded.
        assert refused == (shown.state != "closed")
        await room(documents, True)
        await blobs.delete("ballast/")
        federation.clock.now += 31  # the lease of a fold that failed runs out
        if shown.state == "aggregating":
            await members[cohort[1]].status()
        elif shown.state != "closed":
            await members[cohort[1]].upload(1, 4.0)
        assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0
        await finishes(federation, experiment, members)
    await documents.close()
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()


async def test_a_full_database_is_a_503_and_what_is_committed_stays_whole(tmp_path):
    async def room(documents, much: bool) -> None:
        def limit(connection: sqlite3.Connection) -> None:
            (used,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {used + (10**6 if much else 5)}")

        await documents._database.run(limit)

    await full_disk(tmp_path / "c.sqlite3", room)


async def test_a_full_disk_is_a_503_and_what_is_committed_stays_whole(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:

        async def room(documents, much: bool) -> None:
            if much:
                options = ["mount", "-o", "remount,size=64m", str(tmp_path)]
                await asyncio.to_thread(subprocess.run, options, check=True)

        await full_disk(tmp_path / "c.sqlite3", room)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


HURRIED = """
from app.store import mongo
mongo.SELECTION_MS = 300
from app.__main__ import main
main()
"""


class Hurried(Server):
    """It looks for its database for less than a second."""

    program = ("-c", HURRIED)


async def test_a_server_whose_database_is_away_says_so_and_stays_up(tmp_path):
    """The same through a real server and TCP."""
    mongo = MongoServer(tmp_path)
    mongo.start()
    try:
        with Hurried(MONGODB_URL=mongo.url) as server, httpx.Client(trust_env=False) as http:
            url = f"{server.url}/v1/experiments"
            assert http.get(url).status_code == 200
            mongo.stop()
            away = await asyncio.to_thread(http.get, url, timeout=20)
            assert (away.status_code, away.json()["code"]) == (503, "store-unavailable")
            assert int(away.headers["retry-after"]) > 0
            assert http.get(f"{server.url}/health").status_code == 200
            mongo.start()
            wait_for(lambda: http.get(url, timeout=20).status_code == 200)
    finally:
        mongo.stop()

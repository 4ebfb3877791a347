"""What only a server can go through."""

import asyncio
import subprocess
import sys

import pytest

from app.domain.errors import StoreUnavailable
from app.store import mongo
from app.store.mongo import open_mongo
from tests.conftest import MongoServer

OPEN_AND_INSERT = """
import asyncio, sys
from app.store.mongo import open_mongo
async def main():
    documents, _ = await open_mongo(sys.argv[1], "together")
    for n in range(10):
        assert await documents.insert("rounds", f"{sys.argv[2]}/{n}", {})
    await documents.close()
asyncio.run(main())
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(mongo, "OPERATION_MS", 500)
    monkeypatch.setattr(mongo, "BLOB_MS", 500)
    server = MongoServer(tmp_path)
    server.start()
    yield server
    server.stop()


async def test_a_server_that_is_away_is_said_to_be_and_may_come_back(server):
    documents, blobs = await open_mongo(server.url, "test")
    await documents.insert("rounds", "a", {"n": 1})
    server.stop()
    for call in (
        documents.get("rounds", "a"),
        documents.insert("rounds", "b", {}),
        documents.replace("rounds", "a", 1, {}),
        documents.keys("rounds", ""),
        blobs.put("x", b""),
    ):
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await call
    server.start()
    assert (await documents.get("rounds", "a")).body == {"n": 1}
    assert await documents.insert("rounds", "b", {})
    await documents.close()


async def test_opening_without_a_server_fails_clearly(server):
    server.stop()
    with pytest.raises(StoreUnavailable, match="did not answer"):
        await open_mongo(server.url, "test")
    with pytest.raises(StoreUnavailable, match="MONGODB_URL"):
        await open_mongo("http://elsewhere", "test")


async def test_many_processes_may_open_a_new_database_at_once(server):
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", OPEN_AND_INSERT, server.url, str(n)), stderr=subprocess.PIPE
        )
        for n in range(4)
    ]
    for process in processes:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    documents, _ = await open_mongo(server.url, "together")
    assert await documents.count("rounds", "") == 40
    await documents.close()


async def test_listing_sizes_reads_no_data(server):
    documents, blobs = await open_mongo(server.url, "sizes")
    await blobs.put("a/1", b"x" * 1000)
    listed = await documents._database["blob_sizes"].find({}).to_list(None)
    assert listed == [{"_id": "a/1", "size": 1000}]
    await documents._database["blobs"].delete_many({})
    assert await blobs.sizes("a/") == {"a/1": 1000}
    await documents.close()


async def test_finding_by_the_second_name_holds_the_indexs_filter(server, monkeypatch):
    """Else MongoDB reads the whole collection: an equality alone does not imply `$type` to it.

    The server of these tests cannot say which index it takes, so the query is looked at.
    """
    documents, _ = await open_mongo(server.url, "found")
    await documents.insert("clients", "a", {"n": 1}, unique="x")
    clients, asked = documents._collection("clients"), []

    class Heard:
        async def find_one(self, query):
            asked.append(query)
            return await clients.find_one(query)

    monkeypatch.setattr(documents, "_collection", lambda kind: Heard())
    assert (await documents.find("clients", "x")).body == {"n": 1}
    assert await documents.find("clients", "y") is None
    assert [mongo.INDEXED.items() <= query["unique"].items() for query in asked] == [True, True]
    await documents.close()

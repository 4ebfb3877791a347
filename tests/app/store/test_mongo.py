"""What only a server can go through. All of it runs over the MongoDB of MONGODB_URL, too."""

import asyncio
import secrets
import subprocess
import sys

import pymongo
import pytest
from pymongo.uri_parser import parse_uri

from app.store import mongo
from app.store.mongo import open_mongo
from serverless_fl.domain.errors import StoreDenied, StoreRefused, StoreUnavailable
from tests.support.mongo_proxy import MongoProxy

OPEN_AND_INSERT = """
import asyncio, sys
from app.store.mongo import open_mongo
async def main():
    documents, _ = await open_mongo(sys.argv[1], sys.argv[2])
    for n in range(10):
        assert await documents.insert("rounds", f"{sys.argv[3]}/{n}", {})
    await documents.close()
asyncio.run(main())
"""
WRITES = {"insert", "update", "delete"}
READS = {"find", "aggregate"}


@pytest.fixture
def database(mongodb_url):
    """The name of an empty database, which is dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    with pymongo.MongoClient(mongodb_url) as client:
        client.drop_database(name)


@pytest.fixture
async def proxy(mongodb_url):
    parsed = parse_uri(mongodb_url)
    if parsed["username"] or parsed["fqdn"] or parsed["options"].get("tls"):
        pytest.skip("the proxy passes neither TLS nor passwords on")
    host, port = parsed["nodelist"][0]
    async with MongoProxy(host, port).serving() as proxy:
        yield proxy


@pytest.fixture
async def opened(proxy, database):
    documents, blobs = await open_mongo(proxy.url, database)
    yield documents, blobs
    proxy.quiet()
    await documents.close()


def calls(documents, blobs):
    """One of each."""
    return (
        documents.get("rounds", "a"),
        documents.find("clients", "a"),
        documents.insert("rounds", "b", {}),
        documents.replace("rounds", "a", 1, {}),
        documents.keys("rounds", ""),
        documents.count("rounds", ""),
        documents.last_key("rounds", ""),
        documents.scan("rounds", ""),
        documents.check(),
        blobs.put("x", b""),
        blobs.get("x"),
        blobs.sizes(""),
        blobs.delete("x"),
    )


async def each(documents, blobs):
    return await asyncio.gather(*calls(documents, blobs), return_exceptions=True)


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(mongo, "OPERATION_MS", 1000)
    monkeypatch.setattr(mongo, "BLOB_MS", 1000)


async def test_a_server_that_is_away_is_said_to_be_and_may_come_back(opened, proxy, quickly):
    documents, blobs = opened
    await documents.insert("rounds", "a", {"n": 1})
    proxy.away = True
    proxy.cut()
    for said in await each(documents, blobs):
        assert type(said) is StoreUnavailable and "did not answer" in said.message
    proxy.away = False
    assert (await documents.get("rounds", "a")).body == {"n": 1}
    assert await documents.insert("rounds", "c", {})


async def test_a_server_that_falls_silent_holds_nobody_up(opened, proxy, quickly):
    """It takes what it is sent, and connections, and says nothing: nothing is refused or reset."""
    documents, blobs = opened
    await documents.insert("rounds", "a", {"n": 1})
    proxy.silent = True
    for said in await each(documents, blobs):
        assert type(said) is StoreUnavailable and "did not answer" in said.message
    proxy.silent = False
    proxy.cut()  # what it swallowed it will never answer
    assert (await documents.get("rounds", "a")).body == {"n": 1}


async def test_who_waits_for_a_thread_waits_no_longer_than_for_the_server(opened, proxy, quickly):
    """Each of motor's threads is held by a call that hangs: the others are told as soon."""
    documents, _ = opened
    proxy.silent = True
    asked = [documents.get("rounds", str(n)) for n in range(300)]
    found = asyncio.gather(*asked, return_exceptions=True)
    waited = await asyncio.wait_for(found, 15)  # one after the other, ten at a time: 30 s
    assert all(type(said) is StoreUnavailable for said in waited)
    proxy.silent = False
    proxy.cut()
    assert await documents.get("rounds", "a") is None


async def test_opening_without_a_server_fails_clearly(proxy, database, quickly):
    proxy.away = True
    with pytest.raises(StoreUnavailable, match="did not answer"):
        await open_mongo(proxy.url, database)
    proxy.away, proxy.silent = False, True
    with pytest.raises(StoreUnavailable, match="did not answer"):
        await open_mongo(proxy.url, database)
    with pytest.raises(StoreDenied, match="MONGODB_URL"):
        await open_mongo("http://elsewhere", database)


@pytest.mark.parametrize("option", ["tlsCAFile", "tlsCertificateKeyFile"])
@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_certificate_file_that_cannot_be_used_is_said(tmp_path, option, content):
    path = tmp_path / "certificate.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StoreDenied, match="MONGODB_URL names a certificate file"):
        await open_mongo(f"mongodb://127.0.0.1:1/?tls=true&{option}={path}", "test")


async def test_what_is_too_large_for_the_database_is_refused_and_not_told(opened):
    documents, blobs = opened
    large = "x" * (17 * 1024**2)
    for call in (
        documents.insert("rounds", "a", {"text": large}),
        documents.replace("rounds", "a", 1, {"text": large}),
        blobs.put("x", large.encode()),
    ):
        with pytest.raises(StoreRefused) as caught:
            await call
        assert len(caught.value.message) < 500
    assert await documents.insert("rounds", "a", {})


async def test_every_write_is_for_a_majority_and_the_journal_and_every_read_of_one(opened, proxy):
    documents, blobs = opened
    await documents.insert("rounds", "a", {})
    for said in await each(documents, blobs):
        assert not isinstance(said, Exception)
    written = [c for c in proxy.commands if WRITES & c.keys()]
    read = [c for c in proxy.commands if READS & c.keys()]
    assert len(written) >= 7 and len(read) >= 8
    assert all(c["writeConcern"] == {"w": "majority", "j": True} for c in written)
    assert all(c["readConcern"]["level"] == "majority" for c in read)


async def test_a_key_that_a_minority_says_is_taken_is_not_said_to_be(opened, proxy):
    """Who took it may be rolled back: the write concern failed beside the duplicate key."""
    documents, blobs = opened
    await documents.insert("rounds", "a", {})
    assert await documents.insert("rounds", "a", {}) is False

    def unsure(name, answer):
        error = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting timed out"}
        return {**answer, "writeConcernError": error} if name in WRITES else answer

    proxy.change = unsure
    for call in (
        documents.insert("rounds", "a", {}),
        documents.insert("rounds", "b", {}),
        documents.replace("rounds", "a", 1, {}),
        blobs.put("x", b"x"),
        blobs.put("x", b"x"),
        blobs.delete("x"),
    ):
        with pytest.raises(StoreUnavailable, match="waiting timed out"):
            await call


@pytest.mark.parametrize(
    ("code", "name", "kind"),
    [
        (13, "Unauthorized", StoreDenied),
        (18, "AuthenticationFailed", StoreDenied),
        (8000, "AtlasError", StoreDenied),
        (10334, "BSONObjectTooLarge", StoreRefused),
        (91, "ShutdownInProgress", StoreUnavailable),
        (50, "MaxTimeMSExpired", StoreUnavailable),
        (14031, "OutOfDiskSpace", StoreUnavailable),
    ],
)
async def test_a_fault_that_lasts_is_not_told_as_one_that_passes(
    opened, proxy, quickly, code, name, kind
):
    documents, blobs = opened
    await documents.insert("rounds", "a", {})

    def refuse(asked, answer):
        if asked not in WRITES | READS:
            return answer
        return {"ok": 0.0, "code": code, "codeName": name, "errmsg": f"no, {name}"}

    proxy.change = refuse
    for said in await each(documents, blobs):
        assert type(said) is kind
        assert kind is StoreUnavailable or name in said.message


async def test_many_processes_may_open_a_new_database_at_once(mongodb_url, database):
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", OPEN_AND_INSERT, mongodb_url, database, str(n)),
            stderr=subprocess.PIPE,
        )
        for n in range(4)
    ]
    for process in processes:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    documents, _ = await open_mongo(mongodb_url, database)
    assert await documents.count("rounds", "") == 40
    await documents.close()


async def test_listing_sizes_reads_no_data(opened):
    documents, blobs = opened
    await blobs.put("a/1", b"x" * 1000)
    listed = await documents._database["blob_sizes"].find({}).to_list(None)
    assert listed == [{"_id": "a/1", "size": 1000}]
    await documents._database["blobs"].delete_many({})
    assert await blobs.sizes("a/") == {"a/1": 1000}


def dying_before(proxy, command, collection):
    """The process ends before this command: the proxy lets neither it nor a later one through."""

    def heard(sent):
        if sent.get(command) == collection:
            proxy.away = True
            proxy.cut()

    proxy.hear = heard


async def test_a_part_is_listed_once_its_data_is_there(opened, proxy, quickly):
    """Else a commit finds that it is there, and then that it is not."""
    _, blobs = opened
    dying_before(proxy, "insert", "blob_sizes")
    with pytest.raises(StoreUnavailable):
        await blobs.put("a/1", b"x")
    proxy.quiet()
    assert await blobs.sizes("") == {}
    assert await blobs.get("a/1") == b"x"
    await blobs.put("a/1", b"x")  # the client sends it again
    assert await blobs.sizes("") == {"a/1": 1}
    await blobs.delete("a/1")
    dying_before(proxy, "insert", "blobs")
    with pytest.raises(StoreUnavailable):
        await blobs.put("a/1", b"x")
    proxy.quiet()
    assert await blobs.sizes("") == {}


@pytest.mark.parametrize("collection", ["blobs", "blob_sizes"])
async def test_what_a_deletion_leaves_that_died_is_listed_and_goes_with_the_next(
    opened, proxy, quickly, collection
):
    documents, blobs = opened
    for n in range(3):
        await blobs.put(f"a/{n}", b"x")
    dying_before(proxy, "delete", collection)
    with pytest.raises(StoreUnavailable):
        await blobs.delete("a/")
    proxy.quiet()
    kept = {d["_id"] for d in await documents._database["blobs"].find({}, {"_id": 1}).to_list(9)}
    assert kept <= set(await blobs.sizes("a/"))  # a sweep goes by what is listed
    assert await blobs.sizes("a/")
    await blobs.delete("a/")
    assert await blobs.sizes("a/") == {}
    assert await documents._database["blobs"].count_documents({}) == 0


async def test_more_blobs_than_one_operation_takes_are_deleted(opened, monkeypatch):
    monkeypatch.setattr(mongo, "_AT_ONCE", 3)
    documents, blobs = opened
    for n in range(8):
        await blobs.put(f"a/{n}", b"x")
    await blobs.put("b", b"x")
    await documents._database["blobs"].insert_one({"_id": "a/unlisted", "data": b"x"})
    await blobs.delete("a/")
    assert await blobs.sizes("") == {"b": 1}
    assert await documents._database["blobs"].count_documents({}) == 1


async def test_finding_by_the_second_name_holds_the_indexs_filter(opened, monkeypatch):
    """Else MongoDB reads the whole collection: an equality alone does not imply `$type` to it.

    The server of these tests cannot say which index it takes, so the query is looked at.
    """
    documents, _ = opened
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

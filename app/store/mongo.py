"""MongoDB through motor, and whatever speaks its protocol. The only file that knows motor.

Writes wait for a majority and the journal, reads come from the primary and give only what a
majority has: an answered write is durable, later reads see it, and nothing that was read is ever
rolled back. Each write is one operation on one document (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pymongo
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pydantic_core import from_json
from pymongo import InsertOne, ReadPreference, WriteConcern
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.read_concern import ReadConcern

from app.store.mongo_faults import FOREIGN, is_duplicate, translated
from app.store.port import KINDS_WITH_SECOND_NAMES, Body, Document
from serverless_fl.domain.errors import StoreDenied, StoreRefused, StoreUnavailable

# A Lambda must answer within 29 seconds, the driver's own limits are 30 for each of many tries.
SELECTION_MS = 3000  # to find a server and to connect to it
OPERATION_MS = 5000  # of documents, all in all: selection, answer, and each new try
BLOB_MS = 15_000  # the same of a blob: 8 MiB take as long at 4.5 Mbit/s
IDLE_MS = 60_000  # of a connection: a container that was frozen for longer holds dead ones
CLOSE_MS = 500  # to take leave of the server: the next one may be waited for meanwhile
SCHEMES = ("mongodb://", "mongodb+srv://")
_LARGEST = 16 * 1024**2 - 16 * 1024  # bytes of a document, without its key and names
_AT_ONCE = 32  # blobs that one operation deletes
INDEXED = {"$type": "string"}  # second names that are in the index; others have none


@asynccontextmanager
async def _translated(milliseconds: int | None = None) -> AsyncIterator[None]:
    """Ends in time, and raises only StoreUnavailable and its subclasses.

    The driver counts from when one of motor's few threads begins the call, and where a server
    hangs they are all taken: so the wait for a thread is bounded here, too.
    """
    seconds = (milliseconds or OPERATION_MS) / 1000
    try:
        async with asyncio.timeout(seconds + 1):
            with pymongo.timeout(seconds):
                yield
    except TimeoutError as error:
        raise StoreUnavailable(f"The database did not answer in {seconds:g} s.") from error
    except FOREIGN as error:
        raise translated(error) from error


async def _insert(
    collection: AsyncIOMotorCollection[Any],
    document: dict[str, Any],
    milliseconds: int | None = None,
) -> bool:
    """Insert unless the key is taken; say if it was.

    A bulk of one: of a single insert the driver says only that the key was taken, and not that the
    write concern failed beside it.
    """
    async with _translated(milliseconds):
        try:
            await collection.bulk_write([InsertOne(document)])
        except BulkWriteError as error:
            if is_duplicate(error):
                return False
            raise
    return True


def _range(prefix: str) -> dict[str, Any]:
    """Keys that start with `prefix`: below the prefix with its last character moved on by one."""
    head = prefix.rstrip("\U0010ffff")  # the last character there is cannot be moved on
    if not head:
        return {"$gte": prefix}
    # Surrogates, U+D800 to U+DFFF, are no characters.
    following = 0xE000 if head[-1] == "\ud7ff" else ord(head[-1]) + 1
    return {"$gte": prefix, "$lt": head[:-1] + chr(following)}


class MongoDocuments:
    """`app.store.port.Documents`: a collection a kind, `_id` the key.

    Bodies are kept as JSON text: every value comes back exactly as it went in, and field names may
    hold the dots and dollars that MongoDB reads as operators.
    """

    def __init__(self, client: AsyncIOMotorClient[Any], database: str) -> None:
        self._client = client
        self._database = client.get_database(
            database,
            write_concern=WriteConcern(w="majority", j=True),
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )

    def _collection(self, kind: str) -> AsyncIOMotorCollection[Any]:
        return self._database[kind]

    async def insert(self, kind: str, key: str, body: Body, *, unique: str | None = None) -> bool:
        document: dict[str, Any] = {"_id": key, "revision": 1, "body": _dump(body)}
        if unique is not None:
            document["unique"] = unique
        return await _insert(self._collection(kind), document)

    async def get(self, kind: str, key: str) -> Document | None:
        async with _translated():
            return _document(await self._collection(kind).find_one({"_id": key}))

    async def find(self, kind: str, unique: str) -> Document | None:
        # MongoDB takes a partial index only for a query that implies the index's filter, and of an
        # equality it does not see that: without the filter it would read the whole collection.
        wanted = {"unique": {"$eq": unique, **INDEXED}}
        async with _translated():
            return _document(await self._collection(kind).find_one(wanted))

    async def replace(self, kind: str, key: str, revision: int, body: Body) -> bool:
        async with _translated():
            result = await self._collection(kind).update_one(
                {"_id": key, "revision": revision},
                {"$set": {"revision": revision + 1, "body": _dump(body)}},
            )
            return result.matched_count == 1

    async def keys(self, kind: str, prefix: str) -> list[str]:
        async with _translated():
            cursor = self._collection(kind).find({"_id": _range(prefix)}, {"_id": 1})
            return [d["_id"] for d in await cursor.sort("_id", 1).to_list(None)]

    async def count(self, kind: str, prefix: str) -> int:
        async with _translated():
            return int(await self._collection(kind).count_documents({"_id": _range(prefix)}))

    async def last_key(self, kind: str, prefix: str) -> str | None:
        async with _translated():
            found = await self._collection(kind).find_one(
                {"_id": _range(prefix)}, {"_id": 1}, sort=[("_id", -1)]
            )
            return None if found is None else str(found["_id"])

    async def scan(
        self, kind: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[Document]:
        bounds = _range(prefix)
        if after >= prefix:
            del bounds["$gte"]
            bounds["$gt"] = after
        async with _translated():
            cursor = self._collection(kind).find({"_id": bounds}).sort("_id", 1).limit(limit)
            found = [_document(d) for d in await cursor.to_list(limit)]
            return [d for d in found if d is not None]

    async def delete(self, kind: str, prefix: str) -> None:
        async with _translated():
            await self._collection(kind).delete_many({"_id": _range(prefix)})

    async def check(self) -> None:
        async with _translated():
            await self._collection("probe").update_one(
                {"_id": "probe"}, {"$inc": {"revision": 1}}, upsert=True
            )

    async def close(self) -> None:
        # In a thread: it tells the server of its sessions' end, which a server that hangs delays.
        with suppress(StoreUnavailable):
            async with _translated(CLOSE_MS):
                await asyncio.to_thread(self._client.close)


class MongoBlobs:
    """`app.store.port.Blobs`: a document a blob; parts are far below MongoDB's 16 MB.

    Sizes stand in a collection of their own, or listing them would fetch all the data: no index
    covers a field that is not in it, and an upload's parts are listed with every part that comes.
    A blob is listed once its data is there, and until after it is gone: what a process leaves that
    dies in the middle of a deletion is listed, and so the next sweep finds it.
    """

    def __init__(self, documents: MongoDocuments) -> None:
        self._blobs = documents._collection("blobs")
        self._sizes = documents._collection("blob_sizes")

    async def put(self, key: str, data: bytes) -> None:
        _require_fits(len(data))
        # Where it is there already it is the same: keys hold digests.
        await _insert(self._blobs, {"_id": key, "data": data}, BLOB_MS)
        await _insert(self._sizes, {"_id": key, "size": len(data)})

    async def get(self, key: str) -> bytes | None:
        async with _translated(BLOB_MS):
            found = await self._blobs.find_one({"_id": key})
            return None if found is None else bytes(found["data"])

    async def sizes(self, prefix: str) -> dict[str, int]:
        async with _translated():
            cursor = self._sizes.find({"_id": _range(prefix)}).sort("_id", 1)
            return {d["_id"]: int(d["size"]) for d in await cursor.to_list(None)}

    async def delete(self, prefix: str) -> None:
        # In steps, each of which ends in time: a database may take a minute to delete gigabytes.
        listed = list(await self.sizes(prefix))
        for start in range(0, len(listed), _AT_ONCE):
            page = {"$in": listed[start : start + _AT_ONCE]}
            await self._delete(page)
        await self._delete(_range(prefix))  # and what came meanwhile

    async def _delete(self, keys: dict[str, Any]) -> None:
        async with _translated(BLOB_MS):
            await self._blobs.delete_many({"_id": keys})
        async with _translated():
            await self._sizes.delete_many({"_id": keys})


def _dump(body: Body) -> str:
    """Raises StoreRefused, ValueError."""
    text = json.dumps(body, allow_nan=False, separators=(",", ":"))  # all of it ASCII
    _require_fits(len(text))
    return text


def _require_fits(size: int) -> None:
    """Raises StoreRefused. Not every driver's call and not every server says it."""
    if size > _LARGEST:
        raise StoreRefused(f"MongoDB takes {_LARGEST} bytes in a document, and not {size}.")


def _document(found: dict[str, Any] | None) -> Document | None:
    if found is None:
        return None
    return Document(found["_id"], found["revision"], from_json(found["body"]))


async def open_mongo(url: str, database: str) -> tuple[MongoDocuments, MongoBlobs]:
    """Connect and make sure of the indexes. Raises StoreUnavailable."""
    # The driver takes anything else for a host, and names it when that does not answer. It may be
    # a secret that was pasted into the wrong field.
    if not url.startswith(SCHEMES):
        raise StoreDenied(
            f"MONGODB_URL is no MongoDB connection string: one begins with {' or '.join(SCHEMES)}."
        )
    try:
        client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(
            url,
            serverSelectionTimeoutMS=SELECTION_MS,
            connectTimeoutMS=SELECTION_MS,
            maxIdleTimeMS=IDLE_MS,
            appname="serverless-fl",
        )
    except (PyMongoError, ValueError, OSError) as error:
        # What the driver says may quote a piece of the password, its chain of errors too.
        if isinstance(error, OSError) or "certificate" in str(error):
            fault = "names a certificate file that cannot be used"
        else:
            fault = (
                "is no MongoDB connection string. Special characters in its user name and password "
                "must be percent-encoded"
            )
        raise StoreDenied(f"MONGODB_URL {fault}.") from None
    documents = MongoDocuments(client, database)
    try:
        async with _translated():
            await asyncio.gather(  # a cold start waits for one round trip, not for each
                *(
                    documents._collection(kind).create_index(
                        "unique",
                        unique=True,
                        partialFilterExpression={"unique": INDEXED},
                    )
                    for kind in KINDS_WITH_SECOND_NAMES
                )
            )
    except StoreUnavailable:
        client.close()
        raise
    return documents, MongoBlobs(documents)

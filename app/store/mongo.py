"""The store in MongoDB, or in a database that speaks its protocol. Only this file imports motor.

A write waits for a majority and the journal, so an answered write is durable. A read asks the
primary and returns only data that a majority has: it sees every answered write, and nothing that it
returns is rolled back later. Each write is one operation on one document (docs/decisions/0003).
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

# The driver waits 30 seconds for each of many tries, but a Lambda must answer within 29 seconds.
SELECTION_MS = 3000  # to find a server, and to connect to it
OPERATION_MS = 5000  # for a document, with all tries
BLOB_MS = 15_000  # for a blob, with all tries: 8 MiB take 15 s at 4.5 Mbit/s
IDLE_MS = 60_000  # a container that was frozen for longer may hold dead connections
CLOSE_MS = 500  # to close: the start of the next coordinator may wait for it
SCHEMES = ("mongodb://", "mongodb+srv://")
_LARGEST = 16 * 1024**2 - 16 * 1024  # bytes in a document, without its key and field names
_AT_ONCE = 32  # the most blobs that one operation deletes
INDEXED = {"$type": "string"}  # the index holds only documents with a second name


@asynccontextmanager
async def _translated(milliseconds: int | None = None) -> AsyncIterator[None]:
    """Bound the time of a call, and raise only StoreUnavailable and its subclasses.

    The driver's own time begins when one of motor's few threads begins the call. A server that
    hangs occupies all threads, so this bounds the wait for a thread as well.
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
    """Insert unless the key exists; return whether it did.

    This is a bulk write of one document, because for a single insert the driver reports only that
    the key exists, and hides a write concern that failed.
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
    """Match the keys that start with `prefix`: below the prefix with its last character raised."""
    head = prefix.rstrip("\U0010ffff")  # no character follows this one
    if not head:
        return {"$gte": prefix}
    # U+D800 to U+DFFF are surrogates, which no key can hold.
    following = 0xE000 if head[-1] == "\ud7ff" else ord(head[-1]) + 1
    return {"$gte": prefix, "$lt": head[:-1] + chr(following)}


class MongoDocuments:
    """`app.store.port.Documents`: each kind is a collection, and the key is the `_id`.

    A body is stored as JSON text, so each value comes back unchanged, and field names may hold dots
    and dollars, which MongoDB would read as operators.
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
        # MongoDB uses a partial index only if the query implies the index's filter, and does not
        # see that an equality implies it. Without the filter it would read the whole collection.
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
        # In a thread, because the driver ends its sessions with a call that a hanging server
        # delays.
        with suppress(StoreUnavailable):
            async with _translated(CLOSE_MS):
                await asyncio.to_thread(self._client.close)


class MongoBlobs:
    """`app.store.port.Blobs`: one document a blob; a part is far below MongoDB's 16 MB.

    A collection of its own holds the sizes. Otherwise a listing would read all the data, because no
    index covers the size, and the coordinator lists an upload's parts for every new part.
    The size is written after the data and deleted after it. So if a process dies within a deletion,
    the blob is still listed, and the next cleanup finds it.
    """

    def __init__(self, documents: MongoDocuments) -> None:
        self._blobs = documents._collection("blobs")
        self._sizes = documents._collection("blob_sizes")

    async def put(self, key: str, data: bytes) -> None:
        _require_fits(len(data))
        # A blob with this key has the same bytes, because the key holds their digest.
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
        # In steps that each end in time, because a database may take a minute to delete gigabytes.
        listed = list(await self.sizes(prefix))
        for start in range(0, len(listed), _AT_ONCE):
            page = {"$in": listed[start : start + _AT_ONCE]}
            await self._delete(page)
        await self._delete(_range(prefix))  # blobs that were stored meanwhile

    async def _delete(self, keys: dict[str, Any]) -> None:
        async with _translated(BLOB_MS):
            await self._blobs.delete_many({"_id": keys})
        async with _translated():
            await self._sizes.delete_many({"_id": keys})


def _dump(body: Body) -> str:
    """Write a body as JSON. Raises StoreRefused, and ValueError for NaN or infinity."""
    text = json.dumps(body, allow_nan=False, separators=(",", ":"))  # ASCII: a character is a byte
    _require_fits(len(text))
    return text


def _require_fits(size: int) -> None:
    """Raise StoreRefused for a document that is too large: not every server refuses it clearly."""
    if size > _LARGEST:
        raise StoreRefused(
            f"MongoDB takes at most {_LARGEST} bytes in a document, but this one has {size}."
        )


def _document(found: dict[str, Any] | None) -> Document | None:
    if found is None:
        return None
    return Document(found["_id"], found["revision"], from_json(found["body"]))


async def open_mongo(url: str, database: str) -> tuple[MongoDocuments, MongoBlobs]:
    """Connect, and create the indexes if they are missing. Raises StoreUnavailable."""
    # The driver takes any other text for a host's name and quotes it in its errors. The text may be
    # a secret in the wrong field.
    if not url.startswith(SCHEMES):
        raise StoreDenied(
            "MONGODB_URL is no MongoDB connection string: it must begin with "
            f"{' or '.join(SCHEMES)}."
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
        # The driver's message, or an error that caused it, may quote a piece of the password.
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
            await asyncio.gather(  # a cold start waits for one round trip instead of two
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

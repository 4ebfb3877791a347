"""A guard against the wrong blob store (docs/decisions/0029).

An operator may start a coordinator with another bucket than before, or without one. There every key
is absent, and the coordinator would conclude that all weights were lost. So the blob store holds a
marker, and a document holds the marker's content. If the two differ, the blob store is the wrong
one.
"""

from __future__ import annotations

import secrets

from app.store.port import (
    STORE_OF_WEIGHTS,
    Blobs,
    DirectBlobs,
    Document,
    Documents,
    SignedRequest,
)
from serverless_fl.domain.errors import WrongStore

MARKER = "store/identity"  # a blob's key; `aws s3 sync` copies the marker to another bucket, too
KIND, KEY = "stores", "blobs"  # the document that names the blob store


class IdentifiedBlobs:
    """`app.store.port.Blobs` that compares the marker before it uses the blob store.

    It compares the marker at the first use, and again before it says that a key is absent. Each
    method raises WrongStore.
    """

    def __init__(self, documents: Documents, blobs: Blobs) -> None:
        self._documents, self._blobs = documents, blobs
        self._identity: str | None = None  # None until the marker was compared

    async def put(self, key: str, data: bytes) -> None:
        await self._prove()
        await self._blobs.put(key, data)

    async def get(self, key: str) -> bytes | None:
        await self._prove()
        found = await self._blobs.get(key)
        if found is None and await self._marker() != self._identity:
            self._identity = None
            raise _wrong()
        return found

    async def sizes(self, prefix: str) -> dict[str, int]:
        await self._prove()
        return await self._blobs.sizes(prefix)

    async def delete(self, prefix: str) -> None:
        await self._prove()
        await self._blobs.delete(prefix)

    async def _marker(self) -> str | None:
        found = await self._blobs.get(MARKER)
        return None if found is None else found.decode(errors="replace")

    async def _prove(self) -> None:
        """Raises WrongStore."""
        while self._identity is None:
            known = await self._documents.get(KIND, KEY)
            if known is None:
                await self._record()
                continue
            marker = await self._marker()
            if not known.body["marked"]:
                await self._mark(known, marker)
            elif known.body["identity"] == marker:
                self._identity = marker
            elif await self._documents.last_key("experiments", "") is None:
                await self._adopt(known, marker)  # no experiment can have weights elsewhere
            else:
                raise _wrong()

    # Each of the following is one write, and any process can go on where another one died. The
    # documents decide on a name, then a process writes the marker, then the documents record that
    # the marker is written. After that no process writes it again.

    async def _record(self) -> None:
        marker = await self._marker()  # another database may have marked this blob store
        await self._documents.insert(KIND, KEY, _body(marker))

    async def _mark(self, known: Document, marker: str | None) -> None:
        if marker is None:
            await self._blobs.put(MARKER, known.body["identity"].encode())
            marker = await self._marker()
        await self._adopt(known, marker)

    async def _adopt(self, known: Document, marker: str | None) -> None:
        await self._documents.replace(KIND, KEY, known.revision, _body(marker))


class IdentifiedDirectBlobs(IdentifiedBlobs):
    """`app.store.port.DirectBlobs` that compares the marker before it uses the blob store."""

    def __init__(self, documents: Documents, blobs: DirectBlobs) -> None:
        super().__init__(documents, blobs)
        self._direct = blobs

    async def sign_put(
        self, key: str, sha256: str, size: int, *, seconds: int | None = None
    ) -> SignedRequest:
        await self._prove()
        return await self._direct.sign_put(key, sha256, size, seconds=seconds)

    async def sign_get(self, key: str) -> SignedRequest:
        await self._prove()
        return await self._direct.sign_get(key)


def identified(documents: Documents, blobs: Blobs) -> Blobs:
    """Wrap a blob store, so that it works only if it belongs to these documents."""
    if isinstance(blobs, DirectBlobs):
        return IdentifiedDirectBlobs(documents, blobs)
    return IdentifiedBlobs(documents, blobs)


def _body(marker: str | None) -> dict[str, object]:
    return {"identity": marker or secrets.token_hex(16), "marked": marker is not None}


def _wrong() -> WrongStore:
    return WrongStore(
        f"{STORE_OF_WEIGHTS} does not belong to the experiments in this database: its marker "
        f"{MARKER!r} is missing or a different one. Set FL_S3_BUCKET as it was (or leave it out, "
        "as before), or copy the content of the old store here, including the marker.",
        store=STORE_OF_WEIGHTS,
    )

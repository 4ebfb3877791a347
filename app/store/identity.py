"""Which blob store holds the experiments' weights, so that another one is never taken for it.

A coordinator may be started with another bucket than before, or without one. Every key is absent
there, and from that nobody may conclude that weights were lost. So the blob store holds a marker,
and the documents hold its content: a blob store whose marker says something else is the wrong one.
"""

from __future__ import annotations

import secrets

from app.store.port import Blobs, DirectBlobs, Document, Documents, SignedRequest
from serverless_fl.domain.errors import WrongStore

MARKER = "store/identity"  # a blob; `aws s3 sync` to another bucket takes it along
KIND, KEY = "stores", "blobs"  # of the document that names the blob store


class IdentifiedBlobs:
    """`app.store.port.Blobs` that are used only once they have proven to be the right ones.

    They prove it at the first use, and again before they say that a key is absent. Each method
    raises WrongStore.
    """

    def __init__(self, documents: Documents, blobs: Blobs) -> None:
        self._documents, self._blobs = documents, blobs
        self._identity: str | None = None  # once proven

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
                await self._adopt(known, marker)  # it held nothing for us
            else:
                raise _wrong()

    # Each of these is one write, and whoever dies before the next one leaves it to others: the
    # documents decide on a name, then the marker is written, then nobody may write it any more.

    async def _record(self) -> None:
        marker = await self._marker()  # of another database that keeps its weights here as well
        await self._documents.insert(KIND, KEY, _body(marker))

    async def _mark(self, known: Document, marker: str | None) -> None:
        if marker is None:
            await self._blobs.put(MARKER, known.body["identity"].encode())
            marker = await self._marker()
        await self._adopt(known, marker)

    async def _adopt(self, known: Document, marker: str | None) -> None:
        await self._documents.replace(KIND, KEY, known.revision, _body(marker))


class IdentifiedDirectBlobs(IdentifiedBlobs):
    """`app.store.port.DirectBlobs`, likewise."""

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
    """The blob store, which makes sure that it is the one that these documents speak of."""
    if isinstance(blobs, DirectBlobs):
        return IdentifiedDirectBlobs(documents, blobs)
    return IdentifiedBlobs(documents, blobs)


def _body(marker: str | None) -> dict[str, object]:
    return {"identity": marker or secrets.token_hex(16), "marked": marker is not None}


def _wrong() -> WrongStore:
    return WrongStore(
        "The store of weights is not the one that the experiments in this database were made with: "
        f"its marker {MARKER!r} is missing or another one. Set FL_S3_BUCKET (or leave it out) as "
        "it was, or copy the old store's content here, marker included.",
        store="The store of weights",
    )

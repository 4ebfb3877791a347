"""A wrapper around any store that times and traces each of its calls."""

from __future__ import annotations

from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

from app.store.port import Blobs, Body, DirectBlobs, Document, Documents, SignedRequest
from app.telemetry import metrics, trace

T = TypeVar("T")


class _Observed:
    def __init__(self, adapter: str) -> None:
        self._adapter = adapter

    async def _timed(self, operation: str, call: Awaitable[T]) -> T:
        started = perf_counter()
        try:
            with trace.span(f"store {operation}", adapter=self._adapter):
                return await call
        except Exception:
            metrics.STORE_FAILURES.add(1, operation, self._adapter)
            raise
        finally:
            metrics.STORE_SECONDS.observe(perf_counter() - started, operation, self._adapter)


class ObservedDocuments(_Observed):
    """`app.store.port.Documents`, timed and traced."""

    def __init__(self, inner: Documents, adapter: str) -> None:
        super().__init__(adapter)
        self._inner = inner

    async def insert(self, kind: str, key: str, body: Body, *, unique: str | None = None) -> bool:
        return await self._timed("insert", self._inner.insert(kind, key, body, unique=unique))

    async def get(self, kind: str, key: str) -> Document | None:
        return await self._timed("get", self._inner.get(kind, key))

    async def find(self, kind: str, unique: str) -> Document | None:
        return await self._timed("find", self._inner.find(kind, unique))

    async def replace(self, kind: str, key: str, revision: int, body: Body) -> bool:
        return await self._timed("replace", self._inner.replace(kind, key, revision, body))

    async def keys(self, kind: str, prefix: str) -> list[str]:
        return await self._timed("keys", self._inner.keys(kind, prefix))

    async def last_key(self, kind: str, prefix: str) -> str | None:
        return await self._timed("last key", self._inner.last_key(kind, prefix))

    async def count(self, kind: str, prefix: str) -> int:
        return await self._timed("count", self._inner.count(kind, prefix))

    async def scan(
        self, kind: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[Document]:
        return await self._timed("scan", self._inner.scan(kind, prefix, after=after, limit=limit))

    async def delete(self, kind: str, prefix: str) -> None:
        await self._timed("delete", self._inner.delete(kind, prefix))

    async def check(self) -> None:
        await self._timed("check", self._inner.check())

    async def close(self) -> None:
        await self._inner.close()


class ObservedBlobs(_Observed):
    """`app.store.port.Blobs`, timed and traced."""

    def __init__(self, inner: Blobs, adapter: str) -> None:
        super().__init__(adapter)
        self._inner = inner

    async def put(self, key: str, data: bytes) -> None:
        await self._timed("blob put", self._inner.put(key, data))

    async def get(self, key: str) -> bytes | None:
        return await self._timed("blob get", self._inner.get(key))

    async def sizes(self, prefix: str) -> dict[str, int]:
        return await self._timed("blob sizes", self._inner.sizes(prefix))

    async def delete(self, prefix: str) -> None:
        await self._timed("blob delete", self._inner.delete(prefix))


class ObservedDirectBlobs(ObservedBlobs):
    """`app.store.port.DirectBlobs`. Signing makes no call to the store, so it is not timed."""

    def __init__(self, inner: DirectBlobs, adapter: str) -> None:
        super().__init__(inner, adapter)
        self._direct = inner

    async def sign_put(
        self, key: str, sha256: str, size: int, *, seconds: int | None = None
    ) -> SignedRequest:
        return await self._direct.sign_put(key, sha256, size, seconds=seconds)

    async def sign_get(self, key: str) -> SignedRequest:
        return await self._direct.sign_get(key)


def observed(
    documents: Documents, blobs: Blobs, adapter: str, blob_adapter: str
) -> tuple[Documents, Blobs]:
    """Wrap both ports; metrics and traces carry the names of their adapters."""
    kept = (
        ObservedDirectBlobs(blobs, blob_adapter)
        if isinstance(blobs, DirectBlobs)
        else ObservedBlobs(blobs, blob_adapter)
    )
    return ObservedDocuments(documents, adapter), kept

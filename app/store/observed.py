"""A wrapper around any store that times and traces each of its calls.

A poll makes six calls of the store. So the methods return the coroutine of `_timed` itself: another
coroutine around each would take as long as the timing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from app.store.port import Blobs, Body, DirectBlobs, Document, Documents, SignedRequest
from app.telemetry import metrics
from serverless_fl import tracing

T = TypeVar("T")
P = ParamSpec("P")
Call = Coroutine[Any, Any, T]


class _Observed:
    def __init__(self, adapter: str) -> None:
        self._adapter = adapter

    async def _timed(
        self,
        operation: str,
        call: Callable[P, Awaitable[T]],
        *args: P.args,
        **named: P.kwargs,
    ) -> T:
        started = perf_counter()
        try:
            if not tracing.is_on():
                return await call(*args, **named)
            with tracing.span(f"store {operation}", adapter=self._adapter):
                return await call(*args, **named)
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

    def insert(self, kind: str, key: str, body: Body, *, unique: str | None = None) -> Call[bool]:
        return self._timed("insert", self._inner.insert, kind, key, body, unique=unique)

    def get(self, kind: str, key: str) -> Call[Document | None]:
        return self._timed("get", self._inner.get, kind, key)

    def find(self, kind: str, unique: str) -> Call[Document | None]:
        return self._timed("find", self._inner.find, kind, unique)

    def replace(self, kind: str, key: str, revision: int, body: Body) -> Call[bool]:
        return self._timed("replace", self._inner.replace, kind, key, revision, body)

    def keys(self, kind: str, prefix: str) -> Call[list[str]]:
        return self._timed("keys", self._inner.keys, kind, prefix)

    def last_key(self, kind: str, prefix: str) -> Call[str | None]:
        return self._timed("last key", self._inner.last_key, kind, prefix)

    def count(self, kind: str, prefix: str) -> Call[int]:
        return self._timed("count", self._inner.count, kind, prefix)

    def scan(
        self, kind: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> Call[list[Document]]:
        return self._timed("scan", self._inner.scan, kind, prefix, after=after, limit=limit)

    def delete(self, kind: str, prefix: str) -> Call[None]:
        return self._timed("delete", self._inner.delete, kind, prefix)

    def check(self) -> Call[None]:
        return self._timed("check", self._inner.check)

    async def close(self) -> None:
        await self._inner.close()


class ObservedBlobs(_Observed):
    """`app.store.port.Blobs`, timed and traced."""

    def __init__(self, inner: Blobs, adapter: str) -> None:
        super().__init__(adapter)
        self._inner = inner

    def put(self, key: str, data: bytes) -> Call[None]:
        return self._timed("blob put", self._inner.put, key, data)

    def get(self, key: str) -> Call[bytes | None]:
        return self._timed("blob get", self._inner.get, key)

    def sizes(self, prefix: str) -> Call[dict[str, int]]:
        return self._timed("blob sizes", self._inner.sizes, prefix)

    def delete(self, prefix: str) -> Call[None]:
        return self._timed("blob delete", self._inner.delete, prefix)


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

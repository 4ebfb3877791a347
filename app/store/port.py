"""What the service needs of a database and of a blob store.

Two short ports. Every write is an insert-if-absent or a compare-and-set on one document; there are
no transactions, so that any database that can do these two atomically will serve.
`tests/app/store/test_contract.py` is the adapters' specification.

An adapter translates every fault of its driver, and raises nothing but these:

    StoreUnavailable    the store is away, slow or full: the same call may succeed later
        StoreDenied     it cannot be used as it is: rights, keys, region, clock, a broken file
        StoreMissing    there is no such bucket or file
        WrongStore      the blob store is another one than before (`app.store.identity`)
        StoreRefused    it does not take this document, blob or key

The last four last until an operator acts. None of them says that anything is lost: only None from
`Blobs.get` does, and `app.store.identity` returns it only from the right blob store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

Body = dict[str, Any]  # JSON values only
KINDS_WITH_SECOND_NAMES = ("experiments", "clients")  # `unique` is for these; they are indexed


@dataclass(frozen=True)
class Document:
    """A stored document. `revision` grows by one with each replacement, from 1.

    Nobody changes `body`.
    """

    key: str
    revision: int
    body: Body


class Documents(Protocol):
    """Documents by kind and key. Keys sort by their UTF-8 bytes; `/` separates their parts."""

    async def insert(self, kind: str, key: str, body: Body, *, unique: str | None = None) -> bool:
        """Insert if neither `key` nor, where given, `unique` is taken in this kind; say if it was.

        `unique` is a second name of the document, for `find`. Atomic, and durable on return.
        """
        ...

    async def get(self, kind: str, key: str) -> Document | None:
        """The document as of the last completed write, by any process.

        A primary of MongoDB that was just deposed may not know of the last few writes. It never
        returns what a majority does not have, and so nothing that is rolled back later.
        """
        ...

    async def find(self, kind: str, unique: str) -> Document | None:
        """The document that was inserted with this second name."""
        ...

    async def replace(self, kind: str, key: str, revision: int, body: Body) -> bool:
        """Replace the body if the revision is still this one; say if it was. Atomic, durable."""
        ...

    async def keys(self, kind: str, prefix: str) -> list[str]:
        """All keys that start with `prefix`, ascending. Sees every insert completed before."""
        ...

    async def count(self, kind: str, prefix: str) -> int:
        """How many keys start with `prefix`."""
        ...

    async def last_key(self, kind: str, prefix: str) -> str | None:
        """The last one of `keys`, without a look at the others."""
        ...

    async def scan(
        self, kind: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[Document]:
        """Up to `limit` documents whose keys start with `prefix` and are above `after`."""
        ...

    async def delete(self, kind: str, prefix: str) -> None:
        """Delete every document whose key starts with `prefix`. It may die half way, and is safe to
        repeat: only what nobody reads any more is deleted.
        """
        ...

    async def check(self) -> None:
        """Write something that nobody reads, and look for what writes rest on. It returns where
        what is written now is kept, and raises StoreUnavailable where it would be lost.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...


class Blobs(Protocol):
    """Immutable byte strings of a few MiB at most by key. Keys hold the digest of the content."""

    async def put(self, key: str, data: bytes) -> None:
        """Store; a key that is there already is left as it is. On return it survives this process,
        and a power cut at the latest when a document that is written afterwards does.
        """
        ...

    async def get(self, key: str) -> bytes | None:
        """The bytes, or None."""
        ...

    async def sizes(self, prefix: str) -> dict[str, int]:
        """Key and size in bytes of every blob whose key starts with `prefix`."""
        ...

    async def delete(self, prefix: str) -> None:
        """Delete every blob whose key starts with `prefix`."""
        ...


@dataclass(frozen=True)
class SignedRequest:
    """A request that its holder may make of the blob store itself, for so many seconds."""

    method: str
    url: str
    headers: Mapping[str, str]
    seconds: int


@runtime_checkable
class DirectBlobs(Blobs, Protocol):
    """A blob store that clients can reach themselves, so that weights pass the coordinator by."""

    async def sign_put(
        self, key: str, sha256: str, size: int, *, seconds: int | None = None
    ) -> SignedRequest:
        """Permission to store exactly these bytes under the key, where nothing is yet, for so many
        seconds or as long as the store's settings allow, whichever is shorter.
        """
        ...

    async def sign_get(self, key: str) -> SignedRequest:
        """Permission to read the key."""
        ...

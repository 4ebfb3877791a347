"""The two ports to storage: `Documents` (a database) and `Blobs` (files of weights).

Every write is an insert-if-absent or a compare-and-set on one document. There are no transactions,
so any database with these two atomic writes fits. `tests/app/store/test_contract.py` specifies the
adapters.

An adapter translates every fault of its driver, and raises only these errors:

    StoreUnavailable    the store is away, slow or full: the same call may succeed later
        StoreDenied     the store refuses the coordinator (rights, keys, clock), or is damaged
        StoreMissing    the bucket or the file does not exist
        WrongStore      the blob store is not the one of this database (`app.store.identity`)
        StoreRefused    the store refuses this document, blob or key

The last four remain until an operator acts. No error says that bytes are lost. Only None from
`Blobs.get` says so, and `app.store.identity` returns None only from the right blob store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

Body = dict[str, Any]  # JSON values only
STORE_OF_WEIGHTS = "The store of weights"  # the blob store's name in errors
KINDS_WITH_SECOND_NAMES = ("experiments", "clients")  # indexed; only they may have a `unique` name


@dataclass(frozen=True)
class Document:
    """A stored document. `revision` starts at 1 and grows by one with each replacement.

    A reader must not change `body`.
    """

    key: str
    revision: int
    body: Body


class Documents(Protocol):
    """Documents by kind and key. Keys sort by their UTF-8 bytes; `/` separates their parts."""

    async def insert(self, kind: str, key: str, body: Body, *, unique: str | None = None) -> bool:
        """Insert unless this kind has a document with `key` or `unique`; return whether it did.

        `unique` is a second name of the document, for `find`. Atomic, and durable on return.
        """
        ...

    async def get(self, kind: str, key: str) -> Document | None:
        """Give the document as of the last completed write of any process; None if there is none.

        A primary of MongoDB that has just lost an election may miss the last few writes. It returns
        only writes that a majority has, so nothing that it returns is rolled back later.
        """
        ...

    async def find(self, kind: str, unique: str) -> Document | None:
        """Give the document that was inserted with this second name; None if there is none."""
        ...

    async def replace(self, kind: str, key: str, revision: int, body: Body) -> bool:
        """Replace the body if the document has this revision; return whether it did.

        Atomic, and durable on return.
        """
        ...

    async def keys(self, kind: str, prefix: str) -> list[str]:
        """Give all keys that start with `prefix`, ascending. Sees every insert completed before."""
        ...

    async def count(self, kind: str, prefix: str) -> int:
        """Give the number of keys that start with `prefix`."""
        ...

    async def last_key(self, kind: str, prefix: str) -> str | None:
        """Give the last of `keys`, without reading the others; None if there is none."""
        ...

    async def scan(
        self, kind: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[Document]:
        """Give the first `limit` documents whose keys start with `prefix` and are above `after`."""
        ...

    async def delete(self, kind: str, prefix: str) -> None:
        """Delete every document whose key starts with `prefix`.

        Not atomic: a caller deletes only documents that nobody reads any more, and repeats the call
        if the process died in it.
        """
        ...

    async def check(self) -> None:
        """Write a probe, to find out whether the store keeps what it is given now.

        Raises StoreUnavailable if writes would be lost.
        """
        ...

    async def close(self) -> None:
        """Close connections and files."""
        ...


class Blobs(Protocol):
    """Immutable byte strings of a few MiB at most, by key. A key holds the digest of the bytes."""

    async def put(self, key: str, data: bytes) -> None:
        """Store the bytes, unless the key exists.

        On return they survive the death of this process. They survive a power cut if a document
        that is written afterwards survives it.
        """
        ...

    async def get(self, key: str) -> bytes | None:
        """Give the bytes; None if the key does not exist."""
        ...

    async def sizes(self, prefix: str) -> dict[str, int]:
        """Give each key that starts with `prefix`, ascending, and the size of its blob in bytes."""
        ...

    async def delete(self, prefix: str) -> None:
        """Delete every blob whose key starts with `prefix`."""
        ...


@dataclass(frozen=True)
class SignedRequest:
    """A signed request: its holder may send it to the blob store itself, for `seconds` seconds."""

    method: str
    url: str
    headers: Mapping[str, str]
    seconds: int


@runtime_checkable
class DirectBlobs(Blobs, Protocol):
    """A blob store that clients reach themselves, so weights do not pass the coordinator."""

    async def sign_put(
        self, key: str, sha256: str, size: int, *, seconds: int | None = None
    ) -> SignedRequest:
        """Sign a PUT of the bytes with this digest and size, to a key that does not exist yet.

        It is valid for `seconds`, or for the longest time of the store's settings if that is
        shorter.
        """
        ...

    async def sign_get(self, key: str) -> SignedRequest:
        """Sign a GET of the key."""
        ...


class Helper(Protocol):
    """A second operator's service, which knows the masks of updates and tells their sums.

    Methods raise HelperUnavailable, and HelperRefused for a sum that it does not open.
    """

    async def about(self) -> Body:
        """Give `serverless_fl.wire.masking.HelperView`."""
        ...

    async def words(self, asked: Body) -> bytes:
        """Give words for `serverless_fl.wire.masking.SumOfMasks`, little-endian: as many as asked
        for, or the first of them, one at least.
        """
        ...


class Webhooks(Protocol):
    """Addresses of the operator, which are told what happens to experiments."""

    @property
    def urls(self) -> Sequence[str]: ...

    async def post(self, url: str, notice: str, body: bytes) -> str:
        """Send a signed message to an address; give the reason if it was not taken, else "".

        `notice` is its id, which is the same for each try.
        """
        ...


class WakeUps(Protocol):
    """The addresses at which clients want to be woken up, as far as the operator allows them."""

    def rule_for(self, address: str) -> str | None:
        """Give the operator's rule that allows an address; None if none does."""
        ...

    async def call(self, address: str, key: bytes, message: str, body: bytes) -> str:
        """Send a message, signed with the key; give the reason if it did not arrive, else "".

        `message` is its id, which is the same for each try.
        """
        ...


class TokenIssuer(Protocol):
    """Whoever gives out tokens to people, by which they call the coordinator."""

    async def claims(self, token: str) -> Mapping[str, Any]:
        """Check a token and give what it says of its holder.

        Raises Unauthenticated, IssuerUnavailable.
        """
        ...

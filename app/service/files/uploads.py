"""Uploads of parts: through the coordinator, or past it into a bucket by signed URLs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.service.context import Context
from app.service.files.announcements import Ledger
from app.service.files.stored import digest_of
from app.service.records.repository import Repository
from app.store.port import DirectBlobs, SignedRequest
from serverless_fl.aggregation import strategy_of
from serverless_fl.domain.errors import Conflict, DigestMismatch, TooLarge
from serverless_fl.domain.experiment import WEIGHTS, Experiment
from serverless_fl.domain.records import MAX_PARTS, Blob, Part, part_key
from serverless_fl.weights.encodings import update_layout

_SIGNED_SECONDS = 60  # a URL's life, to which the time of its upload on a slow line is added
_SLOW_LINE = 64 * 1024  # bytes a second
_SMALL_PART = 64 * 1024  # bytes
_FEW_PARTS = 64
_HEADER_SLACK = 64 * 1024  # bytes; an update's header may hold more metadata than the model's


def max_update_bytes(file_bytes: int) -> int:
    """The largest upload that can hold the tensors of a file of this size."""
    return file_bytes + _HEADER_SLACK


async def update_bytes(repo: Repository, experiment: Experiment, model: Blob) -> int:
    """The size in bytes of an update's file, without metadata of the client's own."""
    encoding = experiment.config.sent_encoding
    companions = strategy_of(experiment.config).companions
    if encoding == WEIGHTS and not companions:
        return model.size
    layout = await repo.layout(experiment.id)
    return update_layout(layout, encoding, companions).total_bytes


async def require_digest(data: bytes, sha256: str) -> None:
    """Raises DigestMismatch where the data are empty, or have another digest."""
    if not data:
        raise DigestMismatch("The part is empty.")
    actual = await digest_of(data)
    if actual != sha256:
        raise DigestMismatch(f"The part's SHA-256 is {actual}, not {sha256}: send it again.")


@dataclass(frozen=True, kw_only=True)
class PartPlan:
    """What the client has to do with a part: nothing if it is stored; else send it by `upload`, or
    to the coordinator where that is None.
    """

    number: int
    stored: bool
    upload: SignedRequest | None


@dataclass(frozen=True)
class Uploads:
    """The parts of one file of at most `limit` bytes, under `prefix`.

    Parts are immutable, so a client that sends ever new ones would fill the store. So the prefix
    takes at most twice the parts and twice the bytes of the file. Where clients write to a bucket
    themselves, announced parts count as well: a client can use their URLs later.
    """

    context: Context
    prefix: str
    limit: int
    ledger: Ledger

    async def store(self, number: int, sha256: str, data: bytes) -> None:
        """Store one part under its digest. Raises DigestMismatch, Conflict."""
        await require_digest(data, sha256)
        await self.keep(number, sha256, data)

    async def keep(self, number: int, sha256: str, data: bytes) -> None:
        """Store a part whose digest was checked. Raises Conflict."""
        blobs = self.context.blobs
        stored = await blobs.sizes(f"{self.prefix}/")
        key = part_key(self.prefix, number, sha256)
        if key in stored and not self.context.direct:
            return
        if key in stored:  # a client may have written other bytes to the bucket
            if stored.pop(key) == len(data) and await blobs.get(key) == data:
                return
            await blobs.delete(key)
        announced = await self.ledger.parts() if self.context.direct else {}
        self._require_room({**self._named(stored), **announced, _name(key): len(data)})
        await blobs.put(key, data)

    async def plan(self, parts: Sequence[Part]) -> list[PartPlan]:
        """Say which parts are stored already, and how to upload the others.

        Raises TooLarge, Conflict, and DigestMismatch where a part is stored with another size.
        """
        blobs = self.context.blobs
        most = self.context.limits.part_bytes
        if large := next((part for part in parts if part.size > most), None):
            raise TooLarge(f"Part {large.number} takes {large.size} bytes; at most {most} may.")
        stored = await blobs.sizes(f"{self.prefix}/")
        keys = [part_key(self.prefix, part.number, part.sha256) for part in parts]
        missing = {
            key: part for key, part in zip(keys, parts, strict=True) if stored.get(key) != part.size
        }
        for key in missing.keys() & stored:
            await self._drop_altered(key, stored.pop(key), missing[key])
        signed: dict[str, SignedRequest] = {}
        if isinstance(blobs, DirectBlobs) and missing:
            signed = await self._signed(blobs, self._named(stored), missing)
        else:
            coming = {_name(key): part.size for key, part in missing.items()}
            self._require_room({**self._named(stored), **coming})
        return [
            PartPlan(number=part.number, stored=key not in missing, upload=signed.get(key))
            for key, part in zip(keys, parts, strict=True)
        ]

    async def _signed(
        self, blobs: DirectBlobs, stored: dict[str, int], missing: dict[str, Part]
    ) -> dict[str, SignedRequest]:
        """Signed URLs for these parts, which the ledger records first. Raises Conflict.

        The URLs live as long as all parts together take on a slow line: clients send a few at once.
        """
        size = sum(part.size for part in missing.values())
        seconds = _SIGNED_SECONDS + size // _SLOW_LINE
        requests = {
            key: await blobs.sign_put(key, part.sha256, part.size, seconds=seconds)
            for key, part in missing.items()
        }
        await self.ledger.add(
            {_name(key): part.size for key, part in missing.items()},
            self.context.clock() + max(request.seconds for request in requests.values()),
            lambda announced: self._require_room({**announced, **stored}),
        )
        return requests

    async def _drop_altered(self, key: str, size: int, part: Part) -> None:
        """Delete a part whose bytes are not those of its key: not every bucket checks digests.

        Raises DigestMismatch where the bytes are right and the announcement is wrong: the part may
        belong to an accepted file, and must stay.
        """
        if self.context.direct:
            altered = size > self.context.limits.part_bytes  # no sound part is so large
            if not altered:
                data = await self.context.blobs.get(key)
                altered = data is None or await digest_of(data) != part.sha256
            if altered:
                await self.context.blobs.delete(key)
                return
        raise DigestMismatch(
            f"Part {part.number} is already stored with {size} bytes, not {part.size}: announce "
            "that size."
        )

    def _named(self, stored: dict[str, int]) -> dict[str, int]:
        return {_name(key): size for key, size in stored.items()}

    def _require_room(self, parts: Mapping[str, int]) -> None:
        """Raises Conflict."""
        if len(parts) > self._most_parts or sum(parts.values()) > 2 * self.limit:
            raise Conflict("Too many different parts were uploaded for this file.", code="quota")

    @property
    def _most_parts(self) -> int:
        """Clients may cut a file into smaller parts than they must, but not into any number."""
        part = min(self.context.limits.part_bytes, _SMALL_PART)
        return min(2 * MAX_PARTS, max(_FEW_PARTS, 2 * -(-self.limit // part)))


def _name(key: str) -> str:
    """A part's name within its file."""
    return key.rpartition("/")[2]

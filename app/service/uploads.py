"""Parts on their way in: through the coordinator, or past it where the blob store takes them."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.errors import Conflict, DigestMismatch, TooLarge
from app.domain.experiment import WEIGHTS, Experiment
from app.domain.records import Blob, part_key
from app.service.context import Context
from app.service.repository import Repository
from app.service.weights import digest_of
from app.store.port import DirectBlobs
from app.wire.encodings import encoded
from app.wire.parts import PartAnnouncement, PartPlan, SignedUpload
from app.wire.schema import MAX_PARTS

_HEADER_SLACK = 64 * 1024  # an upload's header may hold other metadata than the model's


def max_update_bytes(file_bytes: int) -> int:
    """The largest upload that can hold the tensors of a file of this size."""
    return file_bytes + _HEADER_SLACK


async def update_bytes(repo: Repository, experiment: Experiment, model: Blob) -> int:
    """How large the updates of a model are as files, but for their metadata."""
    encoding = experiment.config.update_encoding
    if encoding == WEIGHTS:
        return model.size
    return encoded(await repo.layout(experiment.id), encoding).total_bytes


async def require_digest(data: bytes, sha256: str) -> None:
    """Raises DigestMismatch."""
    if not data:
        raise DigestMismatch("The part is empty.")
    actual = await digest_of(data)
    if actual != sha256:
        raise DigestMismatch(f"The part's SHA-256 is {actual}, not {sha256}: send it again.")


@dataclass(frozen=True)
class Uploads:
    """The parts of one file under `prefix`, which may take `limit` bytes in all.

    Parts are immutable, so someone who keeps sending other ones would fill the store: there may be
    twice as many parts, and twice as many bytes, as the file can have.
    """

    context: Context
    prefix: str
    limit: int

    async def store(self, number: int, sha256: str, data: bytes) -> None:
        """Store one part under its digest. Raises DigestMismatch, Conflict."""
        await require_digest(data, sha256)
        await self.keep(number, sha256, data)

    async def keep(self, number: int, sha256: str, data: bytes) -> None:
        """Store a part that has this digest. Raises Conflict."""
        stored = await self.context.blobs.sizes(f"{self.prefix}/")
        key = part_key(self.prefix, number, sha256)
        if key not in stored:
            self._require_room(stored, 1, len(data))
            await self.context.blobs.put(key, data)

    async def plan(self, parts: list[PartAnnouncement]) -> list[PartPlan]:
        """Which parts are here already, and how to bring the others.

        Raises TooLarge, Conflict, and DigestMismatch where a part is here with another size.
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
            await self._drop_altered(key, missing[key])
        self._require_room(stored, len(missing), sum(part.size for part in missing.values()))
        signed = {}
        if isinstance(blobs, DirectBlobs):
            for key, part in missing.items():
                request = await blobs.sign_put(key, part.sha256, part.size)
                signed[key] = SignedUpload(
                    url=request.url, headers=dict(request.headers), seconds=request.seconds
                )
        return [
            PartPlan(number=part.number, stored=key not in missing, upload=signed.get(key))
            for key, part in zip(keys, parts, strict=True)
        ]

    async def _drop_altered(self, key: str, part: PartAnnouncement) -> None:
        """Delete what is not what its key says: a store that checks no digests may hold such.

        Raises DigestMismatch where the announcement is what is wrong: the part may be one of an
        accepted file, and nobody can take that away.
        """
        data = await self.context.blobs.get(key)
        if data is not None and await digest_of(data) == part.sha256:
            raise DigestMismatch(
                f"Part {part.number} is here, with {len(data)} bytes, not {part.size}: announce "
                "the size that it has."
            )
        await self.context.blobs.delete(key)

    def _require_room(self, stored: dict[str, int], parts: int, size: int) -> None:
        if len(stored) + parts > 2 * MAX_PARTS or sum(stored.values()) + size > 2 * self.limit:
            raise Conflict("Too many different parts were uploaded for this file.", code="quota")

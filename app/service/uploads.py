"""Parts on their way in: through the coordinator, or past it where the blob store takes them."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.errors import Conflict, DigestMismatch, TooLarge
from app.domain.records import part_key
from app.service.context import Context
from app.service.weights import digest_of
from app.store.port import DirectBlobs
from app.wire.parts import PartAnnouncement, PartPlan, SignedUpload
from app.wire.schema import MAX_PARTS

_HEADER_SLACK = 64 * 1024  # an upload's header may hold other metadata than the model's


def max_update_bytes(model_bytes: int) -> int:
    """The largest upload that can hold the tensors of a model of this size."""
    return model_bytes + _HEADER_SLACK


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
        if not data:
            raise DigestMismatch("The part is empty.")
        actual = await digest_of(data)
        if actual != sha256:
            raise DigestMismatch(f"The part's SHA-256 is {actual}, not {sha256}: send it again.")
        stored = await self.context.blobs.sizes(f"{self.prefix}/")
        key = part_key(self.prefix, number, sha256)
        if key not in stored:
            self._require_room(stored, 1, len(data))
            await self.context.blobs.put(key, data)

    async def plan(self, parts: list[PartAnnouncement]) -> list[PartPlan]:
        """Which parts are here already, and how to bring the others. Raises TooLarge, Conflict."""
        blobs = self.context.blobs
        most = self.context.limits.part_bytes
        if large := next((part for part in parts if part.size > most), None):
            raise TooLarge(f"Part {large.number} takes {large.size} bytes; at most {most} may.")
        stored = await blobs.sizes(f"{self.prefix}/")
        keys = {part.number: part_key(self.prefix, part.number, part.sha256) for part in parts}
        missing = [part for part in parts if stored.get(keys[part.number]) != part.size]
        for part in missing:
            if keys[part.number] in stored:  # of another size: a store that checks no digests
                await blobs.delete(keys[part.number])
        self._require_room(stored, len(missing), sum(part.size for part in missing))
        signed = {}
        if isinstance(blobs, DirectBlobs):
            for part in missing:
                request = await blobs.sign_put(keys[part.number], part.sha256, part.size)
                signed[part.number] = SignedUpload(
                    url=request.url, headers=dict(request.headers), seconds=request.seconds
                )
        return [
            PartPlan(number=part.number, stored=part not in missing, upload=signed.get(part.number))
            for part in parts
        ]

    def _require_room(self, stored: dict[str, int], parts: int, size: int) -> None:
        if len(stored) + parts > 2 * MAX_PARTS or sum(stored.values()) + size > 2 * self.limit:
            raise Conflict("Too many different parts were uploaded for this file.", code="quota")

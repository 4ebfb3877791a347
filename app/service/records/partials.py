"""Records of an aggregation that goes on: stored sums, and the full groups of a round."""

from __future__ import annotations

from typing import Any

from app.service.records.keys import key_of
from app.store.port import Document, Documents
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.records import Blob, Cell
from serverless_fl.domain.round import FullGroup, Lease, Round


class Partials:
    """The part of the repository that only aggregations use."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    async def add_sums(self, experiment_id: str, number: int, cell: Cell, blob: Blob) -> None:
        """The sums of the same updates are the same bytes, whoever added them up."""
        key = f"{key_of(experiment_id, number, cell.span)}/{cell.digest}"
        await self.documents.insert("sums", key, body_of(blob))

    async def sums(self, experiment_id: str, number: int, span: int) -> dict[str, Blob]:
        """The stored sums of one span of a round, by digest."""
        prefix = f"{key_of(experiment_id, number, span)}/"
        found = await scan_all(self.documents, "sums", prefix)
        return {d.key.removeprefix(prefix): blob_of(d.body) for d in found}

    async def full_groups(self, round_: Round) -> dict[int, FullGroup]:
        """The groups of the round's present attempt that a call has begun to sum, by number."""
        prefix = f"{key_of(round_.experiment_id, round_.number, round_.attempt)}/"
        found = await scan_all(self.documents, "groups", prefix)
        return {group.group: group for group in map(_full_group, found)}

    async def full_group(
        self, experiment_id: str, number: int, attempt: int, group: int
    ) -> FullGroup | None:
        found = await self.documents.get("groups", key_of(experiment_id, number, attempt, group))
        return None if found is None else _full_group(found)

    async def save_full_group(self, group: FullGroup) -> bool:
        """Insert a new one, which has revision 0; else compare-and-set on what was read."""
        key = key_of(group.experiment_id, group.round, group.attempt, group.group)
        if not group.revision:
            return await self.documents.insert("groups", key, body_of(group))
        return await self.documents.replace("groups", key, group.revision, body_of(group))


def _full_group(found: Document) -> FullGroup:
    body = {**found.body, "lease": Lease(**found.body["lease"])}
    return FullGroup(**body, revision=found.revision)


async def scan_all(documents: Documents, kind: str, prefix: str, after: str = "") -> list[Any]:
    """Every document under a prefix and above `after`, page by page."""
    found: list[Any] = []
    while page := await documents.scan(
        kind, prefix, after=found[-1].key if found else after, limit=1000
    ):
        found += page
    return found


async def scan_to(
    documents: Documents, kind: str, prefix: str, after: str, last: str, page_size: int
) -> list[Any]:
    """The documents under a prefix and above `after`, up to `last` and some of those behind it."""
    found: list[Any] = []
    while page := await documents.scan(kind, prefix, after=after, limit=page_size):
        found += page
        after = page[-1].key
        if after >= last or len(page) < page_size:
            break
    return found


def blob_of(body: dict[str, Any]) -> Blob:
    return Blob(**{**body, "parts": tuple(body["parts"]), "sizes": tuple(body["sizes"])})


def body_of(value: Any) -> dict[str, Any]:
    body: dict[str, Any] = _plain(value)
    body.pop("revision", None)  # the store counts revisions itself
    return body


def _plain(value: Any) -> Any:
    """As `dataclasses.asdict`, which copies what nobody changes: a third of what a commit took."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    if isinstance(value, Config):
        return value.flat()
    return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}

"""The records of an aggregation under way: stored results, and groups that calls have begun."""

from __future__ import annotations

from app.service.records import mapping
from app.service.records.keys import key_of
from app.service.records.scans import scan_all
from app.store.port import Documents
from serverless_fl.domain.records import Blob, Cell
from serverless_fl.domain.round import FullGroup, Round


class SumRecords:
    """Typed reads and writes, as `Repository`; only aggregations use them."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    async def add(self, experiment_id: str, number: int, cell: Cell, blob: Blob) -> None:
        """Record stored sums. Processes that sum the same updates store the same bytes."""
        key = f"{key_of(experiment_id, number, cell.span)}/{cell.digest}"
        await self.documents.insert("sums", key, mapping.body_of(blob))

    async def remove(self, experiment_id: str, number: int, cell: Cell) -> None:
        """Delete the record of a damaged result."""
        key = f"{key_of(experiment_id, number, cell.span)}/{cell.digest}"
        await self.documents.delete("sums", key)

    async def of_span(self, experiment_id: str, number: int, span: int) -> dict[str, Blob]:
        """The stored sums of one span of a round, by digest."""
        prefix = f"{key_of(experiment_id, number, span)}/"
        found = await scan_all(self.documents, "sums", prefix)
        return {d.key.removeprefix(prefix): mapping.blob(d.body) for d in found}

    async def groups(self, round_: Round) -> dict[int, FullGroup]:
        """The groups of the round's present attempt that a call has begun to sum, by number."""
        prefix = f"{key_of(round_.experiment_id, round_.number, round_.attempt)}/"
        found = await scan_all(self.documents, "groups", prefix)
        return {group.group: group for group in map(mapping.full_group, found)}

    async def group(
        self, experiment_id: str, number: int, attempt: int, group: int
    ) -> FullGroup | None:
        found = await self.documents.get("groups", key_of(experiment_id, number, attempt, group))
        return None if found is None else mapping.full_group(found)

    async def save_group(self, group: FullGroup) -> bool:
        """Insert a group of revision 0, compare-and-set any other; say whether that was done."""
        key = key_of(group.experiment_id, group.round, group.attempt, group.group)
        body = mapping.body_of(group)
        if not group.revision:
            return await self.documents.insert("groups", key, body)
        return await self.documents.replace("groups", key, group.revision, body)

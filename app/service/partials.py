"""What is kept of an aggregation that is not at its end: sums, and who is at work on which."""

from __future__ import annotations

from typing import Any

from app.domain.records import Blob, Cell
from app.domain.round import Claim, Round
from app.service.keys import key_of
from app.store.port import Documents


class Partials:
    """The part of the repository that only aggregations use."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    async def add_sums(self, experiment_id: str, number: int, cell: Cell, blob: Blob) -> None:
        """Of the same updates they are the same bytes, whoever added them up."""
        await self.documents.insert("sums", _sums_key(experiment_id, number, cell), body_of(blob))

    async def sums(self, experiment_id: str, number: int, cell: Cell) -> Blob | None:
        found = await self.documents.get("sums", _sums_key(experiment_id, number, cell))
        return None if found is None else blob_of(found.body)

    async def add_claim(self, claim: Claim) -> bool:
        return await self.documents.insert("claims", _claim_key(claim), body_of(claim))

    async def claims(self, round_: Round) -> dict[int, Claim]:
        """Of the round's present attempt, by group."""
        prefix = f"{key_of(round_.experiment_id, round_.number, round_.attempt)}/"
        found = await scan_all(self.documents, "claims", prefix)
        claims = [Claim(**d.body, revision=d.revision) for d in found]
        return {claim.group: claim for claim in claims}

    async def claim(self, round_: Round, group: int) -> Claim | None:
        key = key_of(round_.experiment_id, round_.number, round_.attempt, group)
        found = await self.documents.get("claims", key)
        return None if found is None else Claim(**found.body, revision=found.revision)

    async def save_claim(self, claim: Claim) -> bool:
        """Compare-and-set on the revision that was read."""
        return await self.documents.replace(
            "claims", _claim_key(claim), claim.revision, body_of(claim)
        )


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
    return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}


def _sums_key(experiment_id: str, number: int, cell: Cell) -> str:
    return f"{key_of(experiment_id, number, cell.span)}/{cell.digest}"


def _claim_key(claim: Claim) -> str:
    return key_of(claim.experiment_id, claim.round, claim.attempt, claim.group)

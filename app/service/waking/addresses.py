"""The wake-up addresses of clients, each with what became of its last wake-up.

A client has one record: its address, its key, and what it was due for last. So a wake-up is one
compare-and-set on one document, and nothing grows with the rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from app.service.context import Context
from app.service.records.keys import client_key
from app.service.records.mapping import body_of
from app.service.records.scans import scan_all
from app.store.port import Document
from serverless_fl.domain.errors import Conflict
from serverless_fl.domain.records import Client

KIND = "wake_ups"


@dataclass(frozen=True, kw_only=True)
class WakeUp:
    """A client's wake-up address; an empty one: it wants to be woken up no more.

    `key` is the hexadecimal key that signs. `due` is what the client was woken for last, after
    `tries`; `taken`: the call arrived. If it did not, the next try is due at `next_at`.
    """

    experiment_id: str
    slot: int
    address: str = field(repr=False)
    key: str = field(repr=False)
    due: str = ""
    tries: int = 0
    next_at: float = 0.0
    taken: bool = False
    revision: int = field(default=0, compare=False)


def require_allowed(context: Context, address: str) -> None:
    """Raise Conflict for an address that the operator does not allow."""
    if address and (context.wake_ups is None or context.wake_ups.rule_for(address) is None):
        raise Conflict(
            "This coordinator calls no such wake-up address: ask its operator to allow your host "
            "in FL_WAKE_HOSTS, or enrol without one.",
            code="wake-up-not-allowed",
        )


async def register(context: Context, client: Client, address: str, key: str) -> None:
    """Keep what a client says when it enrols: its address, or that it has none now."""
    if context.wake_ups is None:
        return
    own = WakeUp(experiment_id=client.experiment_id, slot=client.slot, address=address, key=key)
    documents, place = context.repo.documents, client_key(client.experiment_id, client.slot)
    while True:
        found = await documents.get(KIND, place)
        if found is None:
            if not address or await documents.insert(KIND, place, body_of(own)):
                return
            continue
        known = _of(found)
        if (known.address, known.key) == (address, key):
            return
        if await documents.replace(KIND, place, known.revision, body_of(own)):
            return


async def wake_ups_of(context: Context, experiment_id: str) -> list[WakeUp]:
    """The clients of an experiment that have an address, by slot."""
    found = await scan_all(context.repo.documents, KIND, f"{experiment_id}/")
    return [one for one in map(_of, found) if one.address]


async def save(context: Context, before: WakeUp, **changes: object) -> WakeUp | None:
    """Compare-and-set; gives the record as it is then, or None if another call was faster."""
    after = replace(before, **changes)  # type: ignore[arg-type]
    place = client_key(before.experiment_id, before.slot)
    done = await context.repo.documents.replace(KIND, place, before.revision, body_of(after))
    return replace(after, revision=before.revision + 1) if done else None


async def rules_of(context: Context, experiment_id: str, after: str, limit: int) -> dict[int, str]:
    """Give the rules that allow the next addresses after a key, by slot.

    A rule shows no secret part of an address. The next `limit` addresses are those of the next
    `limit` clients, and perhaps of later ones, because not every client has one.
    """
    if context.wake_ups is None:
        return {}
    documents, prefix = context.repo.documents, f"{experiment_id}/"
    found = map(_of, await documents.scan(KIND, prefix, after=after, limit=limit))
    return {one.slot: context.wake_ups.rule_for(one.address) or "" for one in found if one.address}


async def rule_of(context: Context, client: Client) -> str:
    """Give the rule that allows a client's address; empty if it has none."""
    if context.wake_ups is None:
        return ""
    found = await context.repo.documents.get(KIND, client_key(client.experiment_id, client.slot))
    return (context.wake_ups.rule_for(_of(found).address) or "") if found else ""


def _of(found: Document) -> WakeUp:
    return WakeUp(**found.body, revision=found.revision)

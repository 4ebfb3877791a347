"""Records of the parts for which clients got signed URLs.

A client can upload by a signed URL later, past the coordinator. A quota on stored bytes alone would
let it collect any number of URLs first. So the coordinator records each part, under its file,
before it makes the URL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.service.records.keys import key_of
from app.store.port import Documents

KIND, INITIAL = "announced", "announced_initial"


@dataclass(frozen=True)
class Ledger:
    """The announced parts of one file. `kind` and `key` name its document."""

    documents: Documents
    kind: str
    key: str

    @classmethod
    def of_update(cls, documents: Documents, experiment_id: str, number: int, slot: int) -> Ledger:
        return cls(documents, KIND, key_of(experiment_id, number, slot))

    @classmethod
    def of_initial(cls, documents: Documents, experiment_id: str) -> Ledger:
        return cls(documents, INITIAL, key_of(experiment_id, 0))

    async def parts(self) -> dict[str, int]:
        """The sizes in bytes of all announced parts, by the parts' names."""
        found = await self.documents.get(self.kind, self.key)
        return {} if found is None else dict(found.body["parts"])

    async def add(
        self, parts: Mapping[str, int], until: float, check: Callable[[Mapping[str, int]], None]
    ) -> None:
        """Record that these parts may come until then.

        `check` gets all recorded parts and the new ones, and may raise to refuse them.
        """
        while True:
            found = await self.documents.get(self.kind, self.key)
            known: dict[str, int] = found.body["parts"] if found else {}
            every = {**known, **parts}
            check(every)
            body = {"parts": every, "until": max(until, found.body["until"] if found else 0.0)}
            if found is None:
                done = await self.documents.insert(self.kind, self.key, body)
            else:
                done = await self.documents.replace(self.kind, self.key, found.revision, body)
            if done:
                return


async def forget_round(documents: Documents, experiment_id: str, number: int) -> None:
    """Delete the records of a round that takes no uploads any more."""
    await documents.delete(KIND, f"{key_of(experiment_id, number)}/")


async def initials(documents: Documents) -> dict[str, float]:
    """The experiments with URLs for their initial weights, and the last URL's end."""
    found = await documents.scan(INITIAL, "")
    return {each.key.partition("/")[0]: each.body["until"] for each in found}


async def forget_initial(documents: Documents, experiment_id: str) -> None:
    """Delete the record of the initial weights, after the cleanup of what came by its URLs."""
    await documents.delete(INITIAL, key_of(experiment_id, 0))

"""What was announced to come past the coordinator: a signed URL can store its bytes later.

A quota over what is stored would be over nothing while somebody only collects URLs. So each part
that a URL was made for is written down first, under the file that it is to be a part of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.service.records.keys import key_of
from app.store.port import Documents

KIND, INITIAL = "announced", "announced_initial"


@dataclass(frozen=True)
class Ledger:
    """Of one file. `kind` and `key` name its document."""

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
        """The parts that may come, by their names, and their sizes in bytes."""
        found = await self.documents.get(self.kind, self.key)
        return {} if found is None else dict(found.body["parts"])

    async def add(
        self, parts: Mapping[str, int], until: float, check: Callable[[Mapping[str, int]], None]
    ) -> None:
        """Write down that these may come until then.

        `check` is given all parts that were ever written down, and these; what it raises is raised.
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
    """Its uploads are over: nobody asks any more."""
    await documents.delete(KIND, f"{key_of(experiment_id, number)}/")


async def initials(documents: Documents) -> dict[str, float]:
    """Experiments for whose initial weights URLs were made, and until when these are good."""
    found = await documents.scan(INITIAL, "")
    return {each.key.partition("/")[0]: each.body["until"] for each in found}


async def forget_initial(documents: Documents, experiment_id: str) -> None:
    """Whatever came of its announcements was looked through."""
    await documents.delete(INITIAL, key_of(experiment_id, 0))

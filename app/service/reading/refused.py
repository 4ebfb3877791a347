"""Finds the clients whose updates were refused in every round for which they were drawn."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from app.service.records.repository import Repository
from serverless_fl.domain.records import Refusal
from serverless_fl.domain.round import Round, RoundState

_OPEN = frozenset({RoundState.COLLECTING, RoundState.SEALED, RoundState.AGGREGATING})


async def always_refused(
    repo: Repository, experiment_id: str, *, ended: bool, reported: Collection[int]
) -> list[Refusal]:
    """The last refusal of each such client, by slot.

    The open round does not count, because its clients may still send better updates. `reported` are
    the slots whose update was accepted in it. If nobody was refused, which is nearly always so,
    this reads the store once.
    """
    refusals = await repo.refusals(experiment_id)
    if not refusals:
        return []
    refused = {(refusal.round, refusal.slot) for refusal in refusals}
    found: dict[int, Refusal] = {}
    rounds = [r for r in await repo.rounds(experiment_id) if ended or r.state not in _OPEN]
    over = {round_.number for round_ in rounds}
    for refusal in refusals:  # ascending by round
        if refusal.round in over:
            found[refusal.slot] = refusal
    for round_ in rounds:
        for slot in _drawn(round_):
            if slot in round_.accepted or (round_.number, slot) not in refused:
                found.pop(slot, None)
    return [found[slot] for slot in sorted(found) if slot not in reported]


def _drawn(round_: Round) -> Iterator[int]:
    for attempt in round_.earlier:
        yield from attempt.cohort
    yield from round_.cohort
    yield from round_.accepted

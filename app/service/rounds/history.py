"""Reads the clients' earlier rounds and their examples, for the selection of a cohort.

It reads a bounded number of rounds and updates, the newest ones, whatever the length of the
experiment. Where parties have data of their own, and a selection asks for its size, it reads the
record of each client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.service.context import Context
from serverless_fl.domain import draws
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import LATE, Update
from serverless_fl.domain.round import Round, RoundState
from serverless_fl.schedule.selection import Known, Reads, Turn

ROUNDS = 100  # the newest rounds, but no more than have
INVITED = 20_000  # invited clients together
UPDATES = 2_000  # updates of the newest of them
_LOSSES = ("loss_before", "train_loss", "loss")  # the first one that an update has


async def known_clients(
    context: Context, experiment: Experiment, slots: Sequence[int], reads: Reads
) -> Mapping[int, Known]:
    """Give what a selection that `reads` so much has to know of the clients in these slots."""
    turns: dict[int, list[Turn]] = {}
    if Reads.ROUNDS in reads:
        late = await _late(context, experiment)
        left = UPDATES if Reads.UPDATES in reads else 0
        for round_ in await _newest_rounds(context, experiment):
            updates: Sequence[Update] = ()
            if len(round_.accepted) <= left:
                left -= len(round_.accepted)
                updates = await context.repo.accepted_updates(round_)
            for slot, turn in _turns(round_, updates, late).items():
                turns.setdefault(slot, []).append(turn)
    examples: dict[int, int] = {}
    if Reads.EXAMPLES in reads:
        examples = await _examples(context, experiment, slots)
    return {
        slot: Known(examples=examples.get(slot, 1), turns=turns.get(slot, ()))
        for slot in {*turns, *examples}.intersection(slots)
    }


async def _late(context: Context, experiment: Experiment) -> Mapping[tuple[int, int], float]:
    """When an update came that was too late, by round and slot."""
    if not experiment.config.own_data:
        return {}
    refusals = await context.repo.refusals(experiment.id)
    return {(r.round, r.slot): r.refused_at for r in refusals if r.code == LATE}


async def _newest_rounds(context: Context, experiment: Experiment) -> list[Round]:
    """The newest closed rounds, the newest first."""
    most = max(1, min(ROUNDS, INVITED // experiment.config.clients_per_round))
    first = max(0, experiment.round - 1 - most)
    found = await context.repo.rounds(experiment.id, after=first)
    return [round_ for round_ in reversed(found) if round_.state is RoundState.CLOSED]


def _turns(
    round_: Round, updates: Sequence[Update], late: Mapping[tuple[int, int], float]
) -> dict[int, Turn]:
    """The turns of all clients that any attempt at a round invited."""
    came = {update.slot: update for update in updates}
    heard = {*round_.accepted, *round_.lost}
    begun = [round_.opened_at, *(attempt.ended_at for attempt in round_.earlier)]
    turns = {}
    for slot in round_.asked | heard:
        seconds = loss = None
        if (update := came.get(slot)) is not None:
            start = max((t for t in begun if t <= update.received_at), default=round_.opened_at)
            seconds = max(0.0, update.received_at - start)
            losses = (update.metrics[name] for name in _LOSSES if name in update.metrics)
            loss = next(losses, None)
        elif (came_at := late.get((round_.number, slot))) is not None:
            seconds = max(0.0, came_at - round_.opened_at)
        turns[slot] = Turn(round=round_.number, reported=slot in heard, seconds=seconds, loss=loss)
    return turns


async def _examples(
    context: Context, experiment: Experiment, slots: Sequence[int]
) -> dict[int, int]:
    """The examples of each client: of its shard, or those that it declared of its own data."""
    config = experiment.config
    if not config.own_data:
        bounds = {s: draws.shard_bounds(config.shared_out, config.clients, s) for s in slots}
        return {slot: stop - start for slot, (start, stop) in bounds.items()}
    clients = context.repo.each_client(experiment.id)
    return {client.slot: client.examples or 1 async for client in clients}

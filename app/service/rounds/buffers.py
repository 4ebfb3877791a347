"""Finds the round that takes an update trained for an earlier one (docs/decisions/0038)."""

from __future__ import annotations

from dataclasses import replace

from app.service.records.repository import Repository
from serverless_fl.domain.errors import OutOfTurn
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import Claim
from serverless_fl.domain.round import RoundState
from serverless_fl.schedule import schedule_of

_FROZEN = (RoundState.AGGREGATING, RoundState.CLOSED)


async def round_for(repo: Repository, experiment: Experiment, slot: int, number: int) -> int:
    """Give the round that takes the update which a client trained for round `number`.

    It is that round, unless the schedule takes older updates. Then it is the round that is open
    when the update comes first. A claim keeps that, so that an update sent again finds its round.
    Only where a frozen list lacks the update does the claim move to the round that is open now.
    Raises OutOfTurn if the update is too old, or if no round will open any more.
    """
    most = schedule_of(experiment.config).max_age
    if most is None or not 0 < number <= experiment.round:
        return number
    claim = await repo.claim(experiment.id, number - 1, slot)
    while claim is None or await _left_out(repo, experiment, claim):
        if experiment.ended:
            raise OutOfTurn(f"The experiment is {experiment.state}; no round is open.")
        if experiment.round - number > most:
            raise OutOfTurn(
                f"The update was trained from model {number - 1}, which is more than {most} "
                "versions old: ask for the newest model and train again."
            )
        if claim is None:
            wanted = Claim(
                experiment_id=experiment.id, base=number - 1, slot=slot, round=experiment.round
            )
            await repo.add_claim(wanted)
        elif claim.round == experiment.round:
            raise OutOfTurn(
                f"Round {claim.round} was closed before the update arrived: send it again.",
                code="send-again",
            )
        else:
            await repo.save_claim(replace(claim, round=experiment.round))
        claim = await repo.claim(experiment.id, number - 1, slot)
    return claim.round


async def _left_out(repo: Repository, experiment: Experiment, claim: Claim) -> bool:
    """Whether the list of the claimed round is frozen, and lacks the update."""
    round_ = await repo.round(experiment.id, claim.round)
    if round_ is None or round_.state not in _FROZEN or claim.slot in round_.lost:
        return False
    found = await repo.update(experiment.id, claim.round, claim.slot)
    counted = claim.slot in round_.accepted and found is not None
    return not (counted and found is not None and found.trained_from == claim.base)

"""Fixes the mean and the deviation of columns from the sums that the parties sent."""

from __future__ import annotations

from app.service.context import Context
from app.service.data.declarations import agreement
from app.telemetry.logs import log_event
from serverless_fl.domain.agreement import Normalisation
from serverless_fl.domain.experiment import FEDERATED, Experiment


async def fix_normalisation(context: Context, experiment: Experiment) -> None:
    """Store the normalisation of an experiment that is about to start, if it asks for one.

    The first call that stores it decides: calls at the same moment, and a call after a death, find
    it. The sums of revoked clients do not count.
    """
    repo = context.repo
    if experiment.config.normalisation != FEDERATED:
        return
    if await repo.normalisation(experiment.id) is not None:
        return
    # Imported here: it brings `fractions`, which no other call needs.
    from serverless_fl.domain.scales import scales_of

    agreed = await agreement(context, experiment)
    every = repo.each_client(experiment.id)
    clients = [client async for client in every if client.slot not in experiment.revoked]
    fixed = Normalisation(
        experiment_id=experiment.id,
        scales=tuple(scales_of(agreed.normalise, (client.sums for client in clients))),
        slots=tuple(client.slot for client in clients),
        fixed_at=context.clock(),
    )
    if await repo.add_normalisation(fixed):
        log_event("normalisation fixed", experiment=experiment.id, clients=len(clients))

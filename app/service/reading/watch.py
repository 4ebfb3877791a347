"""Finds out whether an experiment has changed, from a few keys and revisions."""

from __future__ import annotations

from app.service.context import Context
from serverless_fl.domain.round import PHASES, Round

Mark = tuple[int, ...]


class Watch:
    """Streams ask it every second; to read all details would cost far more.

    It only reads: a caller without a key may watch, and must not start an aggregation.
    """

    def __init__(self, context: Context) -> None:
        self.repo = context.repo

    async def mark(self, experiment_id: str) -> Mark:
        """While the mark stays equal, no detail of the experiment changes. Raises NotFound."""
        experiment, round_ = await self.repo.with_round(experiment_id)
        number = experiment.round
        return (
            experiment.revision,
            round_.revision if round_ else 0,
            await self.repo.count_clients(experiment_id),
            await self._reported(round_) if round_ else 0,
            len(await self.repo.refused_slots(experiment_id, number)) if round_ else 0,
            await self.repo.count_evaluations(experiment_id),
        )

    async def _reported(self, round_: Round) -> int:
        """How many clients have done what the round's state waits for."""
        if round_.state in PHASES:
            return len(await self.repo.phase_slots(round_))
        return len(await self.repo.reported_slots(round_))

"""Has an experiment changed? Told from a few keys and revisions, whatever number of rounds."""

from __future__ import annotations

from app.service.context import Context
from app.service.rounds import Rounds

Mark = tuple[int, ...]


class Watch:
    """What streams ask every second, where a whole view would read and send far more."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.repo = context.repo
        self.rounds = rounds

    async def mark(self, experiment_id: str) -> Mark:
        """Equal marks: nothing that a view shows has changed. Advances first. Raises NotFound."""
        experiment, round_ = await self.rounds.advance(experiment_id)
        number = experiment.round
        return (
            experiment.revision,
            round_.revision if round_ else 0,
            await self.repo.count_clients(experiment_id),
            len(await self.repo.reported_slots(experiment_id, number)) if round_ else 0,
            len(await self.repo.refused_slots(experiment_id, number)) if round_ else 0,
            await self.repo.count_evaluations(experiment_id),
        )

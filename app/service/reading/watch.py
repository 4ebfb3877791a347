"""Has an experiment changed? Told from a few keys and revisions, whatever number of rounds."""

from __future__ import annotations

from app.service.context import Context

Mark = tuple[int, ...]


class Watch:
    """What streams ask every second, where a whole view would read and send far more.

    It only looks. A reader needs no key, and what moves an experiment on is not theirs to start.
    """

    def __init__(self, context: Context) -> None:
        self.repo = context.repo

    async def mark(self, experiment_id: str) -> Mark:
        """Equal marks: nothing that a view shows has changed. Raises NotFound."""
        experiment = await self.repo.experiment(experiment_id)
        number = experiment.round
        round_ = await self.repo.round(experiment_id, number) if number else None
        return (
            experiment.revision,
            round_.revision if round_ else 0,
            await self.repo.count_clients(experiment_id),
            len(await self.repo.reported_slots(experiment_id, number)) if round_ else 0,
            len(await self.repo.refused_slots(experiment_id, number)) if round_ else 0,
            await self.repo.count_evaluations(experiment_id),
        )

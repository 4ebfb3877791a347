"""Renames an experiment, and says for how many days it stays after its end, for the admin."""

from __future__ import annotations

from dataclasses import replace

from app.service.context import Context
from app.service.experiments.lifecycle import usual_name
from app.telemetry.logs import log_event
from serverless_fl.domain.experiment import Experiment


class Keeping:
    """Changes that are possible at any time, and on which no model depends."""

    def __init__(self, context: Context) -> None:
        self.repo = context.repo

    async def rename(self, experiment_id: str, name: str, by: str) -> None:
        """Give it another name; an empty one stands for the usual name. Raises NotFound."""
        while True:
            before = await self.repo.experiment(experiment_id)
            after = replace(before, name=name or usual_name(before.config))
            if await self._saved(before, after):
                log_event("experiment renamed", experiment=experiment_id, by=by)
                return

    async def keep(self, experiment_id: str, days: int | None, by: str) -> None:
        """Keep it for so many days after its end, or for good. Raises NotFound."""
        while True:
            before = await self.repo.experiment(experiment_id)
            after = replace(before, config=replace(before.config, keep_days=days))
            if await self._saved(before, after):
                log_event("retention changed", experiment=experiment_id, by=by, days=days)
                return

    async def _saved(self, before: Experiment, after: Experiment) -> bool:
        """Say whether the record is as it should be; another call may have written it meanwhile."""
        return after == before or await self.repo.save_experiment(after)

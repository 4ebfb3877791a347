"""The use cases. `Coordinator` holds them all; the API calls it and nothing below it."""

from __future__ import annotations

import time

from app.service import sweep
from app.service.access import Access
from app.service.audit import Audit
from app.service.context import Context, Limits
from app.service.credentials import AdminKeys
from app.service.deletion import Deletion, erase
from app.service.enrolment import Enrolment
from app.service.experiments import Experiments
from app.service.health import Health
from app.service.hold import Hold
from app.service.models import Models
from app.service.participation import Participation
from app.service.pausing import Pausing
from app.service.repository import Repository
from app.service.retention import drop_garbage
from app.service.rounds import Rounds
from app.service.telling import COORDINATOR
from app.service.views import Views
from app.service.watch import Watch
from app.telemetry.logs import DEBUG, INFO, tell

__all__ = ["Context", "Coordinator", "Limits", "Repository"]


class Coordinator:
    """Everything a coordinator does, over one context. It keeps no state between calls."""

    def __init__(
        self, context: Context, admin_key: str, previous_admin_key: str | None = None
    ) -> None:
        self.context = context
        self.admin_keys = AdminKeys(admin_key, previous_admin_key)
        self.rounds = Rounds(context)
        self.experiments = Experiments(context, self.rounds, self.admin_keys)
        self.deletion = Deletion(context, self.experiments)
        self.pausing = Pausing(context, self.rounds)
        self.access = Access(context, self.rounds, self.admin_keys)
        self.enrolment = Enrolment(context, self.rounds)
        self.hold = Hold(context, self.rounds)
        self.participation = Participation(context, self.rounds, self.hold)
        self.models = Models(context)
        self.audit = Audit(context)
        self.views = Views(context, self.rounds)
        self.watch = Watch(context)
        self.health = Health(context)

    def stopping(self) -> None:
        """The server is about to stop: answer those who wait, and begin nothing that takes long."""
        self.hold.close()
        self.context.tasks.ending = True

    async def close(self) -> None:
        """Once nobody asks any more: bring what is under way to an end, or give it back."""
        self.stopping()
        await self.context.tasks.close()

    async def tick(self) -> list[str]:
        """Advance every open experiment and sweep, for schedulers; gives the ids looked at."""
        looked_at, after, started = [], "", time.perf_counter()
        while page := await self.context.repo.with_tombstones(after, 1000):
            for experiment in page:
                if experiment.deleted_at is not None:
                    await erase(self.context, experiment)
                    continue
                if experiment.garbage:
                    await drop_garbage(self.context, experiment, patient=True)
                if sweep.abandoned(self.context, experiment):
                    await self.experiments.stop(
                        experiment.id, "Its initial weights were never committed.", COORDINATOR
                    )
                elif not experiment.ended:
                    await self.rounds.advance(experiment.id)
                    looked_at.append(experiment.id)
                elif sweep.recently_ended(self.context, experiment):
                    await self.rounds.advance(experiment.id)
            after = page[-1].id
        await sweep.sweep_uploads(self.context)
        seconds = round(time.perf_counter() - started, 4)
        # Once a minute for ever: of an idle coordinator nobody wants to read that.
        level = INFO if looked_at else DEBUG
        tell("tick", level, experiments=len(looked_at), seconds=seconds)
        return looked_at

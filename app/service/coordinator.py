"""The use cases. `Coordinator` holds them all; the API imports nothing below this module."""

from __future__ import annotations

from collections.abc import Sequence

from app.service.clients.credentials import AdminKeys
from app.service.clients.enrolment import (
    Enrolled,
    Enrolment,
    Subscriber,
    Subscription,
    require_certificate,
)
from app.service.clients.long_poll import LongPolls
from app.service.clients.masking import Masking, Maskings
from app.service.clients.turn import Done, Phase, Train, Turn, Turns, Wait
from app.service.clients.updates import Updates
from app.service.context import Context
from app.service.data.declarations import Declaration, Terms
from app.service.data.labels import Labels
from app.service.data.shards import Shard, ShardRule
from app.service.experiments.access import Access, EnrolmentKey
from app.service.experiments.deletion import Deletion
from app.service.experiments.keeping import Keeping
from app.service.experiments.lifecycle import Experiments
from app.service.experiments.pausing import Pausing
from app.service.files.uploads import PartPlan
from app.service.limits import Limits
from app.service.people.claims import ClaimNames
from app.service.people.keys import PersonKey
from app.service.people.recognition import People
from app.service.people.roles import Person
from app.service.reading.audit import Audit
from app.service.reading.details import (
    ExperimentDetails,
    FilePart,
    ListedExperiment,
    PastRound,
    RoundDetails,
)
from app.service.reading.health import Health
from app.service.reading.models import Models
from app.service.reading.views import Views
from app.service.reading.watch import Watch
from app.service.records.repository import Repository
from app.service.rounds.machine import Rounds
from app.service.tick import Ticks
from app.store.port import TokenIssuer

__all__ = [
    "ClaimNames",
    "Context",
    "Coordinator",
    "Declaration",
    "Done",
    "Enrolled",
    "EnrolmentKey",
    "ExperimentDetails",
    "FilePart",
    "Limits",
    "ListedExperiment",
    "Masking",
    "PartPlan",
    "PastRound",
    "Person",
    "PersonKey",
    "Phase",
    "Repository",
    "RoundDetails",
    "Shard",
    "ShardRule",
    "Subscriber",
    "Subscription",
    "Terms",
    "Train",
    "Turn",
    "Wait",
    "require_certificate",
]


class Coordinator:
    """Everything a coordinator does, over one context.

    It may forget at any moment what it remembers between calls.
    """

    def __init__(
        self,
        context: Context,
        admin_key: str,
        previous_admin_key: str | None = None,
        keys: Sequence[PersonKey] = (),
        issuer: TokenIssuer | None = None,
        claims: ClaimNames | None = None,
    ) -> None:
        self.context = context
        self.admin_keys = AdminKeys(admin_key, previous_admin_key)
        self.people = People(self.admin_keys, keys, issuer, claims)
        self.rounds = Rounds(context)
        self.experiments = Experiments(context, self.rounds, self.admin_keys)
        self.deletion = Deletion(context, self.experiments)
        self.keeping = Keeping(context)
        self.pausing = Pausing(context, self.rounds)
        self.access = Access(context, self.rounds, self.admin_keys)
        self.enrolment = Enrolment(context, self.rounds)
        self.labels = Labels(context)
        self.long_polls = LongPolls(context, self.rounds)
        self.turns = Turns(context, self.rounds, self.long_polls)
        self.updates = Updates(context, self.rounds)
        self.maskings = Maskings(context, self.rounds)
        self.models = Models(context)
        self.audit = Audit(context)
        self.views = Views(context, self.rounds)
        self.watch = Watch(context)
        self.ticks = Ticks(context, self.rounds, self.experiments)
        self.health = Health(context)

    @property
    def limits(self) -> Limits:
        return self.context.limits

    @property
    def direct(self) -> bool:
        """Whether clients move weights past the coordinator."""
        return self.context.direct

    def stopping(self) -> None:
        """End the long polls, and begin no more aggregations: the server is about to stop."""
        self.long_polls.close()
        self.context.tasks.ending = True

    async def close(self) -> None:
        """Finish the work under way, or release its leases, once no request comes any more."""
        self.stopping()
        await self.context.tasks.close()

    async def tick(self) -> list[str]:
        """Advance every open experiment and clean up; return the ids of those that it came to.

        Raises TickFailed at the end, after everything that could be done.
        """
        return await self.ticks.tick()

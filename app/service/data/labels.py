"""Takes the number of examples of each label from clients that share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from app.service.context import Context
from app.service.data.declarations import agreement
from app.service.data.shards import examples_of
from app.telemetry.logs import log_event
from serverless_fl.domain.errors import Conflict
from serverless_fl.domain.experiment import ASKED
from serverless_fl.domain.label_counts import require_label_counts
from serverless_fl.domain.records import Client


class Labels:
    """Keeps what clients share of their labels with their records."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.repo = context.repo

    async def share(self, client: Client, counts: Mapping[str, int]) -> None:
        """Keep the counts in place of earlier ones; empty ones take them back.

        Raises Conflict if the experiment does not ask, BadEnrolment, and Unauthenticated.
        """
        experiment = await self.repo.experiment(client.experiment_id)
        if experiment.config.label_counts != ASKED:
            raise Conflict(
                "The experiment does not ask for counts of labels (label_counts).",
                code="labels-not-asked",
            )
        # Parties that share out a common data set have agreed on no facts.
        facts = (
            (await agreement(self.context, experiment)).facts if experiment.config.own_data else {}
        )
        require_label_counts(counts, examples_of(experiment, client), facts)
        labels = tuple(counts.items())
        while client.labels != labels:
            if await self.repo.save_client(replace(client, labels=labels)):
                log_event("labels shared", experiment=client.experiment_id, client=client.id)
                return
            client = await self.repo.client_again(client)

"""Clients come in: keys and tokens are checked, slots are claimed, shards are assigned."""

from __future__ import annotations

import asyncio

from app.service.clients.credentials import client_token, fingerprint, matches, slot_of
from app.service.context import Context
from app.service.rounds.machine import Rounds
from app.service.rounds.progress import check_sample
from app.telemetry.logs import log_event
from serverless_fl.domain import draws
from serverless_fl.domain.errors import (
    BadWeights,
    Conflict,
    ExperimentFull,
    OutOfTurn,
    Revoked,
    Unauthenticated,
)
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Client, client_id
from serverless_fl.wire.schema import Shard, ShardRule, Subscribe, Subscription

LISTED_AT_ONCE = 50_000  # indices that come with a subscription: 400 kB, which each platform takes
LISTED = 2_000_000  # ... that are listed at all: 16 MB


class Enrolment:
    """What makes a stranger a client, and knows it again."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds
        # Claims of one process would all try the same slot, and all but one of them in vain.
        self._claiming = asyncio.Lock()

    async def require_enrolment_key(self, experiment_id: str, key: str) -> Experiment:
        """Raises Unauthenticated, or NotFound (which experiments there are is no secret)."""
        experiment = await self.repo.experiment(experiment_id)
        if not matches(key, experiment.enrol_key_hash):
            raise Unauthenticated("This is not the experiment's enrolment key.")
        return experiment

    async def client_of(self, experiment_id: str, token: str) -> Client:
        """The client whose token this is. Raises Unauthenticated, and Revoked of its kind; and
        NotFound of an experiment that was deleted, whose clients no record knows any more.
        """
        slot = slot_of(token)
        client = None if slot is None else await self.repo.client(experiment_id, slot)
        if client is None and await self.repo.tombstone(experiment_id) is not None:
            await self.repo.experiment(experiment_id)  # says so
        if client is None or not matches(token, client.token_hash):
            raise Unauthenticated("This is not the token of a client of this experiment.")
        require_not_revoked(client)
        return client

    async def subscribe(self, experiment_id: str, key: str, request: Subscribe) -> Subscription:
        """Claim a free slot; the same client key always has the same slot and token.

        Raises Unauthenticated, Revoked, OutOfTurn, ExperimentFull.
        """
        experiment = await self.require_enrolment_key(experiment_id, key)
        unique = fingerprint(request.client_key)
        # Counted before its key is looked for: if it has taken the last slot, the key is found.
        enrolled = await self.repo.count_clients(experiment_id)
        client = await self.repo.client_by_key(experiment_id, unique)
        if client is None:
            _require_open(experiment, enrolled)
            async with self._claiming:
                client = await self._claim(experiment_id, key, request, unique)
        require_not_revoked(client)
        # The last client to enrol opens the first round.
        await self.rounds.advance(experiment_id, check_sample)
        size = shard_size(experiment, client.slot)
        listed = size <= LISTED_AT_ONCE
        return Subscription(
            client_id=client.id,
            token=client_token(
                request.client_key, experiment_id, client.slot, client.token_generation
            ),
            shard_size=size,
            shard=await _shard(experiment, client) if request.shard and listed else None,
            rule=_rule(experiment, client),
        )

    async def _claim(self, experiment_id: str, key: str, request: Subscribe, unique: str) -> Client:
        """A free slot, or the one that a copy of this very request has claimed meanwhile."""
        # Slots are claimed in their order, each only once the one before is known to be taken:
        # `count_clients` counts on it. Whoever loses one asks again, as the next may be taken too.
        while True:
            slot = await self.repo.count_clients(experiment_id)
            own = await self.repo.client_by_key(experiment_id, unique)
            if own is not None:
                return own
            # Again each time: the experiment may end, and the key be replaced, while this waits.
            experiment = await self.require_enrolment_key(experiment_id, key)
            _require_open(experiment, slot)
            client = Client(
                experiment_id=experiment_id,
                slot=slot,
                name=request.name,
                token_hash=fingerprint(client_token(request.client_key, experiment_id, slot)),
                enrolled_at=self.context.clock(),
                told=request.told,
            )
            if await self.repo.add_client(client, unique):
                log_event("client enrolled", experiment=experiment_id, client=client.id)
                return client

    async def shard(self, client: Client) -> Shard:
        """The client's part of the data set, as indices. Raises Conflict where they are too many.

        The SDK computes a long one by its subscription's rule; this is for whoever cannot.
        """
        experiment = await self.repo.experiment(client.experiment_id)
        size = shard_size(experiment, client.slot)
        if size > LISTED:
            raise Conflict(
                f"The shard's {size} indices are more than the {LISTED} that are listed: compute "
                "them by the rule that the subscription gives, as the SDK does.",
                code="shard-too-long",
            )
        return await _shard(experiment, client)


def _require_open(experiment: Experiment, enrolled: int) -> None:
    """Raises OutOfTurn, ExperimentFull."""
    if experiment.state is ExperimentState.AWAITING_MODEL:
        raise OutOfTurn(
            f"The experiment is {experiment.state}: its initial model has not been uploaded yet, "
            "try again."
        )
    if experiment.ended:
        raise OutOfTurn(f"The experiment is {experiment.state}: nobody can join any more.")
    if enrolled >= experiment.config.clients:
        raise ExperimentFull(f"All {experiment.config.clients} slots of this experiment are taken.")


def require_not_revoked(client: Client) -> None:
    """Raises Revoked."""
    if client.revoked_at is not None:
        raise _revoked(client.slot)


def require_part(experiment: Experiment, slot: int) -> None:
    """Raises Revoked where the slot's client takes part no more.

    Its token was checked when its request began; what it brings is written only now.
    """
    if slot in experiment.revoked:
        raise _revoked(slot)


def _revoked(slot: int) -> Revoked:
    return Revoked(
        f"{client_id(slot)} was revoked by the admin: it takes part no more. Ask them if that is "
        "a mistake."
    )


async def _shard(experiment: Experiment, client: Client) -> Shard:
    config, rule = experiment.config, _rule(experiment, client)
    # In a thread: half a million indices take seconds, which all other requests would wait for.
    indices = await asyncio.to_thread(
        draws.shard, rule.seed, rule.dataset_size, rule.clients, rule.slot, rule.version
    )
    return Shard(
        client_id=client.id,
        dataset=config.dataset,
        dataset_size=config.dataset_size,
        indices=indices,
    )


def _rule(experiment: Experiment, client: Client) -> ShardRule:
    config = experiment.config
    return ShardRule(
        version=experiment.draw_version,
        seed=config.seed,
        dataset_size=config.dataset_size,
        clients=config.clients,
        slot=client.slot,
    )


def shard_size(experiment: Experiment, slot: int) -> int:
    """How many examples a slot's shard holds."""
    config = experiment.config
    start, stop = draws.shard_bounds(config.dataset_size, config.clients, slot)
    return stop - start


def require_examples(experiment: Experiment, slot: int, count: int) -> None:
    """Raises BadWeights where a client says that it has more examples than its shard holds."""
    most = shard_size(experiment, slot)
    if count > most:
        raise BadWeights(
            f"{count} examples, but the shard holds {most}.", code="examples-out-of-range"
        )

"""The shard of a client: its part of the data set, as indices or as the rule that gives them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from serverless_fl.domain import draws
from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import Client


@dataclass(frozen=True, kw_only=True)
class ShardRule:
    """The arguments by which `serverless_fl.domain.draws.shard` computes a client's shard."""

    version: int
    seed: int
    dataset_size: int
    clients: int
    slot: int


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A client's part of the data set: positions in it, ascending."""

    client_id: str
    dataset: str
    dataset_size: int
    indices: list[int]


def require_shards(experiment: Experiment) -> None:
    """Raises Conflict if the parties bring data of their own."""
    _ = experiment.config.shared_out


async def draw_shard(experiment: Experiment, client: Client) -> Shard:
    """Compute the indices of a client's shard."""
    config, rule = experiment.config, rule_of(experiment, client)
    # Half a million indices take seconds: in a thread they hold up no other request.
    indices = await asyncio.to_thread(
        draws.shard, rule.seed, rule.dataset_size, rule.clients, rule.slot, rule.version
    )
    return Shard(
        client_id=client.id,
        dataset=config.dataset,
        dataset_size=config.shared_out,
        indices=indices,
    )


def rule_of(experiment: Experiment, client: Client) -> ShardRule:
    """The rule by which anybody can compute the shard. Raises Conflict if there are no shards."""
    config = experiment.config
    return ShardRule(
        version=experiment.draw_version,
        seed=config.seed,
        dataset_size=config.shared_out,
        clients=config.clients,
        slot=client.slot,
    )


def examples_of(experiment: Experiment, client: Client) -> int:
    """How many examples a client has: those of its shard, or those of its own that it declared."""
    if client.examples is not None:
        return client.examples
    config = experiment.config
    start, stop = draws.shard_bounds(config.shared_out, config.clients, client.slot)
    return stop - start


def require_examples(experiment: Experiment, client: Client, count: int) -> None:
    """Raises BadWeights if a client reports more examples than it has."""
    most = examples_of(experiment, client)
    if count > most:
        whose = "the shard holds" if client.examples is None else f"{client.id} declared"
        raise BadWeights(f"{count} examples, but {whose} {most}.", code="examples-out-of-range")

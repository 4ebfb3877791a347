"""The facts of a round that strategies read, made of its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serverless_fl.aggregation.strategy import RoundFacts, TrainingFacts, UpdateFacts
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.records import Update
from serverless_fl.learning_rate import learning_rate_in


def training_facts(config: Config, number: int) -> TrainingFacts:
    """Give how clients train in a round."""
    return TrainingFacts(
        local_epochs=config.local_epochs,
        batch_size=config.batch_size,
        learning_rate=learning_rate_in(config, number),
        momentum=config.momentum,
    )


def update_facts(
    client: int,
    num_examples: int,
    metrics: Mapping[str, float],
    norm: float | None = None,
    scale: float = 1.0,
) -> UpdateFacts:
    """Give what is known of an update; `norm` is its distance from the base before clipping."""
    reached = None if norm is None else norm * scale
    return UpdateFacts(client=client, num_examples=num_examples, metrics=metrics, norm=reached)


def facts_of(update: Update) -> UpdateFacts:
    """Give what is known of a stored update."""
    return update_facts(update.slot, update.num_examples, update.metrics, update.norm, update.scale)


def round_facts(
    config: Config, number: int, clients: int, updates: Sequence[UpdateFacts]
) -> RoundFacts:
    """Give what is known of a round. Older rounds do not record `clients` and have 0."""
    return RoundFacts(
        number=number,
        updates=updates,
        clients=clients or config.clients,
        training=training_facts(config, number),
    )


def sentence(fault: str) -> str:
    """Give a strategy's fault as a sentence."""
    return f"{fault[0].upper()}{fault[1:]}."

"""A party's declaration of its own data at its enrolment, and the coordinator's checks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.service.context import Context
from serverless_fl.domain.agreement import (
    NORMALISE,
    Agreement,
    ColumnSums,
    Normalisation,
    agreement_of,
    require_same_facts,
    require_sums,
)
from serverless_fl.domain.errors import BadEnrolment, BadWeights, Conflict
from serverless_fl.domain.experiment import FEDERATED, Config, Experiment, ExperimentState
from serverless_fl.domain.records import Client


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The number of examples of a party's own data, facts about them, and sums of columns.

    A party whose data are a shard declares nothing: `examples` is None.
    """

    examples: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    sums: Sequence[ColumnSums] = ()


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a party reads before it enrols, and again once the first round is open."""

    max_examples: int
    agreement: Agreement
    sums_due: bool
    normalisation: Normalisation | None


async def terms(context: Context, experiment: Experiment) -> Terms:
    """The terms for parties with data of their own.

    Raises Conflict if the experiment takes none, and NotFound before its initial model is there.
    """
    if not experiment.config.own_data:
        raise Conflict(
            "The clients of this experiment share a common data set: there is nothing to agree on.",
            code="data-not-taken",
        )
    return Terms(
        max_examples=experiment.config.max_examples_per_client,
        agreement=await agreement(context, experiment),
        sums_due=sums_are_due(experiment),
        normalisation=await context.repo.normalisation(experiment.id),
    )


async def agreement(context: Context, experiment: Experiment) -> Agreement:
    """The terms that the initial model's metadata hold. Raises NotFound before it is there."""
    layout = await context.repo.layout(experiment.id)
    return agreement_of(layout.metadata)


def require_agreement(config: Config, metadata: Mapping[str, str]) -> None:
    """Raise BadWeights (`bad-facts`) unless an initial model's metadata hold the terms."""
    agreed = agreement_of(metadata)
    if config.normalisation == FEDERATED and not agreed.normalise:
        raise BadWeights(
            "The parties' sums are to fix the normalisation, but the initial model's metadata "
            f"name no column (`{NORMALISE}`).",
            code="bad-facts",
        )


async def check_declaration(
    context: Context, experiment: Experiment, declared: Declaration, known: Client | None
) -> None:
    """Check the data of a party, which may be a `known` client that enrols again.

    Raises BadEnrolment unless the experiment takes them.
    """
    config = experiment.config
    if not config.own_data:
        if declared != Declaration():
            raise BadEnrolment(
                "The experiment shares out a common data set: enrol without examples, facts and "
                "sums.",
                code="data-not-taken",
            )
        return
    if declared.examples is None:
        raise BadEnrolment(
            "The parties of this experiment bring data of their own: declare the number of your "
            "examples when you enrol (`examples`).",
            code="examples-missing",
        )
    if declared.examples > config.max_examples_per_client:
        raise BadEnrolment(
            f"{declared.examples} examples are more than a party may declare "
            f"({config.max_examples_per_client}, max_examples_per_client).",
            code="too-many-examples",
        )
    agreed = await agreement(context, experiment)
    require_same_facts(agreed.facts, declared.facts)
    if known is None and sums_are_due(experiment):
        require_sums(agreed.normalise, declared.sums, declared.examples)


def sums_are_due(experiment: Experiment) -> bool:
    """Whether the sums of a party that enrols now go into the normalisation.

    A party that comes after the start sends none, or its sums are not kept.
    """
    asked = experiment.config.normalisation == FEDERATED
    return asked and experiment.state is ExperimentState.ENROLLING


def require_same_examples(client: Client, declared: Declaration) -> None:
    """Raise Conflict if a client that enrols again declares another number of examples."""
    if client.examples != declared.examples:
        raise Conflict(
            f"{client.id} enrolled with {client.examples} examples and now declares "
            f"{declared.examples}: the number is fixed. Take part with those {client.examples}, or "
            "enrol as another client, with a client key of its own.",
            code="examples-fixed",
        )

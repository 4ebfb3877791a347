"""The settings of a run: those of its experiment, and how its data are split.

Only a run that simulates all clients knows the split. A coordinator shares a common data set out
equally; with any other split, its experiment is one whose parties bring data of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from client_sdk.cli.settings import BY_COLUMN, Given, effective
from client_sdk.data.splits import SPLITS
from client_sdk.data.splits.drawing import Drawn, described, draw, split_of
from client_sdk.data.splits.equal import Equal
from client_sdk.data.splits.split import Examples, Split
from client_sdk.errors import UsageError
from serverless_fl.alternatives import NAME
from serverless_fl.domain.experiment import OWN
from serverless_fl.wire.choices import OneOf, plain
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUP_KEY

_NO_KEY_YET = "0" * 64


class RunSettings(ExperimentConfig):
    """The settings of an experiment whose clients all run here."""

    split: Annotated[Split, OneOf(SPLITS)] = Field(
        Equal(),
        description="Which training examples each simulated client has",
        json_schema_extra={GROUP_KEY: "data", "default": plain(Equal())},
    )


def settle(
    given: Given, examples: Examples, *, dataset: str, model: str, own_helper: bool = False
) -> RunSettings:
    """The settings of a run on these examples; the number of clients is that of the sites, if any.

    With `own_helper` the run starts the helper of its secure aggregation itself. Nobody knows its
    key yet, so the settings have zeros in its place. Raises UsageError and DataError.
    """
    if own_helper:
        if given.values.get("helper_key"):
            raise UsageError(
                f"{given.name('helper_key')} names another operator's helper, and a run without "
                "--server starts one of its own: leave it out."
            )
        given = replace(given, flags={**given.flags, "helper_key": _NO_KEY_YET})
    if examples.of_sites:
        given = replace(given, of_sites=True)
        chosen = given.nested()["split"][NAME]
        if chosen != BY_COLUMN:
            raise UsageError(
                f"{given.name('split')} {chosen}: the data are those of sites, one for each "
                "client, so there is nothing to split."
            )
    split = split_of(given.nested().get("split", plain(Equal())))
    clients = split.clients_in(examples) if split is not None else None
    found = effective(
        given, dataset=dataset, dataset_size=examples.count, model=model, clients=clients
    )
    assert isinstance(found, RunSettings)  # noqa: S101  (`given` declares them)
    return found


def draw_split(settings: RunSettings, examples: Examples) -> Drawn:
    """The examples of each client. Raises DataError."""
    return draw(settings.split, examples, settings.clients, settings.seed)


def experiment_of(settings: RunSettings, drawn: Drawn | None) -> ExperimentConfig:
    """The experiment as its coordinator takes it; `drawn` is None where that shares the data out.

    A client without examples has no slot, so numbers of clients are bounded by those that take
    part.
    """
    given = settings.model_dump(exclude={"split"}, exclude_unset=True)
    if drawn is None:
        return ExperimentConfig(**given)
    clients, largest = len(drawn.parts), max(map(len, drawn.parts))
    per_round = min(settings.clients_per_round, clients)
    bounded = {
        "min_clients": settings.min_clients and min(settings.min_clients, clients),
        "quorum": settings.quorum and min(settings.quorum, per_round),
    }
    own = {
        "dataset": f"{settings.dataset[:100]}, {described(settings.split)[:90]}",
        "data": OWN,
        "dataset_size": None,
        "max_examples_per_client": max(settings.max_examples_per_client, largest),
        "clients": clients,
        "clients_per_round": per_round,
    }
    return ExperimentConfig(**{**given, **bounded, **own})

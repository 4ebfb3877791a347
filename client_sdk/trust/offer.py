"""What a party is asked to take part in, as it sees it before it enrols: for its consent.

The digest of an offer covers what cannot change without another consent: the experiment, its
settings, the budget of epsilon, and the initial model with its task. Who takes part is shown and
not covered, because parties enrol one after another.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import DataError
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.provenance import config_digest
from serverless_fl.wire.text import clean
from serverless_fl.wire.views import ClientView, ExperimentView, TaskView

NAMES = 20  # of other parties that are shown; the others are counted


@dataclass(frozen=True)
class Offer:
    """An experiment, as the coordinator shows it. `initial` is the SHA-256 of its model 0."""

    view: ExperimentView
    config: Config
    initial: str
    parties: tuple[ClientView, ...]

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal."""
        budget = self.config.budget_epsilon
        content = [self.view.id, config_digest(self.config), budget, self.initial]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def lines(self) -> list[str]:
        """All of it for people, a line each."""
        name = f" ({clean(self.view.name, 80)})" if self.view.name else ""
        return [
            f"Experiment {self.view.id}{name}",
            f"Settings: {_settings(self.config)}",
            f"Task: {_task(self.view.task)}",
            f"Initial model: {self.initial}",
            f"Privacy: {self.privacy}",
            f"Parties: {self._who()}",
            f"Digest of this offer: {self.digest}",
        ]

    @property
    def privacy(self) -> str:
        """What the coordinator and the readers of models learn, in two sentences."""
        if self.config.secure:
            seen = "the coordinator sees the sum of a round's updates"
            if self.config.helped:
                seen += (
                    f", and each update together with the helper {self.config.helper_key}, another "
                    "operator's"
                )
        else:
            seen = "the coordinator sees each update, its number of examples and its metrics"
        mechanism = self.view.config.privacy
        if mechanism.example_noise is not None:
            return (
                f"{seen.replace('its metrics', 'the epsilon that its examples have cost')}; each "
                f"client makes its updates differentially private for its examples "
                f"({mechanism.name}) and sends no other metrics."
            )
        if not mechanism.keeps_ledger:
            return f"{seen}; no differential privacy."
        budget = self.config.budget_epsilon
        until = "without a budget" if budget is None else f"up to an epsilon of {budget:g}"
        claimed = " counting on secret cohorts" if self.config.secret_cohorts else ""
        return (
            f"{seen}; models are differentially private for a client ({mechanism.name}), "
            f"{until}{claimed}."
        )

    def _who(self) -> str:
        there = [one for one in self.parties if one.revoked_at is None]
        names = ", ".join(map(_named, there[:NAMES]))
        more = f" and {len(there) - NAMES} more" if len(there) > NAMES else ""
        config = self.config
        return (
            f"{len(there)} of {config.clients} have enrolled{': ' if names else ''}{names}{more}; "
            f"{config.clients_per_round} take part in a round."
        )


async def read_offer(client: CoordinatorClient, experiment_id: str) -> Offer:
    """Ask the coordinator for an offer.

    Raises ClientError, and DataError for settings that contradict each other, and for an experiment
    whose initial model is not uploaded yet.
    """
    view = await client.experiment(experiment_id)
    models = await client.models(experiment_id)
    if not models or models[0].version != 0:
        raise DataError("The experiment has no initial model yet: join again when it has one.")
    parties = tuple(await client.clients(experiment_id))
    try:
        config = view.config.to_config()
    except InvalidConfig as error:
        raise DataError(f"The experiment's settings contradict each other: {error}") from error
    return Offer(view, config, models[0].sha256, parties)


async def require_accepted(client: CoordinatorClient, experiment_id: str, digest: str) -> Offer:
    """Give an offer. Raises DataError unless it has the digest that was accepted."""
    offer = await read_offer(client, experiment_id)
    if offer.digest != digest:
        raise DataError(
            f"The experiment is another than the one that was accepted: its digest is "
            f"{offer.digest}, and {clean(digest, 64)} was accepted."
        )
    return offer


def _named(one: ClientView) -> str:
    name = clean(one.name, 80) or one.id
    return f"{name} ({one.identity})" if one.identity else name


def _settings(config: Config) -> str:
    """The settings that have no default or differ from it."""
    defaults = Config.defaults()
    found = {k: v for k, v in config.flat().items() if k not in defaults or v != defaults[k]}
    return clean(", ".join(f"{name} {_plain(value)}" for name, value in found.items()))


def _plain(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    name, *own = value.items()
    said = ", ".join(f"{key} {setting}" for key, setting in own)
    return f"{name[1]} ({said})" if said else str(name[1])


def _task(task: TaskView | None) -> str:
    if task is None:
        return "not named"
    return f"{clean(task.name, 80)}, fingerprint {clean(task.fingerprint, 64) or 'none'}"

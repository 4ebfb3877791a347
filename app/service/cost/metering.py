"""Estimates from its records what an experiment would cost on Lambda, and watches its budget.

The coordinator counts nothing while an experiment runs (docs/decisions/0021). It derives the usage
of a round as the round closes, and stores it with the round. `Metering.closed` adds it to the
experiment's usage. For a phase that is not over, each request derives the usage anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from app.service.context import Context
from app.service.cost.usage import Report, Terms
from serverless_fl.aggregation import strategy_of
from serverless_fl.domain import prices
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.prices import Cost, Usage
from serverless_fl.domain.records import Client, Refusal, Update
from serverless_fl.domain.round import Round

SAMPLES = 8  # so many clients stand for all: when they enrolled, and how they ask


@dataclass(frozen=True)
class Estimate:
    """The usage until now, and what it would cost."""

    usage: Usage
    cost: Cost

    def reached(self, budget: float) -> bool:
        return self.cost.usd >= budget


class Metering:
    """Reads the store and writes nothing."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.repo = context.repo
        prices, limits = context.prices, context.limits
        self.terms = Terms(
            part_bytes=limits.part_bytes,
            direct=context.direct,
            poll_min=limits.poll_min_seconds,
            poll_max=limits.poll_max_seconds,
            metered_bytes=prices.http_api_metered_bytes,
            each=prices.request_ms / 1000,
        )

    def usd(self, usage: Usage) -> float:
        return prices.priced(usage, self.context.prices).usd

    async def closed(self, experiment: Experiment, round_: Round | None = None) -> Experiment:
        """The experiment with the usage of a phase that ends now: of this round, or else of the
        enrolment or the pause that it is in. The write that ends the phase stores the result; no
        other write changes `usage` or `told`.
        """
        if round_ is not None:
            return replace(experiment, usage=experiment.usage + (round_.usage or Usage()))
        if experiment.state is ExperimentState.PAUSED:
            return replace(experiment, usage=experiment.usage + await self.of_pause(experiment))
        clients = await self.repo.count_clients(experiment.id)
        sample = await self._sample(experiment, clients)
        usage = experiment.usage + await self._setup(experiment, clients, sample)
        return replace(experiment, usage=usage, told=_told(sample))

    async def of_setup(self, experiment: Experiment, clients: int) -> Usage:
        """The usage of the enrolment until now."""
        return await self._setup(experiment, clients, await self._sample(experiment, clients))

    async def _setup(self, experiment: Experiment, clients: int, sample: Sequence[Client]) -> Usage:
        return self.terms.setup(
            experiment.config,
            await self._model_size(experiment, 0),
            clients,
            [client.enrolled_at - experiment.created_at for client in sample],
            self._until(experiment) - experiment.created_at,
            _told(sample),
        )

    async def of_round(
        self, experiment: Experiment, round_: Round, updates: Iterable[Update] | None = None
    ) -> Usage:
        """The usage of a round until its close, or until now. `updates` spares reading them."""
        if updates is None:
            updates = await self.repo.updates(round_)
        refusals = await self.repo.refusals(experiment.id, round_.number)
        base = await self.repo.model(experiment.id, round_.base_version)
        size, told = base.blob.size if base else 0, strategy_of(experiment.config).broadcast
        states = [base.state[name].size for name in told if name in base.state] if base else []
        until = self._until(experiment) if round_.closed_at is None else round_.closed_at
        clients = await self.repo.count_clients(experiment.id) - len(experiment.revoked)
        reports = _reports(updates, refusals, size)
        return self.terms.round(round_, reports, size, clients, until, experiment.told, states)

    async def of_pause(self, experiment: Experiment) -> Usage:
        """The usage of the present pause, if there is one."""
        pauses = experiment.pauses
        if not pauses or pauses[-1].resumed_at is not None:
            return Usage()
        clients = await self.repo.count_clients(experiment.id) - len(experiment.revoked)
        length = self._until(experiment) - pauses[-1].paused_at
        return self.terms.pausing(experiment.config, clients, max(0.0, length))

    async def estimate(self, experiment: Experiment, round_: Round | None) -> Estimate:
        """An estimate for the whole experiment, whose last round is `round_`."""
        usage = experiment.usage
        clients = await self.repo.count_clients(experiment.id)
        if round_ is None and not experiment.round:
            usage += await self.of_setup(experiment, clients)
        elif round_ is not None and experiment.model_version != round_.number:
            usage += round_.usage or await self.of_round(experiment, round_)
        usage += await self.of_pause(experiment)
        usage += self.terms.overhead(
            experiment.config,
            max(0.0, self._age(experiment)),
            await self.repo.count_evaluations(experiment.id),
            await self._model_size(experiment, 0),
            experiment.told,
        )
        if experiment.ended:
            usage += self.terms.farewell(clients - len(experiment.revoked), experiment.told)
        return Estimate(usage, prices.priced(usage, self.context.prices))

    async def over_budget(self, experiment: Experiment, round_: Round | None) -> str | None:
        """Why the experiment must not open its next round, if it has used up its budget.

        Its `usage` includes this round.
        """
        budget = experiment.config.budget_usd
        if budget is None:
            return None
        found = await self.estimate(experiment, round_)
        return _refusal(found, budget) if found.reached(budget) else None

    async def _sample(self, experiment: Experiment, clients: int) -> list[Client]:
        slots = {clients * n // SAMPLES for n in range(SAMPLES)} if clients else set()
        found = [await self.repo.client(experiment.id, slot) for slot in sorted(slots)]
        return [client for client in found if client is not None]

    def _until(self, experiment: Experiment) -> float:
        return self.context.clock() if experiment.ended_at is None else experiment.ended_at

    def _age(self, experiment: Experiment) -> float:
        """Seconds of its life, without those after an end that an extension took back."""
        idle = sum(extension.idle_seconds for extension in experiment.extensions)
        return self._until(experiment) - experiment.created_at - idle

    async def _model_size(self, experiment: Experiment, version: int) -> int:
        model = await self.repo.model(experiment.id, version)
        return model.blob.size if model else 0


def _refusal(found: Estimate, budget: float) -> str:
    """Says that the budget is used up, and how the admin can go on."""
    return (
        f"The estimated cost on Lambda, {prices.dollars(found.cost.usd)}, has reached the budget "
        f"of {prices.dollars(budget)}. Resume it with a higher budget_usd, or stop it."
    )


def _told(sample: Sequence[Client]) -> float:
    return sum(client.told for client in sample) / max(len(sample), 1)


def _reports(
    updates: Iterable[Update], refusals: Iterable[Refusal], model_size: int
) -> list[Report]:
    """The reports of a round. No record has a refused update's size; it counts as the model's."""
    found = {u.slot: Report(at=u.received_at, size=u.blob.size) for u in updates}
    for r in refusals:
        found.setdefault(r.slot, Report(at=r.refused_at, size=model_size))
    return list(found.values())

"""A client's turn: what it has to do now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from app.service.clients.long_poll import Gone, LongPolls, state_of
from app.service.context import Context
from app.service.cost import usage
from app.service.files.uploads import max_update_bytes, update_bytes
from app.service.rounds.machine import Rounds
from app.service.rounds.progress import check_sample
from app.telemetry import ids
from serverless_fl.aggregation import strategy_of
from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Blob, Client
from serverless_fl.domain.round import PHASES, Round, RoundState
from serverless_fl.privacy import Mechanism, mechanism_of


@dataclass(frozen=True, kw_only=True)
class Train:
    """The client has to train from `model` and to upload an update before the round's deadline.

    `state` has the arrays of the strategy's state that it needs for that, by name; those that no
    version has yet are missing. `direct`: the parts of the update go to the blob store itself.
    Sizes are in bytes.
    """

    experiment: Experiment
    round: Round
    model: Blob
    strategy: Strategy
    mechanism: Mechanism
    state: Mapping[str, Blob]
    seconds_left: float
    part_bytes: int
    max_update_bytes: int
    direct: bool


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The client has to do its part in the phase of secure aggregation that the round is in."""

    round: Round
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The client has to ask again after `retry_after` seconds, or by a long poll at once.

    `number` is the round that the experiment is in; `long_poll_seconds` is 0 where none is taken.
    """

    number: int
    retry_after: float
    message: str
    long_poll_seconds: float


@dataclass(frozen=True, kw_only=True)
class Done:
    """The experiment has ended: the client need not ask again."""

    experiment: Experiment


Turn = Train | Wait | Phase | Done


class Turns:
    """Tells a client whether to train, to wait or to stop."""

    def __init__(self, context: Context, rounds: Rounds, long_polls: LongPolls) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds
        self.long_polls = long_polls

    async def status(
        self,
        client: Client,
        wait: float = 0.0,
        known: int | None = None,
        gone: Gone | None = None,
    ) -> Turn:
        """Say what the client has to do now.

        If it has to wait in round `known`, this returns only when that has changed, when `wait`
        seconds are over, or when the client is `gone`.
        """
        experiment, round_ = await self.rounds.advance(client.experiment_id, check_sample)
        answer = await self._status(client, experiment, round_)
        if not isinstance(answer, Wait) or answer.number != known:
            return answer
        if (seconds := min(wait, answer.long_poll_seconds)) <= 0:
            return answer
        if self.long_polls.has_enough(client):
            return replace(answer, long_poll_seconds=0.0)
        seen = state_of(experiment, round_)
        with ids.waiting():
            await self.long_polls.wait(experiment.id, seen, seconds, slot=client.slot, gone=gone)
        experiment, round_ = await self.rounds.advance(client.experiment_id, check_sample)
        return await self._status(client, experiment, round_)

    async def _status(self, client: Client, experiment: Experiment, round_: Round | None) -> Turn:
        if experiment.ended:
            return Done(experiment=experiment)
        if experiment.state is ExperimentState.PAUSED:
            return self._wait(experiment, round_, f"Paused: {experiment.reason}")
        if round_ is None:
            enrolled = await self.repo.count_clients(experiment.id)
            return self._wait(experiment, round_, f"{enrolled} of {_needed(experiment)} enrolled.")
        if round_.state in PHASES:
            return await self._phase(client, experiment, round_)
        if round_.state is not RoundState.COLLECTING:
            return self._wait(experiment, round_, f"Round {round_.number} is being aggregated.")
        if client.slot not in round_.cohort:
            return self._wait(experiment, round_, f"Not in the cohort of round {round_.number}.")
        attempt = round_.updates_attempt
        if await self.repo.update(experiment.id, round_.number, client.slot, attempt):
            return self._wait(experiment, round_, "Your update is in; others are still training.")
        refusal = await self.repo.refusal(experiment.id, round_.number, client.slot)
        if refusal is not None:
            return self._wait(experiment, round_, f"Your update was refused: {refusal.reason}")
        return await self._train(experiment, round_)

    async def _phase(self, client: Client, experiment: Experiment, round_: Round) -> Phase | Wait:
        if round_.helped:
            return self._wait(experiment, round_, f"Round {round_.number} waits for the helper.")
        if client.slot not in round_.awaited:
            return self._wait(experiment, round_, f"Not in round {round_.number} now.")
        if await self.repo.has_done_phase(round_, client.slot):
            return self._wait(experiment, round_, f"Your part is in; others are {round_.state}.")
        left = max(0.0, round_.deadline - self.context.clock())
        return Phase(round=round_, seconds_left=left)

    async def _train(self, experiment: Experiment, round_: Round) -> Train | Wait:
        base = await self.repo.model(experiment.id, round_.base_version)
        if base is None:
            return self._wait(experiment, round_, "The base model is not there yet.")
        strategy = strategy_of(experiment.config)
        return Train(
            experiment=experiment,
            round=round_,
            model=base.compressed or base.blob,
            strategy=strategy,
            mechanism=mechanism_of(experiment.config),
            state={name: base.state[name] for name in strategy.broadcast if name in base.state},
            seconds_left=max(0.0, round_.deadline - self.context.clock()),
            part_bytes=self.context.limits.part_bytes,
            max_update_bytes=max_update_bytes(await update_bytes(self.repo, experiment, base.blob)),
            direct=self.context.direct,
        )

    def _wait(self, experiment: Experiment, round_: Round | None, message: str) -> Wait:
        """Advise a pause in proportion to how long the round, or the pause, has taken."""
        limits = self.context.limits
        bounds = limits.poll_min_seconds, limits.poll_max_seconds
        since = round_.opened_at if round_ else experiment.created_at
        if experiment.state is ExperimentState.PAUSED:
            since = experiment.pauses[-1].paused_at
            bounds = usage.paused_bounds(experiment.config, *bounds)
        advised = usage.pause(self.context.clock() - since, *bounds)
        return Wait(
            number=experiment.round,
            retry_after=round(advised * (0.75 + 0.5 * self.context.jitter()), 3),
            message=message,
            # A pause may last for days: a connection that waits for its end only costs.
            long_poll_seconds=0.0
            if experiment.state is ExperimentState.PAUSED
            else self.long_polls.seconds,
        )


def _needed(experiment: Experiment) -> str:
    config = experiment.config
    if config.clients_to_start == config.clients:
        return f"{config.clients} clients"
    return f"{config.clients_to_start} clients (at most {config.clients})"

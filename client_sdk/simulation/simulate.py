"""Many participants on this machine: create the experiment, run the clients, follow the rounds."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client_sdk.api.client import CoordinatorClient
from client_sdk.data.data import Data
from client_sdk.data.seeds import derive_seed
from client_sdk.errors import BadSettings, NotThere
from client_sdk.memory.memory import Memory
from client_sdk.participant import Event, Participant, Terms, Trainer
from client_sdk.simulation.global_models import GlobalModels
from client_sdk.simulation.outcome import Outcome, Row
from client_sdk.simulation.waker import Waker
from client_sdk.task import weights_file
from client_sdk.task.local import require_taken
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Task
from serverless_fl.domain.experiment import ASKED, TERMINAL, ExperimentState
from serverless_fl.domain.round import RoundState
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.schema import ModelOrigin
from serverless_fl.wire.turns import Done
from serverless_fl.wire.views import ExperimentView, RoundSummary

WATCH_SECONDS = 0.3
KEEP_BYTES = 256 * 1024**2  # of models that all clients together keep


@dataclass(frozen=True)
class Watchers:
    """Functions that the simulation calls from the event loop when something happens."""

    on_event: Callable[[Event], None] = lambda event: None
    on_experiment: Callable[[ExperimentView], None] = lambda experiment: None
    on_row: Callable[[Row], None] = lambda row: None


def initial_model(task: Task, seed: int) -> bytes:
    """The file of an experiment's first model, as a function of the experiment's seed.

    The task must know the form of its weights (see `Task.meet`). Raises BadSettings, DataError.
    """
    weights = task.initial(derive_seed(seed, "initial weights"))
    return weights_file.write(weights, task.metadata())


class _Paused(Exception):
    """The experiment opens no further round until its admin says so."""


class Simulation:
    """One experiment and all of its clients in this process; training goes to `trainer`.

    Each new global model is measured on `test`. The clients' keys are made from `secret`. The same
    secret makes the same clients, so that an interrupted simulation goes on where it stopped.

    Without `shares` the coordinator shares the trainer's data out. With them, each client brings
    the examples at these places as its own, and the settings' `data` is "own"; `names` are the
    clients' names.

    `initial` is the file of the initial model, instead of the task's own weights; if it is a model
    of another experiment, `origin` names that. `rounds_before` is the number of rounds that an
    experiment was made with, if it was another one: `resume` raises it. In the folder `memory` the
    clients keep what the strategy makes them remember; without it, in this process. `labels` counts
    the examples of each label at some places; an experiment that asks for these counts gets them.
    """

    def __init__(
        self,
        client: CoordinatorClient,
        task: Task,
        config: ExperimentConfig,
        trainer: Trainer,
        *,
        test: Data,
        secret: str,
        name: str = "",
        watchers: Watchers | None = None,
        shares: Sequence[Sequence[int]] | None = None,
        names: Sequence[str] = (),
        initial: bytes | None = None,
        origin: ModelOrigin | None = None,
        rounds_before: int | None = None,
        memory: Path | None = None,
        labels: Callable[[Sequence[int]], Mapping[str, int]] | None = None,
    ) -> None:
        self.client = client
        self.task = task
        self.test = test
        self.config = config
        self.trainer = trainer
        self.name = name
        self.watchers = watchers or Watchers()
        self.experiment_id = ""
        self._secret = secret
        self._shares, self._names = shares, names
        self._initial, self._origin, self._rounds_before = initial, origin, rounds_before
        self._memory = memory
        self._labels = labels if config.label_counts == ASKED else None
        self._waker = Waker()
        self._enrolling = asyncio.Lock()
        self._is_paused = False

    async def create(self) -> str:
        """Create the experiment with its initial weights, or find it again; gives its id.

        Raises RequestRefused (bad key, contradicting settings, or others than it was made with),
        and BadSettings for a correction of gradients that the task does not make.
        """
        require_taken(self.task, TrainSettings.of_experiment(self.config))
        config = self.config
        if self._rounds_before is not None:
            config = config.model_copy(update={"rounds": self._rounds_before})
        created = await self.client.create_experiment(
            self.name, config, self._derive("experiment"), self._origin
        )
        if created.state is ExperimentState.AWAITING_MODEL:
            weights = self._initial or initial_model(self.task, self.config.seed)
            await self.client.upload_initial_model(
                created.id, weights, created.part_bytes, direct=created.direct
            )
        self.experiment_id = created.id
        self._created = created
        goal, broadcast = self.config.goal, self.config.strategy.broadcast
        self._models = GlobalModels(
            *(self.client, created, self.task, self.test, goal, broadcast),
            on_dropped=lambda n, note: self.watchers.on_event(Event("dropped", "", n, note)),
        )
        return created.id

    async def resume(self) -> None:
        """Let an experiment go on that is paused, or whose rounds are all closed.

        It gets the budgets and the number of rounds of this simulation's settings. Raises
        BadSettings where it has more rounds already, and StateConflict: with the code
        `budget-reached` where the experiment has cost that much, `not-extendable` where it has
        ended before its last round.
        """
        experiment = await self.client.experiment(self.experiment_id)
        rounds, budget = self.config.rounds, self.config.budget_usd
        epsilon, present = self.config.budget_epsilon, experiment.config
        if rounds < experiment.config.rounds:
            raise BadSettings(
                f"The run has {experiment.config.rounds} rounds by now, which cannot become "
                f"{rounds}: give as many or more."
            )
        more = rounds > experiment.config.rounds
        other = (budget is not None and budget != present.budget_usd) or (
            epsilon is not None and epsilon != present.budget_epsilon
        )
        paused = experiment.state is ExperimentState.PAUSED
        if more or paused or (other and experiment.state not in TERMINAL):
            await self.client.resume_experiment(
                self.experiment_id, budget, rounds if more else None, epsilon
            )

    async def run(self) -> Outcome:
        """Run all clients until the experiment ends, or is paused."""
        closed: asyncio.Queue[RoundSummary | None] = asyncio.Queue()
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(self._follow(closed)),
            asyncio.create_task(self._measure(closed)),
            *(asyncio.create_task(self._participate(n)) for n in range(self.config.clients)),
        ]
        try:
            # The first failure ends the run: the others would wait for a client that cannot go on.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        except _Paused:
            pass  # nobody here could resume it while it waits
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        experiment = await self.client.experiment(self.experiment_id)
        weights = await self._models.download(experiment.model_version or 0)
        # After the clients' end: each reports what the last model is worth on its own data.
        models = await self.client.models(self.experiment_id)
        best = await self._models.best()
        return Outcome(experiment, self._models.rows, weights, models, best)

    async def _participate(self, number: int) -> Done:
        """Be one client until the experiment ends."""
        participant = Participant(
            self.client,
            self.experiment_id,
            self._derive(f"client {number}"),
            self.trainer,
            name=self._names[number] if self._names else f"simulated {number}",
            on_event=self._on_event,
            pause=self._waker.sleep,
            keep_bytes=KEEP_BYTES // self.config.clients,
            terms=Terms(
                self.config.seed,
                self._created.part_bytes,
                self._created.direct,
                self.config.fine_tune_epochs,
                self.config.privacy.example_noise is not None,
            ),
            examples=self.config.dataset_size,
            own=None if self._shares is None else self._shares[number],
            memory=Memory(self._memory / f"{number}.memory" if self._memory else None),
            labels=self._labels,
        )
        if self._shares is None:
            await participant.enrol(self._created.enrolment_key)
        else:
            # One after another, because slots are in the order of arrival: the client of each share
            # has the same slot, and so the same rounds, in each run.
            async with self._enrolling:
                await participant.enrol(self._created.enrolment_key)
        return await participant.run()

    def _on_event(self, event: Event) -> None:
        self.watchers.on_event(event)
        if event.kind in ("uploaded", "masking", "refused", "late"):
            self._waker.finished(event.client_id)

    async def _follow(self, closed: asyncio.Queue[RoundSummary | None]) -> None:
        """Follow the experiment to its end or pause, and wake the clients.

        Each round that has made a model goes into `closed`, and None at the end.
        """
        seen = 0
        while True:
            self._waker.changed.clear()
            experiment = await self.client.experiment(self.experiment_id, seen)
            self.watchers.on_experiment(experiment)
            self._waker.update(experiment)
            # A round is closed a moment before its model is announced.
            for summary in experiment.history:
                if summary.state is RoundState.CLOSED and summary.number <= (
                    experiment.model_version or 0
                ):
                    closed.put_nowait(summary)
                    seen = summary.number
            self._is_paused = experiment.state is ExperimentState.PAUSED
            if self._is_paused or experiment.state in TERMINAL:
                closed.put_nowait(None)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._waker.changed.wait()

    async def _measure(self, closed: asyncio.Queue[RoundSummary | None]) -> None:
        """Measure the model of each round in `closed`. Raises _Paused after the last one."""
        while summary := await closed.get():
            try:
                row = await self._models.measure(summary)
            except NotThere as error:
                if error.code != "model-not-kept":
                    raise
                # The rounds were faster than the measuring.
                self.watchers.on_event(Event("unmeasured", "", summary.number, error.detail))
            else:
                self.watchers.on_row(row)
        if self._is_paused:
            raise _Paused

    def _derive(self, purpose: str) -> str:
        return hmac.new(self._secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()

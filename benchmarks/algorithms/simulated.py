"""A whole federation in this process, on a simulated clock.

The coordinator is the application itself on SQLite, asked over ASGI; the clients are the SDK's
`Participant`, and they train. Only time is simulated: a client that trains takes the seconds that
its speed and its link say, and then the clock jumps to the next event. So seconds and dollars do
not depend on this machine or on what else it does, and a run is a function of its case and its
seed, also where rounds are buffered.

Seconds are those of clients and links alone: requests take none. A client that waits hears of a
change at once. Dollars are the coordinator's own estimate, from its records, of what the
experiment has cost on AWS Lambda by then (docs/decisions/0021).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.config import Settings
from app.main import create_app
from app.service.coordinator import Context, Coordinator, Repository
from app.store.sqlite import open_sqlite
from benchmarks.algorithms.attacks import Attack
from client_sdk.api.client import CoordinatorClient
from client_sdk.data.data import Data
from client_sdk.data.seeds import derive_seed
from client_sdk.data.splits.drawing import Law
from client_sdk.data.splits.stream import Stream
from client_sdk.engines.in_line import InLine
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.participant import Event, Participant
from client_sdk.recipes.sharing import Shared, share_out
from client_sdk.simulation.simulate import initial_model
from client_sdk.task import weights_file
from client_sdk.task.local import measure
from client_sdk.task.task import LocalUpdate, Task, Weights
from serverless_fl.domain.experiment import OWN, TERMINAL
from serverless_fl.domain.records import slot_named
from serverless_fl.privacy.sending import Sending
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.turns import Train
from serverless_fl.wire.views import ExperimentView

LOOK_SECONDS = 15.0  # a waiting client asks again after so long


@dataclass(frozen=True)
class Fleet:
    """How fast clients are, and how often they drop out.

    A client's seconds are multiplied by exp(sigma z), z ~ N(0, 1), drawn once for each client. In
    the share `dropping` of its turns it sends nothing, and is away for `away_seconds`.
    """

    examples_per_second: float = 100.0  # in training
    bytes_per_second: float = 1e6  # up and down
    sigma: float = 0.0
    dropping: float = 0.0
    away_seconds: float = 0.0


ALIKE, HONEST = Fleet(), Attack()


@dataclass(frozen=True)
class Case:
    """One cell of a table: a row, a column, and what they mean.

    `settings` are the experiment's, without those that the data fix. The first clients are
    malicious, as many as `malicious` says. A model of the accuracy `stop_at` ends the run.
    With `keep_norms` the result has the updates' distances from their base. Without `polls` the
    clients that are not in a round's cohort ask nothing, which makes thousands of clients faster
    and the dollars too low.
    """

    row: str
    column: str
    settings: Mapping[str, Any]
    clients: int = 20
    split: Law = "equal"
    fleet: Fleet = ALIKE
    malicious: int = 0
    stop_at: float | None = None
    keep_norms: bool = False
    polls: bool = True
    attack: Attack = HONEST


@dataclass(frozen=True)
class Material:
    """What all cases of a study learn, and on what they are measured.

    Each `every`-th model is measured, and the last. `more` gives further metrics of a model.
    """

    task: Task
    train: Any  # as `client_sdk.simulate` takes it
    test: Data
    every: int = 1
    more: Callable[[Task, Weights], Mapping[str, float]] = lambda task, weights: {}


class Clock:
    """Seconds that pass while everybody sleeps. One sleeper wakes at a time, so runs repeat."""

    def __init__(self, now: float = 1_000_000_000.0) -> None:
        self.now = now
        self._awake = 0
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, asyncio.Future[None]]] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._still = asyncio.Event()

    def __call__(self) -> float:
        return self.now

    async def play(self, lives: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Let all lives go on until each has ended. A failure of one ends the others."""
        self._awake = len(lives)
        async with asyncio.TaskGroup() as group:
            for life in lives:
                group.create_task(self._counted(life))
            await self._still.wait()
            while self._due:
                due, _, sleeper = heapq.heappop(self._due)
                if sleeper.done():  # it was woken before
                    continue
                self.now = due
                self._still.clear()
                self._awake += 1
                sleeper.set_result(None)
                await self._still.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await self._sleep(self._until(self.now + seconds))

    async def wait(self, most: float) -> None:
        """Wait until `wake`, at most for so many seconds."""
        sleeper = self._until(self.now + most)
        self._waiting.append(sleeper)
        await self._sleep(sleeper)

    def wake(self) -> None:
        """End all waits, one after another, in the order in which they began."""
        for sleeper in self._waiting:
            if not sleeper.done():
                heapq.heappush(self._due, (self.now, next(self._numbers), sleeper))
        self._waiting.clear()

    def _until(self, due: float) -> asyncio.Future[None]:
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._due, (due, next(self._numbers), sleeper))
        return sleeper

    async def _sleep(self, sleeper: asyncio.Future[None]) -> None:
        self._rest()
        await sleeper

    async def _counted(self, life: Coroutine[Any, Any, None]) -> None:
        try:
            await life
        finally:
            self._rest()

    def _rest(self) -> None:
        self._awake -= 1
        if self._awake == 0:
            self._still.set()


class _Dropped(Exception):
    """The client's process died while it trained."""


@dataclass
class _Trainer:
    """Trains for real, takes simulated seconds, and spoils what malicious clients send."""

    case: Case
    seed: int
    clock: Clock
    honest: LocalTrainer
    spoilt: LocalTrainer

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, order: Train
    ) -> LocalUpdate:
        return await self._train("train", client_id, indices, weights, order)

    async def train_corrected(
        self,
        client_id: str,
        indices: Sequence[int],
        weights: bytes,
        order: Train,
        offset: Mapping[str, np.ndarray],
    ) -> LocalUpdate:
        return await self._train("train_corrected", client_id, indices, weights, order, offset)

    async def _train(
        self,
        method: str,
        client_id: str,
        indices: Sequence[int],
        weights: bytes,
        order: Train,
        *more: Any,
    ) -> LocalUpdate:
        turn = f"{client_id} {order.round} {order.attempt}"
        if Stream(self.seed, f"drop {turn}").uniform() < self.case.fleet.dropping:
            raise _Dropped
        is_bad = int(client_id.rpartition("-")[2]) < self.case.malicious
        trainer = self.spoilt if is_bad else self.honest
        update = await getattr(trainer, method)(client_id, indices, weights, order, *more)
        if is_bad:
            seed = derive_seed(self.seed, "attack", turn)
            update = self.case.attack.spoil(weights, update, seed)
        told = order.strategy
        files = 2 + (len(told.broadcast) + len(told.companions) if told else 0)
        fleet = self.case.fleet
        seconds = update.num_examples * order.training.local_epochs / fleet.examples_per_second
        seconds += files * len(weights) / fleet.bytes_per_second
        await self.clock.sleep(seconds * self._slowness(client_id))
        return update

    def _slowness(self, client_id: str) -> float:
        return math.exp(self.case.fleet.sigma * Stream(self.seed, f"speed {client_id}").normal())


class _Malicious(Participant):
    """It sends what it likes: nothing scales it down to the bound, as honest clients do theirs."""

    def _to_send(self, base: bytes, weights: bytes, task: Train) -> bytes:
        return Sending(task.update_encoding).encode(base, weights)


@dataclass
class _Federation:
    """One run: its clock, its coordinator's admin, and the models that it has measured."""

    case: Case
    seed: int
    material: Material
    clock: Clock
    coordinator: Coordinator
    admin: CoordinatorClient
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)
    _refused: list[tuple[str, str]] = field(default_factory=list)
    _begun: float = 0.0
    _version: int = 0
    _seen: tuple[object, ...] = ()
    _ended: bool = False

    async def run(self) -> dict[str, Any]:
        """The course of the run, see `run`."""
        shared = share_out(
            self.material.train, self.material.test, self.case.clients, self.case.split, self.seed
        )
        experiment, enrolment_key = await self._create(shared)
        train, spoilt = shared.train, shared.train
        if self.case.malicious:
            spoilt = self.case.attack.data(train)
        task = self.material.task
        with (
            LocalTrainer(task, train, InLine()) as honest,
            LocalTrainer(task, spoilt, InLine()) as bad,
        ):
            trainer = _Trainer(self.case, self.seed, self.clock, honest, bad)
            clients = []
            for number in range(shared.clients):  # in turn: the order of arrival makes the slots
                own = None if shared.drawn is None else shared.drawn.parts[number].tolist()
                kind = _Malicious if number < self.case.malicious else Participant
                client = kind(
                    *(self.admin, experiment, f"{number:040d}", trainer),
                    own=own,
                    examples=len(train),
                    on_event=self._count,
                )
                await client.enrol(enrolment_key)
                clients.append(client)
            self._begun = self.clock.now
            await self.clock.play([*map(self._live, clients), self._tick()])
        shown = await self.admin.experiment(experiment)
        return {
            "state": str(shown.state),
            "epsilon": shown.privacy and shown.privacy.epsilon,
            "rounds": self._rows,
            "events": dict(self._counts),
            "refused": self._refused,
            **(await self._norms(experiment) if self.case.keep_norms else {}),
        }

    async def _create(self, shared: Shared) -> tuple[str, str]:
        """The experiment's id and its enrolment key."""
        task, clients = self.material.task, shared.clients
        task.meet(shared.train)
        data: dict[str, Any] = {"dataset_size": len(shared.train)}
        if shared.drawn is not None:
            data = {"data": OWN, "max_examples_per_client": max(map(len, shared.drawn.parts))}
        settings = {"clients_per_round": clients, **self.case.settings}
        settings["clients_per_round"] = min(settings["clients_per_round"], clients)
        config = ExperimentConfig(
            **{"dataset": "benchmark", "model": task.name, "clients": clients, "seed": self.seed},
            **data,
            **settings,
        )
        made = await self.admin.create_experiment("benchmark", config, secrets.token_hex(16))
        initial = initial_model(task, self.seed)
        await self.admin.upload_initial_model(made.id, initial, made.part_bytes)
        return made.id, made.enrolment_key

    async def _live(self, client: Participant) -> None:
        """Be one client until the experiment ends."""
        await self.clock.sleep(0)
        while not self._ended:
            if not self.case.polls and not await self._is_drawn(client):
                await self.clock.wait(LOOK_SECONDS)
                await self._look(client.experiment_id)
                continue
            try:
                turn = await client.turn()
            except _Dropped:
                self._counts["dropped"] += 1
                await self.clock.sleep(self.case.fleet.away_seconds)
                continue
            if turn.trained:
                await self._look(client.experiment_id)
            if turn.done is not None:
                return
            if turn.seconds:
                await self.clock.wait(LOOK_SECONDS)
                await self._look(client.experiment_id)  # its deadline may have passed

    async def _is_drawn(self, client: Participant) -> bool:
        """Whether the client is in the cohort of the open round, if there is one."""
        repo = self.coordinator.context.repo
        number = (await repo.experiment(client.experiment_id)).round
        opened = await repo.round(client.experiment_id, number) if number else None
        return opened is None or slot_named(client.id) in opened.cohort

    async def _tick(self) -> None:
        """Let deadlines pass also where no client asks."""
        while not self._ended:
            await self.clock.wait(LOOK_SECONDS)
            await self.coordinator.tick()
            self.clock.wake()

    async def _look(self, experiment_id: str) -> None:
        """Measure the models that are new, and wake the clients that wait where anything is."""
        experiment = await self.coordinator.context.repo.experiment(experiment_id)
        seen = (experiment.state, experiment.round, experiment.model_version)
        if seen == self._seen:
            return
        self._seen, self._ended = seen, experiment.ended
        if (experiment.model_version or 0) > self._version:
            shown = await self.admin.experiment(experiment_id, self._version)
            for version in range(self._version + 1, (experiment.model_version or 0) + 1):
                await self._measure(shown, version)
            self._version = experiment.model_version or 0
        self.clock.wake()

    async def _measure(self, shown: ExperimentView, version: int) -> None:
        assert shown.cost is not None  # the admin sees it
        row = {
            "round": version,
            "seconds": self.clock.now - self._begun,
            "usd": shown.cost.usd,
        }
        material = self.material
        if version % material.every == 0 or shown.state in TERMINAL:
            data = await self.admin.download_model(shown.id, version, shown.part_bytes)
            weights = weights_file.read(data)
            found = await asyncio.to_thread(measure, material.task, weights, material.test)
            row |= {name: found[name] for name in ("accuracy", "loss") if name in found}
            row |= material.more(material.task, weights)
        self._rows.append(row)
        wanted = self.case.stop_at
        if wanted is not None and row.get("accuracy", 0.0) >= wanted and not self._ended:
            await self.admin.stop_experiment(shown.id)
            self._ended = True

    def _count(self, event: Event) -> None:
        if event.kind in ("uploaded", "late", "refused"):
            self._counts[event.kind] += 1
        if event.kind == "refused":
            self._refused.append((event.client_id, event.message))

    async def _norms(self, experiment: str) -> dict[str, Any]:
        views = [await self.admin.round(experiment, n) for n in range(1, self._version + 1)]
        return {"norms": [[u.norm for u in v.updates if u.norm is not None] for v in views]}


async def run_async(case: Case, seed: int, material: Material) -> dict[str, Any]:
    """Run one case, see `run`."""
    clock = Clock()
    key = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        documents, blobs = await open_sqlite(Path(folder) / "benchmark.sqlite")
        context = Context(
            repo=Repository(documents), blobs=blobs, clock=clock, monotonic=clock,
            jitter=lambda: 0.5,
        )  # fmt: skip
        app = create_app(Settings(admin_key=key, rate_per_second=0))
        app.state.admin_key, app.state.coordinator = key, Coordinator(context, key)
        transport = httpx.ASGITransport(app)
        try:
            async with CoordinatorClient("http://here", key, transport=transport) as admin:
                federation = _Federation(case, seed, material, clock, app.state.coordinator, admin)
                return await federation.run()
        finally:
            await documents.close()


def run(case: Case, seed: int, material: Material) -> dict[str, Any]:
    """Run one case to its end.

    Gives `rounds`, with the simulated `seconds` since the first round opened, the `usd` until then
    and the metrics of the models that were measured; `events`, how many trainings ended how
    (uploaded, late, refused, dropped); `refused`, client and reason; the `state` at the end; and
    the `epsilon` of the last model's ledger, None without one.
    """
    return asyncio.run(run_async(case, seed, material))

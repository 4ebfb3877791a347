"""How long clients wait between the close of a round and their start of the next.

    python -m benchmarks.coordinator.waiting [--full --data-dir DIR]

A real run each: a coordinator under uvicorn as a process of its own, 20 clients, 10 a round, 10
local epochs, on the digits or (`--full`) on MNIST. Three ways to learn of the next round: as the
default run's clients do, which share one process and one look; by long polling, as parties on
machines of their own do; and by pauses as advised, as on Lambda.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.tables import Row, Table, command
from client_sdk.api.client import CoordinatorClient
from client_sdk.data import datasets
from client_sdk.data.dataset import Dataset
from client_sdk.engines.processes import Processes
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.participant import Event, Participant
from client_sdk.simulation.embedded import EmbeddedCoordinator
from client_sdk.simulation.simulate import Simulation, Watchers
from client_sdk.task.pictures import picture_task
from client_sdk.task.task import LocalUpdate
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.turns import Done, Train

GOAL = 0.02  # of a run may be spent waiting


class Parties(Simulation):
    """Each client asks for itself, as if it had a machine of its own."""

    async def _participate(self, number: int) -> Done:
        participant = Participant(
            self.client,
            self.experiment_id,
            self._derive(f"client {number}"),
            self.trainer,
            on_event=self._on_event,
        )
        await participant.enrol(self._created.enrolment_key)
        return await participant.run()


class Timed:
    """A trainer, and when it trained."""

    def __init__(self, pool: LocalTrainer) -> None:
        self.pool = pool
        self.spans: list[tuple[float, float]] = []

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, task: Train
    ) -> LocalUpdate:
        started = time.time()
        try:
            return await self.pool.train(client_id, indices, weights, task)
        finally:
            self.spans.append((started, time.time()))

    def idle(self, start: float, end: float) -> float:
        """Seconds in which nobody trained."""
        found, place = 0.0, start
        for begun, done in sorted(self.spans):
            found += max(0.0, begun - place)
            place = max(place, done)
        return found + max(0.0, end - place)


@dataclass
class Waited:
    """Of one run: seconds from a round's close to each start in the next, and to the first one."""

    each: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    idle: float = 0.0
    wall: float = 0.0

    @property
    def share(self) -> float:
        """Of the run: the time between a close and the first start."""
        return sum(self.first) / self.wall


@contextmanager
def holding(seconds: float) -> Iterator[None]:
    """The setting of coordinators that are started within."""
    before = os.environ.get("FL_HOLD_SECONDS")
    os.environ["FL_HOLD_SECONDS"] = str(seconds)
    try:
        yield
    finally:
        if before is None:
            del os.environ["FL_HOLD_SECONDS"]
        else:
            os.environ["FL_HOLD_SECONDS"] = before


async def run(kind: type[Simulation], dataset: Dataset, rounds: int) -> Waited:
    """One run from its first training to its end."""
    task = picture_task(dataset)
    config = ExperimentConfig(
        **{"dataset": dataset.name, "dataset_size": len(dataset.train_y), "model": task.name},
        **{"rounds": rounds, "batch_size": 50 if len(dataset.train_y) > 4000 else 10},  # as the CLI
    )
    starts: dict[int, list[float]] = defaultdict(list)

    def note(event: Event) -> None:
        if event.kind == "training":
            starts[event.round].append(time.time())

    pool = LocalTrainer(task, dataset.train, Processes())
    with tempfile.TemporaryDirectory() as folder, pool:
        trainer = Timed(pool)
        async with (
            EmbeddedCoordinator(Path(folder), secrets.token_hex(16)) as own,
            CoordinatorClient(own.url, own.admin_key) as client,
        ):
            simulation = kind(
                *(client, task, config, trainer),
                test=dataset.test,
                secret=secrets.token_hex(16),
                watchers=Watchers(on_event=note),
            )
            await simulation.create()
            await simulation.run()
            shown = await client.experiment(simulation.experiment_id)
    closed = {r.number: r.closed_at.timestamp() for r in shown.history if r.closed_at}
    waited = Waited(wall=closed[rounds] - min(starts[1]))
    waited.idle = trainer.idle(min(starts[1]), closed[rounds])
    for number in range(2, rounds + 1):
        waited.each += [at - closed[number - 1] for at in starts[number]]
        waited.first.append(min(starts[number]) - closed[number - 1])
    return waited


WAYS = {
    "the default run": (Simulation, 0.0),
    "parties, long polling": (Parties, 20.0),
    "parties, pauses as advised": (Parties, 0.0),
}


def measure(full: bool, data_dir: Path) -> Table:
    """Three minutes in full on two idle cores, less than one without."""
    dataset = datasets.load("mnist" if full else "digits", data_dir, download=False)
    rounds = 4
    table = Table(
        "Waiting for the next round",
        f"python -m benchmarks.coordinator.waiting{' --full --data-dir DIR' if full else ''}",
        "share of the run",
    )
    for way, (kind, seconds) in WAYS.items():
        with holding(seconds):
            found = asyncio.run(run(kind, dataset, rounds))
        shown = (
            f"median {1000 * statistics.median(found.each):.0f} ms, "
            f"worst {1000 * max(found.each):.0f} ms"
        )
        table.rows.append(
            Row(
                *(f"{way} ({dataset.name}, {rounds} rounds)", shown, f"{found.share:.2%}"),
                *((None, f"under {GOAL:.0%}", found.share < GOAL) if full else (None, "", None)),
            )
        )
        table.data[way] = {
            **{"each": found.each, "first": found.first, "wall": found.wall, "idle": found.idle},
        }
        table.notes.append(
            f"{way.capitalize()}: {found.wall:.1f} s, in {found.idle / found.wall:.1%} of which "
            "nobody trained."
        )
    if not full:
        table.notes.append(
            f"The goal (under {GOAL:.0%}) is for the default run on MNIST, in the full form: a "
            "round of the digits trains for less than a tenth of a second, beside which any wait "
            "is long."
        )
    table.notes.append(
        "Each figure is from a round's close, as the coordinator noted it, until a client of the "
        "next cohort starts on it (it has its task, and fetches the model next). The share is the "
        "time between a close and the first such start over the whole run: afterwards the cores "
        "have work. Nobody trains also while the last updates of a round are uploaded and "
        "averaged."
    )
    return table


if __name__ == "__main__":
    command(__doc__, measure)

"""One round of many updates through the coordinator's own service on SQLite, call by call.

    python -m benchmarks.coordinator.aggregation_rounds MODEL CLIENTS [--step-updates N]
        [--strategy NAME] [--keep]

Every client sends an update of its own, of random numbers; every call is a new coordinator, which
knows nothing of those before. Prints JSON: what the round took to fold, from the last commit to the
closed round, and the most that any one call read to fold it (updates, or sums of groups of them),
as the store was asked for it. Memory is the peak during calls that fold, above that of the process
before the first update. With `--keep` the figures go into benchmarks/results/memory.json, too.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from app.service.coordinator import Context, Coordinator, Limits, Repository, Subscriber
from app.store.port import Blobs
from app.store.sqlite import open_sqlite
from app.telemetry import logs
from benchmarks.coordinator.aggregation_average import MODELS, parameters, resident
from benchmarks.training.accuracy import RESULTS, machine
from serverless_fl.aggregation import STRATEGIES
from serverless_fl.domain.records import Client, UpdateCommit, WeightsCommit
from serverless_fl.wire.config import ExperimentConfig

MEMORY = RESULTS / "memory.json"
TICKS = 2  # a step's time each: the rest of a large round goes with the file


class Reads:
    """A blob store as one call sees it. It counts what is read to be folded, and not what a commit
    reads of its own update to check it.
    """

    def __init__(self, inner: Blobs, own: int = -1) -> None:
        self._inner, self._own, self._checked = inner, f"{own:07d}", set[str]()
        self.updates, self.bytes = set[str](), 0  # a file of sums is one, whatever its parts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def get(self, key: str) -> bytes | None:
        data = await self._inner.get(key)
        if not key.startswith("uploads/"):
            return data
        if key.split("/")[3] == self._own and key not in self._checked:
            self._checked.add(key)
        else:
            self.updates.add(key.rpartition("/")[0] if "/sums/" in key else key)
            self.bytes += len(data or b"")
        return data


@dataclass
class Figures:
    """Bytes and seconds; `calls` are those that folded something."""

    clients: int
    step_updates: int
    strategy: str
    update_bytes: int
    upload_seconds: float = 0.0
    fold_seconds: float = 0.0
    close_seconds: float = 0.0
    processor_seconds: float = 0.0  # of the calls that folded something
    calls: int = 0
    most_updates: int = 0
    most_bytes: int = 0
    peak: int = 0
    sweep_ticks: int = 0
    left: int = 0  # blobs that further ticks would have deleted
    sha256: str = ""


class Run:
    """The experiment, its clients and the figures so far."""

    def __init__(self, context: Context, model: str, clients: int, strategy: str) -> None:
        self.context, self.model = context, model
        step = context.limits.step_updates
        self.figures = Figures(clients, step, strategy, 4 * parameters(model))
        self.clients: list[Client] = []
        self.experiment = ""
        self._before = 0

    def weights(self, number: int) -> bytes:
        draw = np.random.default_rng(number)
        sizes = enumerate(MODELS[self.model])
        return safetensors.numpy.save({f"t{n}": draw.random(s, np.float32) for n, s in sizes})

    def coordinator(self, blobs: Any = None) -> Coordinator:
        context = replace(self.context, blobs=blobs or self.context.blobs)
        return Coordinator(context, "benchmark-admin-key")

    async def prepare(self) -> None:
        service, clients = self.coordinator(), self.figures.clients
        settings = ExperimentConfig.model_validate(
            {
                "dataset": "random",
                "dataset_size": 100 * clients,
                "model": self.model,
                "clients": clients,
                "clients_per_round": clients,
                "rounds": 1,
                "deadline_seconds": 86400,
                "strategy": self.figures.strategy,
            }
        )
        made, key = await service.experiments.create("benchmark", settings.to_config(), "once")
        self.experiment = made.id
        parts = _parts(self.weights(0), self.context.limits.part_bytes)
        digests = [_sha(part) for part in parts]
        for number, part in enumerate(parts):
            await service.experiments.store_initial_part(made.id, number, digests[number], part)
        commit = WeightsCommit(sha256=_sha(b"".join(parts)), parts=digests)
        await service.experiments.commit_initial(made.id, commit)
        for number in range(clients):
            subscription = await service.enrolment.subscribe(
                made.id, key, Subscriber(client_key=f"{number:040d}")
            )
            client = await service.enrolment.client_of(made.id, subscription.token)
            self.clients.append(client)
        await self.watched(lambda service: service.rounds.advance(made.id))
        self._before = resident("VmRSS")

    async def upload(self, client: Client) -> UpdateCommit:
        """All but the commit."""
        service, data = self.coordinator(), self.weights(1 + client.slot)
        parts = _parts(data, self.context.limits.part_bytes)
        digests = [_sha(part) for part in parts]
        for number, part in enumerate(parts):
            await service.updates.store_part(client, 1, number, digests[number], part)
        return UpdateCommit(sha256=_sha(data), parts=digests, num_examples=1 + client.slot % 100)

    async def watched(self, call: Any, own: int = -1) -> float:
        """Do a call; count what it reads, and its peak. Gives its seconds."""
        reads = Reads(self.context.blobs, own)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM starts anew
        started, before = time.perf_counter(), time.process_time()
        await call(self.coordinator(reads))
        processor = time.process_time() - before
        seconds, figures = time.perf_counter() - started, self.figures
        if reads.updates and self._before:
            figures.calls += 1
            figures.processor_seconds += processor
            figures.most_updates = max(figures.most_updates, len(reads.updates))
            figures.most_bytes = max(figures.most_bytes, reads.bytes)
            figures.peak = max(figures.peak, resident("VmHWM") - self._before)
        return seconds

    async def collect(self) -> None:
        """All updates; the call that sends the last one may close the round, or polls do."""
        figures = self.figures
        for client in self.clients:
            started = time.perf_counter()
            commit = await self.upload(client)
            figures.upload_seconds += time.perf_counter() - started
            last = await self.watched(
                lambda service, c=client, m=commit: service.updates.commit(c, 1, m),
                client.slot,
            )
        figures.close_seconds = last
        while not (await self.context.repo.experiment(self.experiment)).ended:
            figures.close_seconds += await self.watched(
                lambda service: service.turns.status(self.clients[0])
            )

    async def reckon(self) -> None:
        """That the model is of all updates, and that ticks delete these."""
        figures, repo = self.figures, self.context.repo
        round_, model = await repo.round(self.experiment, 1), await repo.model(self.experiment, 1)
        assert round_ is not None
        assert model is not None
        assert len(round_.accepted) == figures.clients
        figures.fold_seconds, figures.sha256 = round_.aggregation_seconds or 0, model.blob.sha256
        left = len(await self.context.blobs.sizes("uploads/"))
        while left and figures.sweep_ticks < TICKS:
            await self.coordinator().tick()
            before, left = left, len(await self.context.blobs.sizes("uploads/"))
            assert left < before
            figures.sweep_ticks += 1
        figures.left = left


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def run(model: str, clients: int, step_updates: int, strategy: str) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        documents, blobs = await open_sqlite(Path(folder) / "benchmark.sqlite")
        limits = replace(Limits(), step_updates=step_updates)
        context = Context(repo=Repository(documents), blobs=blobs, limits=limits)
        one = Run(context, model, clients, strategy)
        await one.prepare()
        await one.collect()
        await one.reckon()
        await documents.close()
        return one.figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("clients", type=int)
    parser.add_argument("--step-updates", type=int, default=Limits().step_updates)
    names = [kind.model_fields["name"].default for kind in STRATEGIES]
    parser.add_argument("--strategy", choices=names, default="fedavg")
    parser.add_argument("--keep", action="store_true", help="in benchmarks/results/memory.json")
    given = parser.parse_args()
    logs.configure("json", "error")
    figures = asyncio.run(run(given.model, given.clients, given.step_updates, given.strategy))
    print(json.dumps(asdict(figures)))
    if given.keep:
        keep(given.model, figures)


def keep(model: str, figures: Figures) -> None:
    """Put the figures in the place of those of the same strategy and number of updates."""
    found = json.loads(MEMORY.read_text(encoding="utf-8")) if MEMORY.exists() else {"rounds": []}
    mine = {"model": model, **asdict(figures)}
    key = ("model", "strategy", "clients")
    others = [r for r in found["rounds"] if any(r[name] != mine[name] for name in key)]
    rounds = sorted([*others, mine], key=lambda r: (r["strategy"], r["clients"]))
    text = json.dumps({"machine": machine(), "rounds": rounds}, indent=1)
    MEMORY.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

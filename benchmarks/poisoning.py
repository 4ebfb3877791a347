"""What the norm bound is worth: poisoned clients against a run without a bound and two with one.

    python -m benchmarks.poisoning --dataset mnist --data-dir DIR

Four of twenty clients train like the others, then send the opposite of what they learned, twenty
times as large (a boosted sign flip: Bagdasaryan et al., "How To Backdoor Federated Learning", 2020,
arXiv:1807.00459, calls the boost model replacement). Everything else is the real coordinator over
HTTP. The bound is the median distance of an honest update in the run without poison. Writes
benchmarks/results/poisoning-NAME.json and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from app.wire.schema import ExperimentConfig
from app.wire.turns import Train
from benchmarks.accuracy import RESULTS, machine
from client_sdk import datasets, models
from client_sdk.client import CoordinatorClient
from client_sdk.embedded import EmbeddedCoordinator
from client_sdk.simulate import Simulation
from client_sdk.train import LocalUpdate
from client_sdk.workers import TrainingPool

CLIENTS, POISONED, BOOST = 20, 4, 20.0
RECORD_ONLY = 1e30  # a bound that nothing reaches: the norms are recorded all the same


class Poisoned:
    """A trainer whose first clients turn their updates around."""

    def __init__(self, pool: TrainingPool, poisoned: int) -> None:
        self._pool = pool
        self._bad = {f"client-{n:02d}" for n in range(poisoned)}

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, task: Train
    ) -> LocalUpdate:
        update = await self._pool.train(client_id, indices, weights, task)
        if client_id not in self._bad:
            return update
        base, learned = safetensors.numpy.load(weights), safetensors.numpy.load(update.weights)
        turned = {name: (b - BOOST * (learned[name] - b)) for name, b in base.items()}
        finite = {k: np.nan_to_num(v, posinf=1e30, neginf=-1e30) for k, v in turned.items()}
        return replace(update, weights=safetensors.numpy.save(finite))


async def run(
    dataset: datasets.Dataset, poisoned: int, rounds: int, epochs: int, **settings: Any
) -> dict[str, Any]:
    """One experiment: accuracy by round, and the honest updates' distances."""
    spec = models.spec_for("auto", dataset.shape, len(dataset.classes))
    size = len(dataset.train_y)
    config = ExperimentConfig(
        dataset=dataset.name,
        dataset_size=size,
        model=spec.name,
        clients=CLIENTS,
        rounds=rounds,
        local_epochs=epochs,
        batch_size=10 if size < 200 * CLIENTS else 50,
        quorum=1,
        **settings,
    )
    with tempfile.TemporaryDirectory() as folder, TrainingPool(dataset, spec) as pool:
        async with (
            EmbeddedCoordinator(Path(folder), secrets.token_hex(16)) as own,
            CoordinatorClient(own.url, own.admin_key) as client,
        ):
            simulation = Simulation(
                client, dataset, spec, config, Poisoned(pool, poisoned), secret="benchmark"
            )
            experiment = await simulation.create()
            outcome = await simulation.run()
            norms = [
                update.norm
                for number in range(1, rounds + 1)
                for update in (await client.round(experiment, number)).updates
                if update.norm is not None
            ]
    return {
        "accuracy": [row.accuracy for row in outcome.rows],
        "refused": sum(len(row.refused) for row in outcome.rows),
        "norms": norms,
    }


async def compare(dataset: datasets.Dataset, rounds: int, epochs: int) -> dict[str, Any]:
    honest = await run(dataset, 0, rounds, epochs, max_update_norm=RECORD_ONLY)
    bound = statistics.median(honest["norms"])
    found = {
        "no poison, no bound": honest,
        "poison, no bound": await run(dataset, POISONED, rounds, epochs),
    }
    for action in ("clip", "reject"):
        # Refusing must let honest clients pass, the farthest of them too.
        limit = bound if action == "clip" else 2 * max(honest["norms"])
        found[f"poison, {action} at {limit:.3g}"] = await run(
            dataset, POISONED, rounds, epochs, max_update_norm=limit, norm_action=action
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--local-epochs", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = datasets.load(arguments.dataset, arguments.data_dir)
    found = asyncio.run(compare(dataset, arguments.rounds, arguments.local_epochs))
    for result in found.values():
        norms = result.pop("norms")
        result["median_norm"] = statistics.median(norms) if norms else None
    name = "".join(c if c.isalnum() else "-" for c in dataset.name)
    record = {
        "command": f"python -m benchmarks.poisoning --dataset {dataset.name} "
        f"--rounds {arguments.rounds} --local-epochs {arguments.local_epochs}",
        "machine": machine(),
        "poisoned": f"{POISONED} of {CLIENTS} clients, boost {BOOST:g}",
        "runs": found,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"poisoning-{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print("| run | final accuracy | worst round | refused updates |")
    print("|---|---:|---:|---:|")
    for title, result in found.items():
        accuracy = result["accuracy"]
        print(f"| {title} | {accuracy[-1]:.2%} | {min(accuracy):.2%} | {result['refused']} |")
    print(f"\n({record['machine']}; {record['poisoned']})")


if __name__ == "__main__":
    main()

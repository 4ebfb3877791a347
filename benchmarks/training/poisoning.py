"""What the norm bound is worth: poisoned clients, with and without it, and what it costs alone.

    python -m benchmarks.training.poisoning --dataset mnist --data-dir DIR

Four of twenty clients train like the others and then send the opposite of what they learned. The
crude ones send it twenty times as large (a boosted sign flip: Bagdasaryan et al., "How To Backdoor
Federated Learning", 2020, arXiv:1807.00459, calls the boost model replacement). The adaptive ones
know the bound and send it just below (Fang et al., "Local Model Poisoning Attacks", 2020,
arXiv:1911.11815, let the attacker know the defence). All else is the real coordinator over HTTP.
Clipping is at the median distance of an update, refusing beyond twice the largest. Both come from
an honest run, or, since nobody knows that a run is honest, from the first round of a poisoned one.
All rows of a seed share its draws, so they are compared in pairs. Writes
benchmarks/results/poisoning-NAME.json and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import secrets
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from benchmarks.intervals import in_points, paired
from benchmarks.training.accuracy import RESULTS, machine
from client_sdk.api.client import CoordinatorClient
from client_sdk.data import datasets
from client_sdk.data.dataset import Dataset
from client_sdk.engines.processes import Processes
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.simulation.embedded import EmbeddedCoordinator
from client_sdk.simulation.simulate import Simulation
from client_sdk.task.pictures import picture_task
from client_sdk.task.task import LocalUpdate
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.turns import Train

CLIENTS, POISONED, BOOST = 20, 4, 20.0
BAD = {f"client-{n:02d}" for n in range(POISONED)}
CONTROL = "no poison, no bound"
MARGIN = 0.002  # within which accuracies are called equal
RECORD_ONLY = 1e30  # a bound that nothing reaches: the norms are recorded all the same


Attack = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


def boosted(base: dict[str, Any], learned: dict[str, Any]) -> dict[str, Any]:
    """Weights as far on the other side of `base`, times BOOST; both are arrays by name."""
    turned = {name: b - BOOST * (learned[name] - b) for name, b in base.items()}
    return {k: np.nan_to_num(v, posinf=1e30, neginf=-1e30) for k, v in turned.items()}


def just_below(bound: float) -> Attack:
    """Weights on the other side of `base`, at 99 % of the bound on the Euclidean distance."""

    def attack(base: dict[str, Any], learned: dict[str, Any]) -> dict[str, Any]:
        deltas = {name: learned[name] - b for name, b in base.items()}
        length = math.sqrt(
            sum(float(np.square(d, dtype=np.float64).sum()) for d in deltas.values())
        )
        scale = 0.99 * bound / length if length else 0.0
        return {name: (b - scale * deltas[name]).astype(b.dtype) for name, b in base.items()}

    return attack


class Poisoned:
    """A trainer whose first clients send what `attack` makes of their updates."""

    def __init__(self, pool: LocalTrainer, attack: Attack | None) -> None:
        self._pool = pool
        self._attack = attack

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, task: Train
    ) -> LocalUpdate:
        update = await self._pool.train(client_id, indices, weights, task)
        if self._attack is None or client_id not in BAD:
            return update
        sent = self._attack(safetensors.numpy.load(weights), safetensors.numpy.load(update.weights))
        return replace(update, weights=safetensors.numpy.save(sent))


async def run(
    dataset: Dataset, attack: Attack | None, rounds: int, epochs: int, **settings: Any
) -> dict[str, Any]:
    """One experiment: accuracy by round, whose updates were refused, distances by round."""
    task = picture_task(dataset)
    size = len(dataset.train_y)
    config = ExperimentConfig(
        dataset=dataset.name,
        dataset_size=size,
        model=task.name,
        clients=CLIENTS,
        rounds=rounds,
        local_epochs=epochs,
        batch_size=10 if size < 200 * CLIENTS else 50,
        quorum=1,
        **settings,
    )
    pool = LocalTrainer(task, dataset.train, Processes())
    with tempfile.TemporaryDirectory() as folder, pool:
        async with (
            EmbeddedCoordinator(Path(folder), secrets.token_hex(16)) as own,
            CoordinatorClient(own.url, own.admin_key) as client,
        ):
            simulation = Simulation(
                *(client, task, config, Poisoned(pool, attack)),
                test=dataset.test,
                secret="benchmark",
            )
            experiment = await simulation.create()
            outcome = await simulation.run()
            views = [await client.round(experiment, n) for n in range(1, rounds + 1)]
    refused = [(who, why) for row in outcome.rows for who, why in row.refused.items()]
    return {
        "accuracy": [row.accuracy for row in outcome.rows],
        "refused_poisoned": sum(who in BAD for who, _ in refused),
        "refused_honest": sum(who not in BAD for who, _ in refused),
        "reasons": sorted({re.sub(r"\d[\d.]*", "...", why)[:80] for _, why in refused}),
        "norms": [[u.norm for u in view.updates if u.norm is not None] for view in views],
    }


async def compare(
    dataset: Dataset, rounds: int, epochs: int, seed: int
) -> dict[str, dict[str, Any]]:
    """All rows of one seed by title."""
    found: dict[str, dict[str, Any]] = {}

    async def add(title: str, attack: Attack | None = None, **settings: Any) -> list[list[float]]:
        found[title] = await run(dataset, attack, rounds, epochs, seed=seed, **settings)
        found[title]["bound"] = settings.get("max_update_norm")
        norms: list[list[float]] = found[title].pop("norms")
        return norms

    honest = await add(CONTROL, max_update_norm=RECORD_ONLY)
    first, *_ = await add("crude poison, no bound", boosted, max_update_norm=RECORD_ONLY)
    everywhere = [norm for row in honest for norm in row]
    # Refusing must let honest clients pass, the farthest of them too.
    bounds = {"clip": statistics.median(everywhere), "reject": 2 * max(everywhere)}
    for action, bound in bounds.items():
        word = {"clip": "clipped", "reject": "refused"}[action]
        limits = {"max_update_norm": bound, "norm_action": action}
        await add(f"no poison, {word}", **limits)
        await add(f"crude poison, {word}", boosted, **limits)
        await add(f"adaptive poison, {word}", just_below(bound), **limits)
    suspect = {"max_update_norm": statistics.median(first), "norm_action": "clip"}
    await add("crude poison, clipped by a poisoned round's median", boosted, **suspect)
    return found


def summary(by_seed: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Each row over the seeds: final accuracies, their difference from the run without poison."""
    control = [rows[CONTROL]["accuracy"][-1] for rows in by_seed]
    made = {}
    for title in by_seed[0]:
        runs = [rows[title] for rows in by_seed]
        finals = [run["accuracy"][-1] for run in runs]
        made[title] = {
            "final": finals,
            "worst_round": min(min(run["accuracy"]) for run in runs),
            "bound": [run["bound"] for run in runs],
            "refused_poisoned": sum(run["refused_poisoned"] for run in runs),
            "refused_honest": sum(run["refused_honest"] for run in runs),
            "reasons": sorted({reason for run in runs for reason in run["reasons"]}),
            "beside_control": in_points(paired(finals, control, MARGIN), MARGIN)
            if len(finals) > 1 and title != CONTROL
            else "",
        }
    return made


def table(record: dict[str, Any]) -> list[list[str]]:
    """The cells of a table of a results file's content, its head and its alignment first."""
    heads = ["run", "final accuracy: mean (least)", "beside no poison, no bound", "worst round"]
    heads.append("refused of the poisoned, of the honest")
    rows = [heads, ["---", "---:", "---", "---:", "---:"]]
    for title, row in record["rows"].items():
        rows.append(
            [
                title,
                f"{statistics.mean(row['final']):.2%} ({min(row['final']):.2%})",
                row["beside_control"],
                f"{row['worst_round']:.2%}",
                f"{row['refused_poisoned']}, {row['refused_honest']}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--local-epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = datasets.load(arguments.dataset, arguments.data_dir)
    by_seed: list[dict[str, dict[str, Any]]] = []
    for seed in arguments.seeds:
        made = asyncio.run(compare(dataset, arguments.rounds, arguments.local_epochs, seed))
        by_seed.append(made)
        name = "".join(c if c.isalnum() else "-" for c in dataset.name)
        record = {
            "command": f"python -m benchmarks.training.poisoning --dataset {dataset.name} "
            f"--rounds {arguments.rounds} --local-epochs {arguments.local_epochs} "
            f"--seeds {' '.join(map(str, arguments.seeds))} --data-dir DIR",
            "machine": machine(),
            "poisoned": f"{POISONED} of {CLIENTS} clients, boost {BOOST:g}",
            "seeds": arguments.seeds[: len(by_seed)],
            "test_examples": len(dataset.test_y),
            "rows": summary(by_seed),
            "by_seed": by_seed,
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"poisoning-{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(*(f"| {' | '.join(row)} |" for row in table(record)), sep="\n")
    print(f"\n({record['machine']}; {record['poisoned']})")


if __name__ == "__main__":
    main()

"""MNIST under differential privacy of clients: the accuracy that each epsilon leaves.

    python -m benchmarks.epsilons --data-dir DIR [--full]

Sixty thousand pictures are shared out equally among 1,000 clients. Cohorts are secret, 100 clients
on average, and `dp-fedavg` adds the smallest noise whose epsilon of all rounds, by the
coordinator's own accounting, is the wanted one at a delta of 1e-5. `--full` takes more clients a
round, more rounds and three seeds. The clip norm was chosen by trials on the same data, which no
epsilon here covers.

Geyer, Klein and Nabi, "Differentially Private Federated Learning: A Client Level Perspective",
2017, arXiv:1712.07557, have the same number of clients and, by the code that they published, the
same mean cohort and the same delta. Clients, coordinator and clock are in this process. Writes
benchmarks/results/epsilons.json after each run, goes on from it, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from app.telemetry import logs
from benchmarks.algorithms import simulated
from benchmarks.algorithms.simulated import Case, Material
from benchmarks.training.accuracy import RESULTS, machine
from client_sdk.data import datasets
from client_sdk.task.pictures import picture_task
from serverless_fl.privacy.sampling import sampled_epsilon

CLIENTS, DELTA = 1000, 1e-5
CLIP_NORMS = {8.0: 0.8, 4.0: 0.6, 2.0: 0.5, 1.0: 0.4}  # by epsilon
SHORT = {"clients_per_round": 100, "rounds": 15, "seeds": [0]}
FULL = {"clients_per_round": 300, "rounds": 40, "seeds": [0, 1, 2]}
TRAINING = {"local_epochs": 3, "batch_size": 10, "learning_rate": 0.1}
EVERY = 3  # rounds between two measurements


def noise_for(epsilon: float, rate: float, rounds: int, delta: float) -> float:
    """Give the smallest noise multiplier, in thousandths, of which all rounds cost no more.

    In each round a client takes part by chance, with the probability `rate`.
    """

    def suffices(thousandths: int) -> bool:
        return sampled_epsilon(rate, thousandths / 1000, rounds, delta) <= epsilon

    most = 1
    while not suffices(most):
        most *= 2
    return bisect_left(range(most), True, lo=most // 2 + 1, key=suffices) / 1000


def settings_of(epsilon: float | None, clients_per_round: int, rounds: int) -> dict[str, Any]:
    """The settings of a run; None: without privacy."""
    settings = {"clients_per_round": clients_per_round, "rounds": rounds, **TRAINING}
    if epsilon is None:
        return settings
    noise = noise_for(epsilon, clients_per_round / CLIENTS, rounds, DELTA)
    return settings | {
        "selection": {"name": "secret"},
        "max_attempts": 1,
        "quorum": 1,
        "privacy": {
            "name": "dp-fedavg",
            "noise_multiplier": noise,
            "clip_norm": CLIP_NORMS[epsilon],
            "delta": DELTA,
        },
    }


def measured(epsilon: float | None, asked: dict[str, Any], seed: int, material: Material) -> Any:
    """One run: its epsilon by the ledger of its last model, and its accuracy by round."""
    settings = settings_of(epsilon, asked["clients_per_round"], asked["rounds"])
    started = time.process_time()
    found = simulated.run(Case("", "", settings, clients=CLIENTS, polls=False), seed, material)
    by_round = {row["round"]: row["accuracy"] for row in found["rounds"] if "accuracy" in row}
    privacy = settings.get("privacy")
    return {
        "wanted": epsilon,
        "epsilon": found["epsilon"],
        "noise_multiplier": privacy and privacy["noise_multiplier"],
        "clip_norm": privacy and privacy["clip_norm"],
        "seed": seed,
        "updates": found["events"]["uploaded"],
        "accuracy": by_round[asked["rounds"]],
        "by_round": by_round,
        "core_seconds": time.process_time() - started,
    }


def table(record: dict[str, Any]) -> list[list[str]]:
    """The cells of a table of a results file's content, its head and its alignment first."""
    heads = ["epsilon of a client", "noise multiplier", "clip norm", "accuracy", "runs"]
    rows = [heads, ["---:"] * len(heads)]
    for wanted in (None, *CLIP_NORMS):
        runs = [run for run in record["runs"] if run["wanted"] == wanted]
        if not runs:
            continue
        finals = [run["accuracy"] for run in runs]
        shown = f"{statistics.mean(finals):.1%}"
        if len(finals) > 1:
            shown += f" ({min(finals):.1%} to {max(finals):.1%})"
        if wanted is None:
            private = ["without privacy", "-", "-"]
        else:
            spent = max(run["epsilon"] for run in runs)
            private = [f"{spent:.2f}", f"{runs[0]['noise_multiplier']:g}"]
            private.append(f"{runs[0]['clip_norm']:g}")
        rows.append([*private, shown, str(len(runs))])
    return rows


def plot(record: dict[str, Any], path: Path) -> None:
    """Draw the accuracy by round, a line a run."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, wanted in enumerate((None, *CLIP_NORMS)):
        label = "without privacy" if wanted is None else f"epsilon {wanted:g}"
        for run in (run for run in record["runs"] if run["wanted"] == wanted):
            rounds = sorted(map(int, run["by_round"]))
            values = [100 * run["by_round"][str(number)] for number in rounds]
            axes.plot(rounds, values, color=f"C{place}", marker="o", markersize=3, label=label)
            label = ""
    axes.set_xlabel("round")
    axes.set_ylabel("test accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--full", action="store_true", help="hours instead of minutes")
    parser.add_argument("--out", type=Path, default=RESULTS / "epsilons.json")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    logs.configure("json", "error")
    extent: dict[str, Any] = FULL if asked.full else SHORT
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.epsilons --data-dir PATH{' --full' * asked.full}",
        "machine": machine(),
        "clients": CLIENTS,
        "delta": DELTA,
        "training": TRAINING,
        **extent,
        "runs": [],
    }
    if asked.out.exists():
        before = json.loads(asked.out.read_text(encoding="utf-8"))
        if before | {"runs": [], "machine": ""} == record | {"machine": ""}:
            record = before
    dataset = datasets.load("mnist", asked.data_dir)
    material = Material(picture_task(dataset), dataset.train, dataset.test, every=EVERY)
    asked.out.parent.mkdir(exist_ok=True)
    for seed in extent["seeds"]:
        for wanted in (None, *CLIP_NORMS):
            if any((run["wanted"], run["seed"]) == (wanted, seed) for run in record["runs"]):
                continue
            run = measured(wanted, extent, seed, material)
            record["runs"].append(run)
            text = json.dumps(record, indent=2) + "\n"
            record = json.loads(text)  # numbers of rounds are words there
            asked.out.write_text(text, encoding="utf-8")
            print(f"epsilon {wanted}, seed {seed}: {run['accuracy']:.2%}", flush=True)
    plot(record, asked.out.with_suffix(".png"))
    print(*(f"| {' | '.join(cells)} |" for cells in table(record)), sep="\n")


if __name__ == "__main__":
    main()

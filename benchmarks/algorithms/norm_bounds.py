"""What the norm bound is worth: poisoned clients, with and without it, and what it costs alone.

    python -m benchmarks.algorithms.norm_bounds --dataset mnist --data-dir DIR

Four of twenty clients train like the others and then send the opposite of what they learned. The
crude ones send it twenty times as large, the adaptive ones know the bound and send it just below
(`attacks.py`). Clipping is at the median distance of an update, refusing beyond twice the largest.
Both come from an honest run, or, since nobody knows that a run is honest, from the first round of a
poisoned one. All rows of a seed share its draws, so they are compared in pairs. Writes
benchmarks/results/poisoning-NAME.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from app.telemetry import logs
from benchmarks.algorithms import simulated
from benchmarks.algorithms.attacks import Attack, JustBelow, SignFlip
from benchmarks.algorithms.simulated import HONEST, Case, Material
from benchmarks.intervals import in_points, paired
from benchmarks.training.accuracy import RESULTS, machine
from client_sdk.data import datasets
from client_sdk.task.pictures import picture_task

CLIENTS, POISONED, BOOST = 20, 4, 20.0
BAD = {f"client-{n:02d}" for n in range(POISONED)}
CONTROL = "no poison, no bound"
MARGIN = 0.002  # within which accuracies are called equal
RECORD_ONLY = 1e30  # a bound that nothing reaches: the norms are recorded all the same


def run(
    material: Material, attack: Attack | None, rounds: int, epochs: int, seed: int, **settings: Any
) -> dict[str, Any]:
    """One experiment: accuracy by round, whose updates were refused, distances by round."""
    size = len(material.train)
    training = {"rounds": rounds, "local_epochs": epochs, "clients_per_round": 10, "quorum": 1}
    training["batch_size"] = 10 if size < 200 * CLIENTS else 50
    poisoned = 0 if attack is None else POISONED
    case = Case(
        *("", "", training | settings),
        clients=CLIENTS,
        malicious=poisoned,
        attack=attack or HONEST,
        keep_norms=True,
    )
    found = simulated.run(case, seed, material)
    refused = [(client in BAD, reason) for client, reason in found["refused"]]
    return {
        "accuracy": [row["accuracy"] for row in found["rounds"]],
        "refused_poisoned": sum(bad for bad, _ in refused),
        "refused_honest": sum(not bad for bad, _ in refused),
        "reasons": sorted({re.sub(r"\d[\d.]*", "...", why)[:80] for _, why in refused}),
        "norms": found["norms"],
    }


def compare(material: Material, rounds: int, epochs: int, seed: int) -> dict[str, dict[str, Any]]:
    """All rows of one seed by title."""
    found: dict[str, dict[str, Any]] = {}

    def add(title: str, attack: Attack | None = None, **settings: Any) -> list[list[float]]:
        found[title] = run(material, attack, rounds, epochs, seed, **settings)
        found[title]["bound"] = settings.get("max_update_norm")
        norms: list[list[float]] = found[title].pop("norms")
        return norms

    honest = add(CONTROL, max_update_norm=RECORD_ONLY)
    first, *_ = add("crude poison, no bound", SignFlip(BOOST), max_update_norm=RECORD_ONLY)
    everywhere = [norm for row in honest for norm in row]
    # Refusing must let honest clients pass, the farthest of them too.
    bounds = {"clip": statistics.median(everywhere), "reject": 2 * max(everywhere)}
    for action, bound in bounds.items():
        word = {"clip": "clipped", "reject": "refused"}[action]
        limits = {"max_update_norm": bound, "norm_action": action}
        add(f"no poison, {word}", **limits)
        add(f"crude poison, {word}", SignFlip(BOOST), **limits)
        add(f"adaptive poison, {word}", JustBelow(bound), **limits)
    suspect = {"max_update_norm": statistics.median(first), "norm_action": "clip"}
    add("crude poison, clipped by a poisoned round's median", SignFlip(BOOST), **suspect)
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
    logs.configure("json", "error")
    dataset = datasets.load(arguments.dataset, arguments.data_dir)
    task = picture_task(dataset)
    material = Material(task, dataset.train, dataset.test)
    by_seed: list[dict[str, dict[str, Any]]] = []
    for seed in arguments.seeds:
        made = compare(material, arguments.rounds, arguments.local_epochs, seed)
        by_seed.append(made)
        name = "".join(c if c.isalnum() else "-" for c in dataset.name)
        record = {
            "command": f"python -m benchmarks.algorithms.norm_bounds --dataset {dataset.name} "
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

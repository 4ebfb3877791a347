"""Accuracy of the default run over several seeds, through the real coordinator over HTTP.

    python -m benchmarks.training.accuracy --dataset mnist --data-dir DIR --seeds $(seq 0 9)

Writes benchmarks/results/accuracy-NAME.json (the data set's name, or --name) and prints a table.
Options that are not known here go to `python -m client_sdk` as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.intervals import mean_interval, sampling_error

RESULTS = Path(__file__).parents[1] / "results"


def run(dataset: str, seed: int, options: list[str]) -> dict[str, Any]:
    """One run's report."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "client_sdk", "--dataset", dataset, "--seed", str(seed)]
        done = subprocess.run(
            [*command, "--out", out, "--json", *options], stdout=subprocess.PIPE, check=True
        )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{cores} cores, {model}, {platform.system()}"


def _shown(argument: str) -> str:
    """An argument for the record: where somebody keeps their data is nobody's business."""
    return "PATH" if Path(argument).is_absolute() else argument


def summary(
    seeds: Sequence[int], reports: Sequence[dict[str, Any]], command: str
) -> dict[str, Any]:
    """What the results file of these runs holds."""
    finals = [report["totals"]["final_accuracy"] for report in reports]
    several = len(finals) > 1
    mean, tested = statistics.mean(finals), reports[0]["evaluation"]["examples"]
    return {
        "command": command,
        "dataset": reports[0]["dataset"],
        "machine": machine(),
        "versions": reports[0]["versions"],
        "config": {k: v for k, v in reports[0]["config"].items() if k != "seed"},
        "seeds": len(finals),
        "mean": mean,
        "standard_deviation": statistics.stdev(finals) if several else None,
        "interval_95": mean_interval(finals) if several else None,
        "test_examples": tested,
        "test_sampling_error": sampling_error(mean, tested),
        "runs": [
            {
                "seed": seed,
                # Seconds depend on what else the machine does; they are measured elsewhere.
                **{k: v for k, v in report["totals"].items() if not k.endswith("seconds")},
                "by_round": [r["accuracy"] for r in report["rounds"]],
                "loss_by_round": [r["loss"] for r in report["rounds"]],
                "warnings": report["warnings"],
            }
            for seed, report in zip(seeds, reports, strict=True)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--name", help="of the results file (default: the data set's)")
    arguments, options = parser.parse_known_args()
    command = " ".join(["python -m benchmarks.training.accuracy", *map(_shown, sys.argv[1:])])
    reports: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        reports.append(run(arguments.dataset, seed, options))
        result = summary(arguments.seeds[: len(reports)], reports, command)
        RESULTS.mkdir(exist_ok=True)
        name = "".join(c if c.isalnum() else "-" for c in arguments.name or str(result["dataset"]))
        # After each run: an hour's work outlives what comes next.
        (RESULTS / f"accuracy-{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print("| seed | final accuracy | up | down |")
    print("|---:|---:|---:|---:|")
    for row in result["runs"]:
        print(
            f"| {row['seed']} | {row['final_accuracy']:.2%} "
            f"| {row['bytes_up'] / 1e6:.1f} MB | {row['bytes_down'] / 1e6:.1f} MB |"
        )
    print(f"\nmean {result['mean']:.2%} of {len(reports)} seeds", end="")
    if len(reports) > 1:
        low, high = result["interval_95"]
        print(f", standard deviation {result['standard_deviation'] * 100:.2f} points", end="")
        print(f", 95% interval of the mean {low:.2%} to {high:.2%}", end="")
    print(
        f"\nthe test set's {result['test_examples']} examples: standard error "
        f"{result['test_sampling_error'] * 100:.2f} points"
    )
    print(f"({result['machine']})")


if __name__ == "__main__":
    main()

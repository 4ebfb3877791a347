"""The checks of an audit of our figures, with more cases than tests have time for, and a table.

    make audit-numbers                          # about a minute of a core
    .venv/bin/python -m tests.audit --scale 0.2 # a fifth of the cases
    .venv/bin/python -m tests.audit --only int8

Each check is a function that a test of the suite calls with few cases, and that gives a figure; the
bounds are those of the tests, or narrower where more cases allow it. Exit code 1 where one is not
held.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmarks.training.local_loop import SHAPES
from client_sdk.task import models
from client_sdk.task.compiled import agreement, native
from tests.audit import averages, draws, stopping


@dataclass(frozen=True)
class Finding:
    """A figure, the most that it may be, and the least."""

    what: str
    figure: float
    most: float
    least: float = float("-inf")

    @property
    def held(self) -> bool:
        return self.least <= self.figure <= self.most


Check = Callable[[float], Iterator[Finding]]


def draws_of_orders(scale: float) -> Iterator[Finding]:
    for size in range(2, 7):
        each = max(12, round(scale * (60 if size == 6 else 300)))
        what = f"all orders of {size}, each {each} times: deviations of chi-square"
        yield Finding(what, draws.orders(size, each), 5)


def draws_of_places(scale: float) -> Iterator[Finding]:
    for size, count in ((10, 10_000), (20, 6_000), (64, 2_000), (128, 1_000), (256, 600)):
        seeds = max(10 * size // 4, round(scale * count))
        worst, together = draws.places(size, seeds)
        yield Finding(f"places of {size} in {seeds} draws: the worst example", worst, 6)
        yield Finding(f"places of {size} in {seeds} draws: all together", together, 5)


def draws_of_classes(scale: float) -> Iterator[Finding]:
    for size, count in ((128, 1_000), (1024, 300), (65_536, 12)):
        seeds = max(12, round(scale * count))
        off = 2.5 / seeds**0.5  # five deviations of a ratio of variances over 16 counts a seed
        figure = draws.class_mix(size, seeds)
        what = f"class mix of {size} sorted examples in {seeds} draws, over chance"
        yield Finding(what, figure, 1 + off, 1 - off)


def draws_of_cohorts(scale: float) -> Iterator[Finding]:
    rounds = round(20_000 * scale)
    yield Finding(f"cohorts of {rounds} rounds: deviations of the worst", draws.cohorts(rounds), 5)


def fedavg(scale: float) -> Iterator[Finding]:
    seeds = max(3, round(40 * scale))
    counts = [2 + seed % 30 for seed in range(seeds)]
    # A product for each update, a sum of all and a quotient are so many roundings (Higham,
    # Accuracy and Stability of Numerical Algorithms, section 3.1).
    shares = [
        averages.fedavg_error(seed, 200, count) / ((count + 1) * 2**-53)
        for seed, count in enumerate(counts)
    ]
    what = f"FedAvg beside fractions, {seeds} rounds: error over that of its roundings at worst"
    yield Finding(what, max(shares), 1)


def int8(scale: float) -> Iterator[Finding]:
    errors = averages.int8_errors(max(500, round(20_000 * scale)))
    yield Finding(f"int8, {len(errors)} draws: bias in errors", averages.bias(errors), 5)
    dependence = averages.dependence(errors)
    yield Finding(f"int8, {len(errors)} draws: correlation of two values", dependence, 6)


def compiled_loop(scale: float) -> Iterator[Finding]:
    torch.set_num_threads(1)
    for name, shape in SHAPES.items():
        spec = models.spec_for(name, shape, 10)
        kernel = native.compile_kernel(spec)
        seeds = max(5, round(30 * scale))
        found = [agreement.compare(kernel.train, spec, seed) for seed in range(seeds)]
        off = [ties for distance, ties in found if not distance < 2e-6]
        # Where two sums are equal but for rounding, a pooling may take the other one.
        what = f"{name} beside PyTorch, {seeds} seeds: apart without a tie"
        yield Finding(what, sum(not ties for ties in off), 0)
        median = statistics.median(distance for distance, _ in found)
        yield Finding(f"{name} beside PyTorch, {seeds} seeds: weights, median", median, 2e-6)


def early_stopping(scale: float) -> Iterator[Finding]:
    count = max(100, round(1000 * scale))
    for size, patience in ((1_400, 1), (1_400, 4), (10_000, 2)):
        changes = {"dataset_size": size, "patience": patience, "target_accuracy": 0.9}
        stopped, met = stopping.runs(count, (0.86, 0.99), 0.8, **changes)
        what = f"of {stopped} runs of {count} that stopped (patience {patience}): target met"
        yield Finding(what, met / max(stopped, 1), 1, 0.9)
        stopped, _ = stopping.runs(count, (0.895, 0.8999), 0.8, **changes)
        yield Finding(f"of {count} runs just below the target: stopped", stopped / count, 0.1)


def requests(scale: float) -> Iterator[Finding]:
    """The default run on digits, twice: its requests by hand, their estimate, its bytes."""
    reports = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "client_sdk", "--dataset", "digits", "--json"]
            done = subprocess.run([*command, "--out", folder], capture_output=True, check=True)
        reports.append(json.loads(done.stdout))
    cost = reports[0]["cost"]
    # Create, upload and enrol; ask, fetch and send; read and measure; fetch and report at the end.
    by_hand = (1 + 2 + 20) + 10 * 10 * 3 + 10 * 4 + 20 * 2 + 2
    what = "requests of the default run, by hand and for its looks a fifth more"
    yield Finding(what, cost["requests"], 1.2 * by_hand, by_hand)
    estimate = cost["coordinator"]["requests"] / cost["requests"]
    # 1.03 on an idle machine; a busy one looks at the view less often than the estimate says.
    yield Finding("... the coordinator's estimate over the count", estimate, 1.3, 0.85)
    hashes = [[row["sha256"] for row in report["rounds"]] for report in reports]
    same = sum(a == b for a, b in zip(*hashes, strict=True)) / len(hashes[0])
    yield Finding("... models of the same seed with the same bytes", same, 1, 1)


CHECKS: tuple[Check, ...] = (
    draws_of_orders,
    draws_of_places,
    draws_of_classes,
    draws_of_cohorts,
    fedavg,
    int8,
    compiled_loop,
    early_stopping,
    requests,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of cases")
    parser.add_argument("--only", default="", help="the checks whose name holds this")
    arguments = parser.parse_args()
    held = True
    print("| check | figure | at least | at most | |\n|---|---:|---:|---:|---|")
    for check in CHECKS:
        if arguments.only not in check.__name__:
            continue
        started = time.monotonic()
        for found in check(arguments.scale):
            held = held and found.held
            least = "" if found.least == float("-inf") else f"{found.least:.4g}"
            word = "held" if found.held else "NOT HELD"
            row = [found.what, f"{found.figure:.4g}", least, f"{found.most:.4g}", word]
            print(f"| {' | '.join(row)} |", flush=True)
        print(f"({check.__name__}: {time.monotonic() - started:.0f} s)", file=sys.stderr)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

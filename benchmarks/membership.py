"""What an attacker learns of a model about who was in its data: with and without privacy.

    python -m benchmarks.membership [--models 6] [--rounds 15] [--local-epochs 10]

Each of some models is trained by thirty clients on a half of 600 digits, drawn so that each example
is in half of the models. Two attackers who have the last model then guess which examples were in
its data. The first one takes those with a small loss (Yeom et al., "Privacy risk in machine
learning", CSF 2018). The second one has trained the other models itself, on examples of which it
knows whether they were in: for each example it compares the confidence with that of models with and
without it (LiRA; Carlini et al., "Membership inference attacks from first principles", S&P 2022;
with one variance for all examples, as they advise for few models). Each model is attacked in turn.

An area under the curve of 50% is guessing. The bounds are about examples, and epsilon is about
clients, so the two cannot be compared number by number. Clients, coordinator and clock are in this
process. Writes benchmarks/results/membership.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from app.telemetry import logs
from benchmarks.algorithms import simulated
from benchmarks.algorithms.simulated import Case, Material
from benchmarks.training.accuracy import RESULTS, machine
from client_sdk.data import datasets
from client_sdk.data.data import Arrays
from client_sdk.data.dataset import normalise
from client_sdk.task.models import build
from client_sdk.task.pictures import PictureTask, picture_task
from client_sdk.task.task import Task, Weights
from client_sdk.task.tensors import put_weights
from serverless_fl.privacy.accounting import epsilon_of

EXAMPLES, CLIENTS, DELTA = 600, 30, 1e-3
RATE = 0.05  # of examples that were not in the data and are taken for such
NOISES = (0.2, 1.0)  # noise multipliers of dp-fedavg


def confidences(task: PictureTask, weights: Weights, data: Arrays) -> np.ndarray:
    """log(p / (1 - p)) of each example's own class, float64 [examples]."""
    model = build(task.about.spec, 0).eval()
    put_weights(model, weights)
    with torch.no_grad():
        scores = model(normalise(data.x, task.about.mean, task.about.std)).double()
    own = torch.as_tensor(data.y).long()[:, None]
    mine = scores.gather(1, own)[:, 0]
    others = scores.scatter(1, own, -torch.inf).logsumexp(1)
    return np.asarray(mine - others)


def halves(examples: int, models: int, seed: int) -> np.ndarray:
    """Which examples each model is trained on, bool [models, examples]: each example by half of
    them. Two models in a row have complementary halves.
    """
    draw = np.random.default_rng(seed)
    inside = np.zeros((models, examples), bool)
    for first in range(0, models, 2):
        inside[first, draw.permutation(examples)[: examples // 2]] = True
        inside[first + 1] = ~inside[first]
    return inside


def likelihood_ratios(target: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """How much likelier each of the target's confidences is with the example than without it.

    `shadows` are confidences of other models [models, examples], `inside` whether their data had
    the example. An example that is in all of them, or in none, is no evidence: 0.
    """
    counts = np.stack([(~inside).sum(0), inside.sum(0)])
    known = counts.min(0) > 0
    means = np.stack([np.where(mask, shadows, 0.0).sum(0) for mask in (~inside, inside)])
    means /= np.maximum(counts, 1)
    rest = shadows - np.where(inside, means[1], means[0])
    spread = [rest[mask & known].std() + 1e-12 for mask in (~inside, inside)]
    logs_ = [-np.log(s) - ((target - m) / s) ** 2 / 2 for m, s in zip(means, spread, strict=True)]
    return np.where(known, logs_[1] - logs_[0], 0.0)


def area(scores: np.ndarray, inside: np.ndarray) -> float:
    """The probability that an example that was in scores higher than one that was not."""
    return float(roc_auc_score(inside, scores))


def found_at(scores: np.ndarray, inside: np.ndarray, rate: float = RATE) -> float:
    """The share of members that score above all but this rate of the others."""
    bound = np.quantile(scores[~inside], 1 - rate, method="higher")
    return float((scores[inside] > bound).mean())


def attack(found: np.ndarray, inside: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """Attack each model: `area` and `found` of each attacker, a figure a model."""
    made: dict[str, dict[str, list[float]]] = {}
    for number in range(len(found)):
        others = np.arange(len(found)) != number
        for name, scores in (
            ("loss", found[number]),
            ("lira", likelihood_ratios(found[number], found[others], inside[others])),
        ):
            row = made.setdefault(name, {"area": [], "found": []})
            row["area"].append(area(scores, inside[number]))
            row["found"].append(found_at(scores, inside[number]))
    return made


def train(
    task: PictureTask,
    data: Arrays,
    test: Arrays,
    part: np.ndarray,
    settings: Mapping[str, Any],
    seed: int,
) -> tuple[np.ndarray, float]:
    """Train one model on a part of the data; its confidences, and its accuracy on the test set."""
    last: list[np.ndarray] = []

    def more(_: Task, weights: Weights) -> Mapping[str, float]:
        last.append(confidences(task, weights, data))
        return {}

    own = data.subset(np.flatnonzero(part).tolist())
    material = Material(task, own, test, every=10**9, more=more)
    case = Case(
        "", "", {"clients_per_round": CLIENTS, "batch_size": 5, **settings}, clients=CLIENTS
    )
    rows = simulated.run(case, seed, material)["rounds"]
    return last[-1], rows[-1]["accuracy"]


def table(record: dict[str, Any]) -> list[list[str]]:
    """The cells of a table of a results file's content, its head and its alignment first."""
    rate = f"{record['rate']:.0%}"
    heads = ["privacy", "epsilon of a client", "accuracy", "by the loss: area", f"found at {rate}"]
    heads += ["by LiRA: area", f"found at {rate}"]
    rows = [heads, ["---", *["---:"] * 6]]
    for row in record["rows"]:
        noise = row["noise_multiplier"]
        cells = ["none" if noise is None else f"`dp-fedavg`, noise {noise:g}"]
        cells.append("-" if noise is None else f"{row['epsilon']:,.3g}")
        cells.append(f"{statistics.mean(row['accuracy']):.1%}")
        for name in ("loss", "lira"):
            cells += [f"{statistics.mean(row[name][what]):.1%}" for what in ("area", "found")]
        rows.append(cells)
    return rows


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--models", type=int, default=6, help="an even number, 4 or more")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--local-epochs", type=int, default=10)
    parser.add_argument("--noises", type=float, nargs="*", default=NOISES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "membership.json")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    logs.configure("json", "error")
    dataset = datasets.load("digits", Path("data"))
    task = picture_task(dataset)
    pool = dataset.train.subset(range(EXAMPLES))
    inside = halves(len(pool), asked.models, asked.seed)
    rows: list[dict[str, Any]] = []
    for noise in (None, *asked.noises):
        settings: dict[str, Any] = {"rounds": asked.rounds, "local_epochs": asked.local_epochs}
        if noise is not None:
            mechanism = {"noise_multiplier": noise, "clip_norm": 1.0, "delta": DELTA}
            settings["privacy"] = {"name": "dp-fedavg", **mechanism}
        trained = [
            train(task, pool, dataset.test, part, settings, asked.seed + number)
            for number, part in enumerate(inside)
        ]
        spent = None if noise is None else epsilon_of(asked.rounds**0.5 / noise, DELTA)
        row = {"noise_multiplier": noise, "epsilon": spent, "accuracy": [a for _, a in trained]}
        rows.append(row | attack(np.stack([found for found, _ in trained]), inside))
    record = {
        "command": f"python -m benchmarks.membership --models {asked.models} "
        f"--rounds {asked.rounds} --local-epochs {asked.local_epochs} "
        f"--noises {' '.join(f'{n:g}' for n in asked.noises)} --seed {asked.seed}",
        "machine": machine(),
        "clients": CLIENTS,
        "delta": DELTA,
        "rate": RATE,
        "examples": len(pool),
        "rows": rows,
    }
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(*(f"| {' | '.join(cells)} |" for cells in table(record)), sep="\n")


if __name__ == "__main__":
    main()

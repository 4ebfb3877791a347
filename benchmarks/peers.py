"""The default run beside Flower, pfl-research and FedJAX on the same work, and FLUTE's small one.

    python -m benchmarks.peers [--full --data-dir DIR]

Each peer runs in a virtual environment of its own under .venv-peers, made on first use. All get the
same examples in memory, the same shards, the same initial weights; ours goes through the
coordinator over HTTP and keeps everything in SQLite. Seconds are from the start of the command to
its end, libraries' imports included. MNIST must be there; without it there is nothing to compare.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from app.domain.draw import shard
from benchmarks import logistic
from benchmarks.accuracy import machine, run
from benchmarks.tables import Row, Table, command
from client_sdk import datasets, models
from client_sdk.partition import split
from client_sdk.train import derive_seed

HERE = Path(__file__).parent / "peers"
VENVS = Path(".venv-peers")
GOAL = 0.35  # of Flower's seconds
POINTS = 0.002  # by which accuracies may differ
FLUTE_GOAL = 0.1

DEFAULT = {
    **{"model": "mnist-cnn", "clients": 20, "clients_per_round": 10, "rounds": 10},
    **{"local_epochs": 10, "batch_size": 50, "learning_rate": 0.05, "momentum": 0.5},
    "evaluate_every": 1,
}
FLUTE = {
    **{"model": "logistic", "clients": 1000, "clients_per_round": 10, "rounds": 100},
    **{"local_epochs": 1, "batch_size": 10, "learning_rate": 0.03, "momentum": 0.0},
    "evaluate_every": 20,
}
OTHERS = {"pfl-research": "pfl", "FedJAX": "fedjax"}


def environment(peer: str) -> Path:
    """The peer's own Python, with what benchmarks/peers/PEER.txt names."""
    folder = VENVS / peer
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, clear=True, with_pip=True)
        install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, "-r", HERE / f"{peer}.txt"], check=True)
        ready.touch()
    return folder / "bin" / "python"


def run_peer(peer: str, work: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Its accuracies and the seconds of the whole command."""
    python = environment(peer)
    command = [python, HERE / f"{peer}_app.py", work, json.dumps(dict(settings))]
    started = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=_environ())
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"{peer} failed: {done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "wall": seconds}


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def prepare(
    folder: Path, dataset: datasets.Dataset, settings: Mapping[str, Any], seed: int
) -> None:
    """What a peer needs, as .npy files. Of a client's shard, what ours would train on."""
    normalised = [dataset.normalise(x) for x in (dataset.train_x, dataset.test_x)]
    for name, tensor in (
        *(("train_x", normalised[0]), ("train_y", dataset.train_y)),
        *(("test_x", normalised[1]), ("test_y", dataset.test_y)),
    ):
        np.save(folder / f"{name}.npy", tensor.numpy())
    clients = settings["clients"]
    parts = [shard(seed, len(dataset.train_y), clients, slot) for slot in range(clients)]
    if settings["model"] == "mnist-cnn":
        parts = [split(part, derive_seed(seed, "holdout", i))[0] for i, part in enumerate(parts)]
        spec = models.spec_for("mnist-cnn", dataset.shape, 10)
        initial = models.build(spec, derive_seed(seed, "initial weights")).state_dict().values()
    else:
        initial = logistic.initial(seed).values()
    np.save(folder / "shards.npy", np.array(parts))
    for i, tensor in enumerate(initial):
        np.save(folder / f"initial_{i}.npy", tensor.numpy())


def _ours(data_dir: Path, seed: int, rounds: int) -> dict[str, Any]:
    started = time.monotonic()
    report = run("mnist", seed, ["--data-dir", str(data_dir), "--rounds", str(rounds)])
    wall = time.monotonic() - started
    return {
        "accuracy": [row["accuracy"] for row in report["rounds"]],
        "wall": wall,
        "loop": report["loop"],
    }


def measure(full: bool, data_dir: Path) -> Table:
    """Half an hour in full (three seeds of Flower's), three minutes without."""
    table = Table(
        "The default run beside its peers",
        f"python -m benchmarks.peers{' --full' if full else ''} --data-dir DIR",
        "peer",
    )
    dataset = datasets.load("mnist", data_dir, download=False)
    rounds, seeds = (10, [0, 1, 2]) if full else (2, [0])
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "Flower": []}
    for seed in seeds:
        found["ours"].append(_ours(data_dir, seed, rounds))
        with tempfile.TemporaryDirectory() as folder:
            settings = {**DEFAULT, "rounds": rounds, "seed": seed}
            prepare(Path(folder), dataset, settings, seed)
            found["Flower"].append(run_peer("flower", Path(folder), settings))
    _compare(table, "Flower", found["ours"], found["Flower"], GOAL)
    found["ours, one round"] = [_ours(data_dir, 0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        settings = {**DEFAULT, "rounds": 1, "seed": 0, "threads": 1}
        prepare(Path(folder), dataset, settings, 0)
        for name, peer in OTHERS.items():
            found[name] = [run_peer(peer, Path(folder), settings)]
            _compare(table, f"{name}, one round", found["ours, one round"], found[name])
    _flute(table, dataset, 100 if full else 5)
    table.data = {"machine": machine(), "default": found, **table.data}
    table.notes += [
        f"MNIST, 20 clients with 2,700 examples each (and 300 held out, on which ours also "
        f"measures each update before and after), 10 a round, 10 local epochs, batches of 50, "
        f"{rounds} rounds, learning rate 0.05, momentum 0.5; seeds {seeds}. Ours trains with "
        f"{found['ours'][0]['loop']}, over HTTP through SQLite. Flower {_version('flower')} is "
        "`run_simulation` with Ray and one CPU a client. pfl-research (in one process and thread, "
        "with which it was fastest) and FedJAX (with the last JAX that it runs on) do one round.",
        "FLUTE's row: logistic regression, 1,000 clients, 10 a round, batches of 10, learning "
        "rate 0.03, one epoch. Published (FLUTE's documentation, on other machines): Flower 1.0 "
        "30 min 14 s, FLUTE 3 min 20 s for 100 rounds, about 80 %. Ours enrols a thousand clients "
        "over HTTP first, which is in the time: about 3 s, for each is on the disk before the next "
        "one may have a slot. Of a round's 70 ms, a quarter is training, a fifth the close and a "
        "look at it, and most of the rest the clients' 30 requests.",
    ]
    return table


def _version(peer: str) -> str:
    return (HERE / f"{peer}.txt").read_text().split("==", 1)[1].split("\n", 1)[0]


def _compare(
    table: Table,
    name: str,
    ours: list[dict[str, Any]],
    theirs: list[dict[str, Any]],
    goal: float | None = None,
) -> None:
    mine, other = (statistics.median(r["wall"] for r in runs) for runs in (ours, theirs))
    table.rows.append(
        Row(
            f"{name}: seconds of the run",
            f"{mine:.1f}",
            f"{other:.1f}",
            mine / other,
            f"at most {goal}" if goal else "",
            mine / other <= goal if goal else None,
        )
    )
    accuracy = [statistics.mean(r["accuracy"][-1] for r in runs) for runs in (ours, theirs)]
    points = accuracy[0] - accuracy[1]
    table.rows.append(
        Row(
            f"{name}: accuracy",
            f"{accuracy[0]:.2%}",
            f"{accuracy[1]:.2%} ({100 * points:+.2f} points)",
            None,
            "within 0.2 points" if goal else "",
            points >= -POINTS if goal else None,
        )
    )


def _flute(table: Table, dataset: datasets.Dataset, rounds: int) -> None:
    settings = {**FLUTE, "rounds": rounds, "seed": 0, "threads": 1}
    started = time.monotonic()
    accuracy = asyncio.run(logistic.run(dataset, settings))
    ours = {"wall": time.monotonic() - started, "accuracy": accuracy}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), dataset, settings, 0)
        theirs = run_peer("flower", Path(folder), settings)
    ratio = ours["wall"] / theirs["wall"]
    table.rows.append(
        Row(
            f"Flower, FLUTE's work, {rounds} rounds: seconds",
            *(f"{ours['wall']:.1f}", f"{theirs['wall']:.1f}", ratio),
            *(f"at most {FLUTE_GOAL}", ratio <= FLUTE_GOAL),
        )
    )
    table.rows.append(
        Row(
            "... accuracy",
            f"{accuracy[-1]:.2%}",
            f"{theirs['accuracy'][-1]:.2%}",
        )
    )
    table.data["flute"] = {"ours": ours, "Flower": theirs}


if __name__ == "__main__":
    command(__doc__, measure)

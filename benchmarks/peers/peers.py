"""The default run beside Flower, pfl-research and FedJAX on the same work, and FLUTE's small one.

    python -m benchmarks.peers.peers [--full --data-dir DIR]
    python -m benchmarks.peers.peers --rounds 3 --seeds $(seq 0 9) --data-dir DIR   half an hour

Each peer runs in a virtual environment of its own under .venv-peers, made on first use. All get the
same examples in memory, the same shards, the same initial weights; ours goes through the
coordinator over HTTP and keeps everything in SQLite. Seconds are from the start of the command to
its end, libraries' imports included. MNIST must be there; without it there is nothing to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.intervals import in_points, paired
from benchmarks.tables import Row, Table
from benchmarks.training import logistic
from benchmarks.training.accuracy import RESULTS, machine, run
from client_sdk.data import datasets
from client_sdk.data.dataset import Dataset
from client_sdk.data.holdout import hold_out
from client_sdk.data.seeds import derive_seed
from client_sdk.engines.processes import usable_cores
from client_sdk.task import models
from client_sdk.task.task import Weights
from client_sdk.task.tensors import weights_of
from serverless_fl.domain.draws import shard

HERE = Path(__file__).parent
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
OURS, FLOWER, PLAIN = "ours", "Flower", "PyTorch alone"
ON_PYTORCH = "ours with --kernel torch"
ALONE = "PyTorch alone is one process a core with Flower's loop and nothing around it. "
PROGRAMS = {FLOWER: "flower", PLAIN: "plain"}
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
    """Its accuracies and the seconds of the whole command. `plain` needs no environment but ours.

    Raises RuntimeError where the peer fails.
    """
    python = Path(sys.executable) if peer == "plain" else environment(peer)
    command = [python, HERE / f"{peer}_app.py", work, json.dumps(dict(settings))]
    return _timed(peer, command, _environ())


def _timed(who: str, command: Sequence[str | Path], environ: dict[str, str]) -> dict[str, Any]:
    """The JSON of a command's last line, and its seconds from start to end as `wall`."""
    started = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ)
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"{who} failed: {done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "wall": seconds}


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def prepare(folder: Path, dataset: Dataset, settings: Mapping[str, Any], seed: int) -> None:
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
        parts = [hold_out(part, derive_seed(seed, "holdout", i))[0] for i, part in enumerate(parts)]
        spec = models.spec_for("mnist-cnn", dataset.shape, 10)
        initial: Weights = weights_of(models.build(spec, derive_seed(seed, "initial weights")))
    else:
        initial = logistic.Logistic(dataset, seed).initial(seed)
    np.save(folder / "shards.npy", np.array(parts))
    for i, values in enumerate(initial.values()):
        np.save(folder / f"initial_{i}.npy", values)


def _ours(data_dir: Path, seed: int, rounds: int, *more: str) -> dict[str, Any]:
    started = time.monotonic()
    report = run("mnist", seed, ["--data-dir", str(data_dir), "--rounds", str(rounds), *more])
    wall = time.monotonic() - started
    trained = [row["federated"]["train_seconds"] * row["updates"] for row in report["rounds"]]
    return {
        "accuracy": [row["accuracy"] for row in report["rounds"]],
        "wall": wall,
        "looped": sum(trained),
        "loop": report["loop"],
    }


def measure(
    full: bool, data_dir: Path, rounds: int = 0, seeds: Sequence[int] = (), *, keep: bool = False
) -> Table:
    """40 minutes in full (ten rounds, five seeds), six without (two rounds, one seed).

    PyTorch alone takes part where there are few rounds: it shows what a round costs, and ten of
    them would take the hour that five pairs with Flower need. With `keep`,
    benchmarks/results/peers.json is written after each step.
    """
    rounds, seeds = rounds or (10 if full else 2), seeds or (range(5) if full else [0])
    alone = rounds < 10
    table = Table(
        "The default run beside its peers",
        f"python -m benchmarks.peers.peers --rounds {rounds} --seeds {' '.join(map(str, seeds))} "
        "--data-dir DIR",
        "peer",
    )
    dataset = datasets.load("mnist", data_dir, download=False)
    others = (FLOWER, PLAIN) if alone else (FLOWER,)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (OURS, *others)}
    table.data = {
        **{"command": table.command, "machine": machine(), "cores": usable_cores()},
        **{"date": f"{datetime.now(UTC):%Y-%m-%d}", "rounds": rounds, "seeds": list(seeds)},
        **{"versions": {"Flower": version("flower")}, "default": found},
    }

    def kept() -> None:
        if keep:
            RESULTS.mkdir(exist_ok=True)
            text = json.dumps(table.data | {"load_at_end": os.getloadavg()[0]}, indent=2)
            (RESULTS / "peers.json").write_text(text + "\n")

    for seed in seeds:
        found[OURS].append(_ours(data_dir, seed, rounds))
        with tempfile.TemporaryDirectory() as folder:
            settings = {**DEFAULT, "rounds": rounds, "seed": seed, "workers": usable_cores()}
            prepare(Path(folder), dataset, settings, seed)
            for name in others:
                found[name].append(run_peer(PROGRAMS[name], Path(folder), settings))
        kept()
    for name in others:
        _compare(table, name, found[OURS], found[name], GOAL if name == FLOWER else None)
    if alone:
        found[ON_PYTORCH] = [_ours(data_dir, seeds[0], rounds, "--kernel", "torch")]
        _compare(table, f"{PLAIN}, beside {ON_PYTORCH}", found[ON_PYTORCH], found[PLAIN][:1])
    _outside(table, found, others)
    _flute(table, dataset, data_dir, 100 if full or rounds > 2 else 5)
    kept()
    found["ours, one round"] = [_ours(data_dir, 0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        settings = {**DEFAULT, "rounds": 1, "seed": 0, "threads": 1}
        prepare(Path(folder), dataset, settings, 0)
        for name, peer in OTHERS.items():
            found[name] = [run_peer(peer, Path(folder), settings)]
            _compare(table, f"{name}, one round", found["ours, one round"], found[name])
            kept()
    table.notes += [
        f"MNIST, 20 clients with 2,700 examples each (and 300 held out, on which ours also "
        f"measures each update before and after), 10 a round, 10 local epochs, batches of 50, "
        f"{rounds} rounds, learning rate 0.05, momentum 0.5; seeds {list(seeds)}. Ours trains with "
        f"{found[OURS][0]['loop']}, over HTTP through SQLite. Flower {version('flower')} is "
        "`run_simulation` with Ray and one CPU a client. "
        f"{ALONE if alone else ''}pfl-research (in one process and thread, with which "
        "it was fastest; its own data set keeps one order for ever, so that ours shuffles it) and "
        "FedJAX (with the last JAX that it runs on) do one round.",
        "Outside the loop: the seconds of the command, less the seconds in the loops of all "
        "trainings over the number of cores.",
        "FLUTE's row: logistic regression, 1,000 clients, 10 a round, batches of 10, learning "
        "rate 0.03, one epoch; each a command, with its start, imports and data. Published "
        "(FLUTE's documentation, on other machines): Flower 1.0 30 min 14 s, FLUTE 3 min 20 s for "
        "100 rounds, about 80 %. Ours enrols a thousand clients over HTTP first.",
    ]
    return table


def _outside(
    table: Table, found: Mapping[str, list[dict[str, Any]]], others: Sequence[str]
) -> None:
    """Rows of the seconds that a command spends elsewhere than in the loop of its trainings."""
    cores = usable_cores()
    outside = {
        name: statistics.median(run["wall"] - run["looped"] / cores for run in found[name])
        for name in (OURS, *others)
    }
    for peer in others:
        table.rows.append(
            Row(
                f"{peer}: seconds outside the loop",
                f"{outside[OURS]:.1f}",
                f"{outside[peer]:.1f}",
                outside[OURS] / outside[peer],
                "at most 1" if peer == FLOWER else "",
                outside[OURS] <= outside[peer] if peer == FLOWER else None,
            )
        )


def version(peer: str) -> str:
    """The peer's version that its environment has."""
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
    accuracy = [[r["accuracy"][-1] for r in runs] for runs in (ours, theirs)]
    means = [statistics.mean(found) for found in accuracy]
    shown, met = "one pair", None
    if len(ours) > 1:
        comparison = paired(accuracy[0], accuracy[1], POINTS)
        shown = in_points(comparison, POINTS)
        met = comparison.verdict in ("higher", "equal within the margin") if goal else None
    table.rows.append(
        Row(
            f"{name}: accuracy",
            f"{means[0]:.2%}",
            f"{means[1]:.2%} ({shown})",
            None,
            f"equal within {100 * POINTS:g} points, or higher" if goal else "",
            met,
        )
    )


def _flute(table: Table, dataset: Dataset, data_dir: Path, rounds: int) -> None:
    settings = {**FLUTE, "rounds": rounds, "seed": 0, "threads": 1}
    command = [sys.executable, "-m", "benchmarks.training.logistic", data_dir, json.dumps(settings)]
    ours = _timed("ours", command, dict(os.environ))
    accuracy = ours["accuracy"]
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
    table.data["flute"] = {"rounds": rounds, "ours": ours, "Flower": theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--full", action="store_true", help="ten rounds, five seeds")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where MNIST lies")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[])
    a = parser.parse_args()
    print(measure(a.full, a.data_dir, a.rounds, a.seeds, keep=True).markdown())


if __name__ == "__main__":
    main()

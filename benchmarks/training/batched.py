"""What a step costs where a cohort is one model, and what a whole run takes.

    python -m benchmarks.training.batched [--clients 10 100] [--steps 200] [--run [ARGUMENTS]]

It trains MNIST's network on random pictures, all clients as one model, on the GPU where there is
one: microseconds a step of all clients, and of one; beside it PyTorch's loop, one client after
another, on the same device. Then it trains the same again and compares the bytes. `--run` runs the
default experiment with `--engine batched` and prints the seconds of its rounds and of the command.
The first training of each kind is not timed. Give fewer --steps where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client_sdk.data.data import Arrays
from client_sdk.data.preparation import Preparation
from client_sdk.task.model_file import Description
from client_sdk.task.models import spec_for
from client_sdk.task.pictures import PictureTask
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Party, Result
from client_sdk.task.together import deterministic
from client_sdk.task.train import pick_device

BATCH = 32
SHAPE = (1, 28, 28)


def mnist_task() -> PictureTask:
    """The task of the default run, trained by PyTorch."""
    spec = spec_for("mnist-cnn", SHAPE, 10)
    classes = tuple("0123456789")
    prepared = Preparation(*SHAPE)
    return PictureTask(Description(spec, "random", classes, (0.13,), (0.31,), prepared), "torch")


def parties(task: PictureTask, clients: int, steps: int) -> list[Party]:
    """Clients with random pictures for so many steps of one epoch."""
    draws = np.random.Generator(np.random.Philox(1))
    base = task.initial(0)
    found = []
    for seed in range(clients):
        x = torch.from_numpy(draws.integers(0, 256, (steps * BATCH, *SHAPE), np.uint8))
        y = torch.from_numpy(draws.integers(0, 10, steps * BATCH))
        found.append(Party(base, Arrays(x, y), TrainSettings(1, BATCH, 0.05, 0.9), seed))
    return found


def timed(train: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a training gives, its seconds, and its processor's seconds."""
    begun, used = time.perf_counter(), time.process_time()
    found = train()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - begun, time.process_time() - used


def measure(clients: int, steps: int) -> dict[str, Any]:
    """The cost of a step with so many clients as one model, and one after another."""
    task = mnist_task()
    few, all_of_them = parties(task, clients, 2), parties(task, clients, steps)

    def together(some: list[Party]) -> list[Result]:
        return task.train_together(some, clients)

    def alone(some: list[Party]) -> list[Result]:
        return [task.train(p.weights, p.data, p.training, p.seed) for p in some]

    together(few), alone(few[:1])
    first, seconds, processor = timed(lambda: together(all_of_them))
    again = together(all_of_them)
    one, plain, plain_processor = timed(lambda: alone(all_of_them[:1]))
    same = all(
        np.array_equal(values, other.weights[name])
        for result, other in zip(first, again, strict=True)
        for name, values in result.weights.items()
    )
    furthest = max(
        float(np.abs(first[0].weights[name] - values).max())
        for name, values in one[0].weights.items()
    )
    per_step = 1e6 / steps
    return {
        "clients": clients,
        "steps": steps,
        "us_a_step_of_all": round(seconds * per_step, 1),
        "us_a_clients_step": round(seconds * per_step / clients, 2),
        "us_a_clients_step_one_after_another": round(plain * per_step, 2),
        "processor_us_a_clients_step": round(processor * per_step / clients, 2),
        "processor_us_one_after_another": round(plain_processor * per_step, 2),
        "same_bytes_again": same,
        "furthest_weight_from_the_plain_loop": furthest,
    }


def run(arguments: list[str]) -> dict[str, Any]:
    """The default run with this engine: seconds of the command and of its rounds, accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "client_sdk", "run", "--engine", "batched", *arguments]
        begun = time.perf_counter()
        done = subprocess.run(
            [*command, "--out", f"{folder}/run"], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begun
        if done.returncode:
            sys.exit(done.stderr)
        report = json.loads(Path(folder, "run", "report.json").read_text())
    rounds = [row["seconds"] for row in report["rounds"]]
    return {
        "arguments": arguments,
        "loop": report["loop"],
        "seconds_of_the_command": round(seconds, 2),
        "seconds_of_the_rounds": round(sum(rounds), 2),
        "slowest_and_fastest_round": [round(max(rounds), 2), round(min(rounds), 2)],
        "metrics": report["totals"].get("final_metrics"),
    }


def main() -> None:
    """Measure as the command line says, and print a line of JSON for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--run", nargs=argparse.REMAINDER, help="arguments of run")
    arguments = parser.parse_args()
    device = pick_device().type
    name = torch.cuda.get_device_name() if device == "cuda" else device
    print(json.dumps({"device": name, "torch": torch.__version__, "batch": BATCH}), flush=True)
    with deterministic():
        for clients in arguments.clients:
            print(json.dumps(measure(clients, arguments.steps)), flush=True)
    if arguments.run is not None:
        print(json.dumps(run(arguments.run)), flush=True)


if __name__ == "__main__":
    main()

"""A whole experiment of functions: clients that wake, take one turn and sleep, and a coordinator.

    python -m benchmarks.coordinator.functions --clients 20 --rounds 3

Each client is a container of Lambda's emulator with the handler of template-client.yaml, the
coordinator some more behind a gateway, over an nx-27017. Nobody else polls: a client is woken again
and again, as by a schedule, `--at-once` of them at a time, so that their seconds are not those of a
crowded machine. Dollars are the invocations and their billed milliseconds on this machine by the
list prices (serverless_fl/domain/prices.json), at the memory of each template. Writes
benchmarks/results/functions.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from benchmarks.training.accuracy import RESULTS, machine
from client_sdk.api.client import CoordinatorClient
from client_sdk.data import datasets
from client_sdk.simulation.simulate import initial_model
from client_sdk.task import weights_file
from client_sdk.task.pictures import picture_task
from examples.lambda_gateway import INVOKE
from examples.lambda_local import ClientContainer
from serverless_fl.domain.experiment import TERMINAL
from serverless_fl.domain.prices import Prices
from serverless_fl.wire.config import ExperimentConfig

MEMORY_MB = 3008  # template-client.yaml's default
TURNS = 50  # of a client in a round, at the most


def _serve(stack: AsyncExitStack, key: str) -> str:
    """Start the coordinator's functions behind their gateway; gives the URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.lambda_local", "--port", "0", "--containers", "2"],
        env=os.environ | {"FL_ADMIN_KEY": key},
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.wait)
    stack.callback(process.send_signal, signal.SIGTERM)
    assert process.stdout is not None
    line = process.stdout.readline()
    if " behind " not in line:
        raise SystemExit("The coordinator's functions did not start.")
    return line.split(" behind ")[1].split(" ")[0]


def _turn(container: ClientContainer) -> tuple[float, list[str]]:
    """Wake a client; gives the seconds that it took, and what it said."""
    started = time.monotonic()
    answer = httpx.post(container.url + INVOKE, json={}, timeout=900, trust_env=False).json()
    if "said" not in answer:
        raise SystemExit(f"A client failed: {answer}")
    return time.monotonic() - started, answer["said"]


async def measure(clients: int, rounds: int, at_once: int) -> dict[str, Any]:
    """Run the experiment; gives what the results file holds."""
    data = datasets.load("digits", Path("data"))
    task = picture_task(data)
    config = ExperimentConfig(
        dataset="digits",
        dataset_size=len(data.train_y),
        model=task.name,
        clients=clients,
        clients_per_round=clients // 2,
        rounds=rounds,
        batch_size=10,
    )
    key = secrets.token_urlsafe(32)
    async with AsyncExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(at_once))
        log = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
        url = _serve(stack, key)
        admin = await stack.enter_async_context(CoordinatorClient(url, key))
        made = await admin.create_experiment("functions", config, secrets.token_hex(8))
        await admin.upload_initial_model(made.id, initial_model(task, 0), made.part_bytes)
        containers = [
            stack.enter_context(
                ClientContainer(
                    {
                        "FL_JOIN": f"--server {url} --experiment {made.id} --kernel torch",
                        "FL_ENROL_KEY": made.enrolment_key,
                        "FL_CLIENT_KEY": secrets.token_urlsafe(32),
                        "TMPDIR": stack.enter_context(tempfile.TemporaryDirectory()),
                    },
                    log,
                )
            )
            for _ in range(clients)
        ]
        started = time.monotonic()
        seconds: list[float] = []
        trained = 0
        for _ in range(TURNS * rounds):
            for took, said in await asyncio.to_thread(lambda: list(pool.map(_turn, containers))):
                seconds.append(took)
                trained += sum("uploaded" in line for line in said)
            view = await admin.experiment(made.id)
            if view.state in TERMINAL:
                break
        wall = time.monotonic() - started
        weights = await admin.download_model(made.id, rounds, made.part_bytes)
        accuracy = task.evaluate(weights_file.read(weights), data.test)["accuracy"]
    prices = Prices.load()
    gb_seconds = sum(math.ceil(1000 * s) / 1000 for s in seconds) * MEMORY_MB / 1024
    dollars = gb_seconds * prices.lambda_per_gb_second
    dollars += len(seconds) / 1e6 * prices.lambda_per_million_requests
    return {
        "command": "python -m benchmarks.coordinator.functions "
        f"--clients {clients} --rounds {rounds}",
        "machine": machine(),
        "clients": clients,
        "rounds": rounds,
        "state": view.state,
        "accuracy": accuracy,
        "wall_seconds": wall,
        "turns": len(seconds),
        "turns_that_trained": trained,
        "seconds_of_a_turn": sorted(round(s, 3) for s in seconds),
        "clients_gb_seconds": gb_seconds,
        "clients_usd_a_round": dollars / rounds,
        "coordinator_usd_a_round": view.cost.usd / rounds if view.cost else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=2, help="clients awake at a time")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.clients, arguments.rounds, arguments.at_once))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "functions.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in found.items() if k != "seconds_of_a_turn"}, indent=1))


if __name__ == "__main__":
    main()

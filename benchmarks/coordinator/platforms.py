"""Cold start, warm request and a round of a large model on each platform, on this machine.

    python -m benchmarks.coordinator.platforms --megabytes 100

A cold start is from the start of the process to its first answer (the median of several), a warm
request a client's status (the median of many, one after the other), both through the gateways of
`examples`. The round has two clients; its model is checked. State is in an nx-27017, beside which
there is SQLite for a plain server. Writes benchmarks/results/platforms.json and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import httpx
import numpy as np
import safetensors.numpy
from starlette.applications import Starlette

from benchmarks.training.accuracy import RESULTS, machine
from client_sdk.api.client import CoordinatorClient
from examples import lambda_gateway, openwhisk_gateway
from examples.containers import Container, LocalMongo
from examples.lambda_local import LambdaContainer
from examples.openwhisk_local import OpenWhiskContainer
from serverless_fl.wire.config import ExperimentConfig


class Server(Container):
    """`uvicorn app.main:app`."""

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port)),
            *("--log-level", "warning", "--no-access-log"),
        ]


@dataclass(frozen=True)
class Platform:
    """What makes one container, and the gateway before it (none: it speaks HTTP itself)."""

    name: str
    container: Callable[[], Container]
    gateway: Callable[[str], Starlette] | None


@dataclass(frozen=True)
class Measured:
    """Sizes in bytes, times in seconds."""

    platform: str
    cold_start: float
    warm_request: float
    largest_model: int
    round_seconds: float
    peak_memory: int


@asynccontextmanager
async def client_of(platform: Platform, url: str, key: str) -> AsyncIterator[CoordinatorClient]:
    if platform.gateway is None:
        async with CoordinatorClient(url, key) as client:
            yield client
        return
    gateway = platform.gateway(url)
    transport = httpx.ASGITransport(gateway)
    async with (
        gateway.router.lifespan_context(gateway),
        CoordinatorClient("http://platform", key, transport=transport) as client,
    ):
        yield client


async def cold_start(platform: Platform, key: str) -> float:
    started = time.monotonic()
    with platform.container() as container:
        async with client_of(platform, container.url, key) as client:
            await client.connection.request("GET", "/experiments?limit=1")
            return time.monotonic() - started


async def start(
    admin: CoordinatorClient, initial: bytes
) -> tuple[str, int, list[CoordinatorClient]]:
    """A running experiment of one round, the size of its parts, and its two clients."""
    config = ExperimentConfig(
        **{"dataset": "none", "dataset_size": 2, "model": "none", "rounds": 1},
        **{"clients": 2, "clients_per_round": 2, "deadline_seconds": 3600.0},
    )
    made = await admin.create_experiment("benchmark", config, secrets.token_hex(8))
    await admin.upload_initial_model(made.id, initial, made.part_bytes)
    enrolling = admin.using(made.enrolment_key)
    got = [await enrolling.subscribe(made.id, secrets.token_hex(20)) for _ in range(2)]
    return made.id, made.part_bytes, [admin.using(client.token) for client in got]


def model(value: float, size: int) -> bytes:
    return safetensors.numpy.save({"w": np.full(size // 4, value, np.float32)})


async def warm_request(admin: CoordinatorClient, requests: int) -> float:
    """The median of a client's status, its training time standing open."""
    experiment, _, (client, _) = await start(admin, model(0, 1024))
    seconds = []
    for _ in range(requests):
        started = time.monotonic()
        await client.status(experiment)
        seconds.append(time.monotonic() - started)
    await admin.stop_experiment(experiment)
    return statistics.median(seconds)


async def round_of(admin: CoordinatorClient, size: int) -> float:
    """Seconds of a whole round: uploads, aggregation in steps, and the download of its model."""
    experiment, part_bytes, clients = await start(admin, model(0, size))
    started = time.monotonic()
    await asyncio.gather(
        *(
            client.upload_update(experiment, 1, model(value, size), 1, {}, part_bytes)
            for client, value in zip(clients, (2.0, 4.0), strict=True)
        )
    )
    while (await clients[0].status(experiment)).action != "done":
        await asyncio.sleep(0.2)
    if await admin.download_model(experiment, 1, part_bytes) != model(3.0, size):
        raise SystemExit("the model is not the mean of its updates")
    return time.monotonic() - started


async def measure(platform: Platform, key: str, options: argparse.Namespace) -> Measured:
    cold = [await cold_start(platform, key) for _ in range(options.starts)]
    size = options.megabytes * 10**6
    with platform.container() as container:
        async with client_of(platform, container.url, key) as admin:
            warm = await warm_request(admin, options.requests)
            seconds = await round_of(admin, size)
        memory = container.peak_memory()
    return Measured(platform.name, statistics.median(cold), warm, size, seconds, memory)


def platforms(settings: Mapping[str, str], folder: str, log: IO[bytes]) -> list[Platform]:
    key = settings["FL_ADMIN_KEY"]
    return [
        Platform(
            "uvicorn, SQLite",
            lambda: Server({"FL_ADMIN_KEY": key, "FL_DATA_DIR": folder}, log),
            None,
        ),
        Platform("uvicorn, MongoDB", lambda: Server(settings, log), None),
        Platform(
            "Lambda's emulator",
            lambda: LambdaContainer({"AWS_DEFAULT_REGION": "eu-west-1", **settings}, log),
            lambda url: lambda_gateway.create_app([url]),
        ),
        Platform(
            "OpenWhisk action",
            lambda: OpenWhiskContainer({}, log),
            lambda url: openwhisk_gateway.create_app([url], settings),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100, help="of the large model")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--note", default="", help="what else the machine does, for the record")
    options = parser.parse_args()
    key = secrets.token_hex(16)
    with LocalMongo() as mongo, tempfile.TemporaryDirectory() as folder:
        settings = {"MONGODB_URL": mongo.url, "FL_ADMIN_KEY": key}
        with Path(folder, "log").open("wb") as log:
            found = [
                asyncio.run(measure(p, key, options)) for p in platforms(settings, folder, log)
            ]
    result = {
        "command": " ".join(["python -m benchmarks.coordinator.platforms", *sys.argv[1:]]),
        "machine": machine(),
        "note": options.note,
        "platforms": [asdict(row) for row in found],
    }
    RESULTS.mkdir(exist_ok=True)
    Path(RESULTS, "platforms.json").write_text(json.dumps(result, indent=2) + "\n")
    print("| platform | largest model tried | cold start | warm request | its round | memory |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in found:
        print(
            f"| {row.platform} | {row.largest_model // 10**6} MB | {row.cold_start:.2f} s "
            f"| {row.warm_request * 1000:.1f} ms | {row.round_seconds:.0f} s "
            f"| {row.peak_memory // 10**6} MB |"
        )
    print(f"\n({'; '.join(filter(None, (result['machine'], options.note)))})")


if __name__ == "__main__":
    main()

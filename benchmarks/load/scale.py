"""Many coordinator processes over one MongoDB and one S3, and many clients with long polls.

    python -m benchmarks.load.scale                                        # about two minutes
    python -m benchmarks.load.scale --coordinators 8 --clients 10000 --cohort 200 --load 4

Each coordinator is a process of its own with a port of its own, and a client sends each request to
another one in turn, as a load balancer would: no process knows what another one has answered. The
database is nx-27017 (or MONGODB_URL), the bucket moto's server; weights (88 KB, MNIST's CNN) go to
the bucket by signed URLs. The clients of `--load` processes train nothing. They wait by long polls:
each holds a connection, as far as the coordinators take them, and polls otherwise.

What is measured, over all clients:

- `status`: an answer that is not held back;
- `told`: from the opening of a round, as the coordinators noted it, until a client of its cohort
  knows of it;
- `download`, and `upload` with its announcement, the PUT to the bucket and the commit, of which
  `commit` is the last;
- the processor seconds of each kind of process: the one with the most of a core each is what a
  larger machine would have to give more of.

It writes benchmarks/results/scale.json and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.load.clients import initial_weights, settings_of
from benchmarks.load.load import milliseconds, usage
from benchmarks.training.accuracy import RESULTS, machine
from client_sdk.api.client import CoordinatorClient
from examples.containers import Container, LocalMongo

TIMED = ("subscribe", "status", "told", "download", "upload", "commit")
AWS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}


class LocalS3(Container):
    """moto's server."""

    def command(self, port: int) -> list[str]:
        return [str(Path(sys.executable).parent / "moto_server"), "-p", str(port)]


class Coordinator(Container):
    """`uvicorn app.main:app` with one worker."""

    hidden = ("FL_", "MONGODB_URL")

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port)),
            *("--log-level", "warning", "--no-access-log", "--backlog", "4096"),
        ]


def run(drove: dict[str, Any], seconds: float) -> dict[str, Any]:
    """A load process to its end: what it saw. Raises subprocess.SubprocessError."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load.drove"],
        input=json.dumps(drove),
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def cpu_of(group: list[Container]) -> list[float]:
    """The processor seconds of each until now."""
    return [usage(one)[0] for one in group]


async def create(url: str, key: str, options: argparse.Namespace) -> tuple[str, str, int]:
    """The experiment's id, its enrolment key, and the size of its model."""
    weights = initial_weights()
    config = settings_of(options.clients, options.cohort, options.rounds)
    async with CoordinatorClient(url, key) as admin:
        made = await admin.create_experiment("scale", config, secrets.token_hex(16))
        await admin.upload_initial_model(made.id, weights, made.part_bytes, direct=made.direct)
    return made.id, made.enrolment_key, len(weights)


async def opened(url: str, key: str, experiment: str, rounds: int) -> dict[int, datetime]:
    async with CoordinatorClient(url, key) as admin:
        return {
            number: (await admin.round(experiment, number)).opened_at
            for number in range(1, rounds + 1)
        }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    key, settings = secrets.token_hex(16), dict[str, str]()
    started = time.perf_counter()
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        s3 = stack.enter_context(LocalS3({}, log))
        mongo = None
        if url := os.environ.get("MONGODB_URL"):
            settings["FL_MONGODB_DATABASE"] = f"scale_{secrets.token_hex(4)}"
        else:
            mongo = stack.enter_context(LocalMongo())
            url = mongo.url
        os.environ.update({**AWS, "AWS_ENDPOINT_URL": s3.url})
        import boto3

        boto3.client("s3").create_bucket(Bucket="weights")
        settings |= {"MONGODB_URL": url, "FL_S3_BUCKET": "weights", "FL_ADMIN_KEY": key}
        settings |= {"FL_RATE_PER_SECOND": "0", "FL_MAX_CLIENTS": "1000000"}
        servers = [
            stack.enter_context(Coordinator(settings, log)) for _ in range(options.coordinators)
        ]
        urls = [server.url for server in servers]
        experiment, enrolment_key, size = asyncio.run(create(urls[0], key, options))
        share = -(-options.clients // options.load)
        measured: dict[str, list[Container]] = {
            "coordinators": [*servers],
            "database": [mongo] if mongo else [],
            "bucket": [s3],
        }
        before = {name: cpu_of(group) for name, group in measured.items()}
        begun = time.perf_counter()
        where = {"urls": urls, "bucket": s3.url, "experiment": experiment, "key": enrolment_key}
        droves = [
            {**where, "first": first, "last": min(first + share, options.clients)}
            for first in range(0, options.clients, share)
        ]
        with ThreadPoolExecutor(len(droves)) as pool:
            found = list(pool.map(lambda drove: run(drove, options.seconds), droves))
        lasted = time.perf_counter() - begun
        cpu = {
            name: [
                round(now - then, 1) for now, then in zip(cpu_of(group), before[name], strict=True)
            ]
            for name, group in measured.items()
        }
        cpu["clients"] = [round(one["cpu"], 1) for one in found]
        memory = [usage(server)[1] for server in servers]
        at = asyncio.run(opened(urls[-1], key, experiment, options.rounds))
    seconds: dict[str, list[float]] = defaultdict(list)
    for one in found:
        for what, values in one["seconds"].items():
            seconds[what] += values
        seconds["told"] += [when - at[number].timestamp() for number, when in one["told"]]
    shares = {
        name: round(max(used) / lasted, 2) for name, used in cpu.items() if used
    }  # of a core, of the busiest process
    return {
        **{name: vars(options)[name] for name in ("coordinators", "clients", "cohort", "rounds")},
        **{"load_processes": options.load, "model_bytes": size, "seconds": round(lasted, 1)},
        **{"with_the_start": round(time.perf_counter() - started, 1)},
        "requests": sum(one["requests"] for one in found),
        "long_polls": sum(one["held"] for one in found),
        "errors": dict(sum((Counter(one["errors"]) for one in found), Counter())),
        "milliseconds": {what: milliseconds(seconds[what]) for what in TIMED if seconds[what]},
        "cpu_seconds": cpu,
        "busiest_share_of_a_core": shares,
        "bottleneck": max(shares, key=lambda name: shares[name]),
        "peak_memory_of_a_coordinator": max(memory),
    }


def table(found: dict[str, Any]) -> str:
    times = {
        what: f"{t['p50']:,.0f} / {t['p99']:,.0f}" for what, t in found["milliseconds"].items()
    }
    shares = ", ".join(
        f"{name} {100 * share:.0f} %" for name, share in found["busiest_share_of_a_core"].items()
    )
    errors = ", ".join(f"{count} {what}" for what, count in found["errors"].items()) or "none"
    head = " | ".join(f"{what}, ms p50 / p99" for what in times)
    return (
        f"| coordinators | clients (a round) | requests | long polls | {head} "
        "| busiest process of a core | errors |\n"
        f"|{'---|' * (6 + len(times))}\n"
        f"| {found['coordinators']} | {found['clients']:,} ({found['cohort']}) "
        f"| {found['requests']:,} | {found['long_polls']:,} | {' | '.join(times.values())} "
        f"| {shares} | {errors} |\n\n"
        f"The busiest kind of process is: {found['bottleneck']}. {found['rounds']} rounds and the "
        f"enrolment took {found['seconds']} s."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--coordinators", type=int, default=2)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--cohort", type=int, default=50, help="clients a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", type=int, default=2, help="processes of clients")
    parser.add_argument("--seconds", type=float, default=1800, help="that it may take")
    parser.add_argument("--note", default="", help="what else the machine does, for the record")
    options = parser.parse_args()
    found = {"machine": machine(), "note": options.note, **measure(options)}
    path = Path(RESULTS, "scale.json")
    RESULTS.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else []
    same = ("coordinators", "clients")
    known = [row for row in known if any(row[name] != found[name] for name in same)]
    path.write_text(json.dumps([*known, found], indent=2) + "\n")
    print(table(found))
    print(f"\n({'; '.join(filter(None, (found['machine'], options.note)))})")


if __name__ == "__main__":
    main()

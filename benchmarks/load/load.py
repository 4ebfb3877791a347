"""Thousands of clients against one coordinator of two workers, on SQLite and on MongoDB.

    python -m benchmarks.load.load --clients 20 200 1000 2000

The clients are of `benchmarks.load.clients`: no training, real HTTP, the real weights of MNIST's
CNN (88 KB).
Half of them are in each round, up to `--largest-cohort`: an aggregation of 1,000 updates reads as
many files in one go, and what a larger one adds is more of the same. They come over `--connections`
connections, from one process; times are from the first byte that is sent on a free connection.

`probe` is a client's status, eight at a time whatever the number of clients, while all but one of a
round's updates are in: if a poll cost more the more clients there are, it would show there. Calls
of the database for each kind of request are counted in this process (`benchmarks.load.requests`).

MongoDB is the one that MONGODB_URL names, or else an nx-27017. Writes benchmarks/results/load.json
and prints tables. What the file holds of other stores and sizes stays: it can be run in pieces.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import http, requests
from benchmarks.load.clients import Crowd, within
from benchmarks.training.accuracy import RESULTS, machine
from examples.containers import Container, LocalMongo

WORKERS = 2
TIMED = ("status", "probe", "upload", "download", "subscribe")


class Server(Container):
    """`uvicorn app.main:app` with several workers."""

    hidden = ("FL_", "MONGODB_URL")

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "uvicorn", "app.main:app", "--workers", str(WORKERS)),
            *("--port", str(port), "--log-level", "warning", "--no-access-log"),
        ]


def usage(container: Container) -> tuple[float, int]:
    """Seconds of processor time, and the sum of the peaks of resident memory in bytes, of the
    container's processes. Linux only.
    """
    assert container._process is not None
    seconds, memory, family = 0.0, 0, [container._process.pid]
    for pid in family:
        at = Path(f"/proc/{pid}")
        fields = (at / "stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        peaks = [x for x in (at / "status").read_text().splitlines() if x.startswith("VmHWM")]
        memory += sum(int(line.split()[1]) * 1024 for line in peaks)
        for task in (at / "task").iterdir():
            family += [int(child) for child in (task / "children").read_text().split()]
    return seconds, memory


def milliseconds(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100}
    return {name: round(1000 * ordered[place], 1) for name, place in at.items()}


async def drive(server: Server, key: str, clients: int, options: argparse.Namespace) -> dict:
    cohort = min(clients // 2, options.largest_cohort)
    async with http.pool(server.url, options.connections) as pool:
        crowd = Crowd(pool, key, clients, cohort, options.rounds)
        await crowd.call("warm", "GET", "/experiments", key)
        started = time.perf_counter()
        enrolling = training = 0.0
        async with within(options.seconds):
            enrolling = await crowd.enrol(await crowd.create())
            enrolled, (cpu, _) = crowd.requests, usage(server)
            begun = time.perf_counter()
            await crowd.train()
            training = time.perf_counter() - begun
    used, memory = usage(server)
    found: dict[str, Any] = {
        **{"clients": clients, "clients_per_round": cohort, "rounds": options.rounds},
        "state": crowd.state or f"not finished within {options.seconds} s",
        "seconds": round(time.perf_counter() - started, 1),
        "requests": crowd.requests,
        "errors": dict(crowd.errors),
        "peak_memory": memory,
        "milliseconds": {w: milliseconds(crowd.seconds[w]) for w in TIMED if crowd.seconds[w]},
    }
    if training:
        polled = crowd.seconds["all probes"][0]
        found |= {
            "subscriptions_per_second": round(clients / enrolling),
            "requests_per_second": round((crowd.requests - enrolled) / training),
            "probes_per_second": round(len(crowd.seconds["probe"]) / polled),
            "server_cpu_ms_per_request": round(
                1000 * (used - cpu) / (crowd.requests - enrolled), 2
            ),
        }
    return found


@contextmanager
def database(store: str) -> Iterator[dict[str, str]]:
    """A fresh one, as the server's settings name it."""
    with tempfile.TemporaryDirectory() as folder:
        if store == "SQLite":
            yield {"FL_DATA_DIR": folder}
        elif url := os.environ.get("MONGODB_URL"):
            yield {"MONGODB_URL": url, "FL_MONGODB_DATABASE": f"load_{secrets.token_hex(4)}"}
        else:
            with LocalMongo() as mongo:
                yield {"MONGODB_URL": mongo.url}


def measure(store: str, clients: int, options: argparse.Namespace) -> dict[str, Any]:
    key = secrets.token_hex(16)
    with database(store) as settings, tempfile.TemporaryFile() as log:
        with Server({**settings, "FL_ADMIN_KEY": key}, log) as server:
            found = asyncio.run(drive(server, key, clients, options))
        log.seek(0)
        logged = log.read().decode(errors="replace").splitlines()
    found["log"] = logged[-20:]  # a server that is well says nothing at this level
    print(f"{store}, {clients} clients: {found['state']}, {found['seconds']} s", flush=True)
    return {"store": store, **found}


def tables(result: Mapping[str, Any]) -> str:
    lines = [
        "| store | clients (a round) | requests/s | status p50 / p99 | upload p50 / p99 "
        "| probe p50 / p99 | probes/s | CPU a request | memory | errors |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in result["sizes"]:
        times = {w: f"{t['p50']:.0f} / {t['p99']:.0f} ms" for w, t in row["milliseconds"].items()}
        errors = ", ".join(f"{count} {what}" for what, count in row["errors"].items())
        lines.append(
            f"| {row['store']} | {row['clients']:,} ({row['clients_per_round']:,}) "
            f"| {row.get('requests_per_second', row['state'])} | {times.get('status', '')} "
            f"| {times.get('upload', '')} | {times.get('probe', '')} "
            f"| {row.get('probes_per_second', '')} "
            f"| {row.get('server_cpu_ms_per_request', '')} ms "
            f"| {row['peak_memory'] // 10**6} MB | {errors or 'none'} |"
        )
    return "\n".join([*lines, "", requests.table(result["costs"])])


def keep(result: dict[str, Any], path: Path) -> None:
    """Write the result, with what the file holds beside it."""
    if path.exists():
        before = json.loads(path.read_text())
        for name, same in (("sizes", ("store", "clients")), ("costs", ("clients", "round"))):
            new = {tuple(row[field] for field in same): row for row in result[name]}
            old = {tuple(row[field] for field in same): row for row in before[name]}
            rows = sorted((old | new).items())  # no two have the same key
            result[name] = [row for _, row in rows]
    path.write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[20, 200, 1000, 2000])
    parser.add_argument(
        "--costs", type=int, nargs="*", default=[20, 200, 1000], help="clients, to count calls for"
    )
    parser.add_argument("--stores", nargs="+", default=["SQLite", "MongoDB"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--largest-cohort", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=150, help="that a size may take")
    parser.add_argument("--note", default="", help="what else the machine does, for the record")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Server({"FL_DATA_DIR": folder, "FL_RATE_PER_SECOND": "0"}) as server,
    ):
        compared = asyncio.run(http.compare(server.url))
    print(compared, flush=True)
    result: dict[str, Any] = {
        **{"machine": machine(), "note": options.note, "workers": WORKERS},
        **{"connections": options.connections, "http_clients": compared},
        **{"sizes": [], "costs": []},
    }
    RESULTS.mkdir(exist_ok=True)
    for store in options.stores:
        for clients in options.clients:
            result["sizes"].append(measure(store, clients, options))
            keep(result, Path(RESULTS, "load.json"))
    result["costs"] += asyncio.run(requests.costs(options.costs))
    keep(result, Path(RESULTS, "load.json"))
    print(tables(result))
    print(f"\n({'; '.join(filter(None, (result['machine'], options.note)))})")


if __name__ == "__main__":
    main()

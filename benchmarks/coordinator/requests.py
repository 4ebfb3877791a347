"""Cold start, polls and uploads of the coordinator beside a bare FastAPI application.

    python -m benchmarks.coordinator.requests [--full]

Cold start: from the start of Python to the first answer of `app.entry.aws_lambda`, as Lambda calls
it. Rates: one uvicorn worker each, the same options and the same load, in turn.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.coordinator.cold import KEY, cold, milliseconds
from benchmarks.load.clients import SAID, Crowd
from benchmarks.load.drove import changed
from benchmarks.load.http import Answer, Pool, pool
from benchmarks.tables import Row, Table, command
from examples.containers import Container

CONNECTIONS = 8
COLD_GOAL = 1.5
Call = Callable[[], Awaitable[Answer]]


class Server(Container):
    """One uvicorn worker, quiet."""

    hidden = ("FL_", "MONGODB_URL")
    application = "app.main:app"

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "uvicorn", self.application, "--port", str(port)),
            *("--log-level", "warning", "--no-access-log"),
        ]


class Bare(Server):
    application = "benchmarks.coordinator.bare:app"


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """The coordinator on SQLite, its log in a file as a service's would be, and the bare one."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("wb") as log:
        settings = {"FL_ADMIN_KEY": KEY, "FL_DATA_DIR": folder, "FL_RATE_PER_SECOND": "1000000"}
        settings["FL_RATE_BURST"] = "1000000"
        with Server(settings, log) as ours, Bare({}, log) as bare:
            yield ours.url, bare.url


async def rate(call: Call, seconds: float) -> float:
    """Requests a second over all connections."""
    until = time.perf_counter() + seconds
    done = 0

    async def several() -> None:
        nonlocal done
        while time.perf_counter() < until:
            answer = await call()
            assert answer.status < 300, answer
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(several() for _ in range(CONNECTIONS)))
    return done / (time.perf_counter() - started)


@dataclass
class Pair:
    """Ours and the peer's figures of one kind, taken in turn."""

    ours: list[float]
    bare: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(a / b for a, b in zip(self.ours, self.bare, strict=True))


async def _experiment(ours: Pool, clients: int) -> Crowd:
    """All of its clients are enrolled, and in the cohort of the round that is open."""
    crowd = Crowd(ours, KEY, clients, clients, 2)
    await crowd.enrol(await crowd.create())
    return crowd


async def polls(ours: Pool, bare: Pool, seconds: float, repeats: int) -> dict[str, Pair]:
    """Status polls, of a client that waits and of one that shall train."""
    crowd = await _experiment(ours, 10)  # as many as are in a round by default
    await crowd._upload(0, crowd.tokens[0], f"/experiments/{crowd.id}", 1)
    path = f"/v1/experiments/{crowd.id}/status"
    found = {"waiting": Pair([], []), "training": Pair([], [])}
    for _ in range(repeats):
        for kind, number in (("waiting", 0), ("training", 1)):
            token = crowd.tokens[number]
            pair = found[kind]
            pair.ours.append(
                await rate(lambda t=token: ours.request("GET", path, t), seconds)  # type: ignore[misc]
            )
            pair.bare.append(
                await rate(lambda k=kind: bare.request("GET", f"/{k}", "x"), seconds)  # type: ignore[misc]
            )
    return found


async def uploads(ours: Pool, bare: Pool, experiments: int, repeats: int) -> dict[str, Pair]:
    """Of an 88 kB model: the one request of the SDK, or a part and the commit of several parts."""
    found = {kind: Pair([], []) for kind in BARE}
    for _ in range(repeats):
        for kinds in (["upload"], ["part", "commit"]):
            clients = [c for _ in range(experiments) for c in await _uploading(ours)]
            for kind in kinds:
                for figures, server in ((found[kind].ours, ours), (found[kind].bare, bare)):
                    seconds = await _each([c.call(server, kind) for c in clients])
                    figures.append(len(clients) / seconds)
    return found


BARE = {"upload": "/part", "part": "/part", "commit": "/commit"}


@dataclass
class Uploading:
    """A client with an update in its hands."""

    ours: Pool
    path: str
    token: str
    data: bytes

    def __post_init__(self) -> None:
        self.sha = hashlib.sha256(self.data).hexdigest()
        commit = {"sha256": self.sha, "parts": [self.sha], "num_examples": 30}
        self.commit = json.dumps(commit | {"metrics": {"loss": 0.5}}).encode()

    def call(self, pool: Pool, kind: str) -> Call:
        """One of these requests, of the coordinator or with the same body of the peer."""
        path = {
            "upload": f"{self.path}?sha256={self.sha}&{SAID}",
            "part": f"{self.path}/parts/0?sha256={self.sha}",
            "commit": self.path,
        }[kind]
        path = path if pool is self.ours else BARE[kind]
        if kind == "commit":
            return lambda: pool.request("POST", path, self.token, self.commit, "json")
        return lambda: pool.request("PUT", path, self.token, self.data, "octet-stream")


async def _uploading(ours: Pool) -> list[Uploading]:
    """Of a new experiment of the default's 20 clients, all but one: the last would aggregate."""
    crowd = await _experiment(ours, 20)
    path = f"/v1/experiments/{crowd.id}/rounds/1/update"
    *tokens, _ = crowd.tokens.items()
    return [Uploading(ours, path, token, changed(crowd._initial, n)) for n, token in tokens]


async def _each(calls: list[Call]) -> float:
    """Seconds that it takes to make all of these calls."""
    waiting = iter(calls)

    async def several() -> None:
        for call in waiting:
            answer = await call()
            assert answer.status < 300, answer

    started = time.perf_counter()
    await asyncio.gather(*(several() for _ in range(CONNECTIONS)))
    return time.perf_counter() - started


async def _rates(full: bool) -> dict[str, Pair]:
    with servers() as (ours, bare):
        async with pool(ours, CONNECTIONS) as one, pool(bare, CONNECTIONS) as other:
            found = await polls(one, other, *((2.0, 9) if full else (1.0, 3)))
            return found | await uploads(one, other, *((20, 9) if full else (10, 3)))


def measure(full: bool) -> Table:
    """Four minutes in full, less than one without."""
    starts = cold(21 if full else 7)
    rates = asyncio.run(_rates(full))
    table = Table(
        "The coordinator",
        f"python -m benchmarks.coordinator.requests{' --full' if full else ''}",
        "bare FastAPI",
    )
    hello = statistics.median(starts["hello"])
    for kind, what in (("health", "cold start, /health"), ("poll", "cold start, a client's poll")):
        ratio = statistics.median(starts[kind]) / hello
        table.rows.append(
            Row(
                *(what, milliseconds(starts[kind]), milliseconds(starts["hello"]), ratio),
                *(f"at most {COLD_GOAL}", ratio <= COLD_GOAL),
            )
        )
    names = {
        "waiting": "polls a second, told to wait",
        "training": "polls a second, told to train",
        "upload": "uploads of 88 kB a second",
        "part": "... of several parts: parts a second",
        "commit": "... commits a second",
    }
    for kind, pair in rates.items():
        ours, bare = (f"{statistics.median(values):,.0f}" for values in (pair.ours, pair.bare))
        table.rows.append(Row(names[kind], ours, bare, pair.ratio))
    table.notes += NOTES
    table.data = {
        "cold_start_seconds": starts,
        "per_second": {kind: {"ours": p.ours, "bare": p.bare} for kind, p in rates.items()},
        "cores": os.cpu_count(),
    }
    return table


NOTES = [
    "Cold start: from the start of Python to the answer of one HTTP API event, each in a process of"
    " its own, in turn; medians. Byte code is compiled beforehand, as the Dockerfile does. The poll"
    " is of a client in a running experiment, with motor against an nx-27017 on this machine: it"
    " connects, makes sure of the indexes and reads. Neither torch nor NumPy nor boto3 is loaded.",
    "Rates: one uvicorn worker each (uvloop, httptools, no access log), 8 connections from one"
    " process, by turns; the ratio is the median of the turns' ratios. Ours is on SQLite with"
    " `synchronous = FULL`, checks tokens, digests and weights, and logs each request to a file."
    " The polls are of a cohort of ten. An upload is what the SDK sends of a model of one part: one"
    " PUT, whose receipt says that it is checked, on the disk and counted. Of larger models it"
    " sends parts and a commit. The peer reads the same bodies and keeps nothing.",
    "The rates have no goal: no user waits for half of a bare FastAPI's rate, and only tricks would"
    " reach it (docs/decisions/0033).",
]


if __name__ == "__main__":
    command(__doc__, lambda full, _: measure(full))

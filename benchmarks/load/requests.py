"""What each kind of request costs the store, for so many clients, and in later rounds.

The application itself in this process, over ASGI, on SQLite. `benchmarks.load.cost` wraps its
store.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from app.config import Settings
from app.main import create_app
from app.service.coordinator import Context, Coordinator, Repository
from app.store.sqlite import open_sqlite
from benchmarks.load.cost import Cost, Meter
from client_sdk.task import model_file, models

KEY = secrets.token_hex(16)
LATER = 20  # the round that is compared with the first one, of the fewest clients


class Federation:
    """An experiment whose requests are counted."""

    def __init__(self, http: httpx.AsyncClient, coordinator: Coordinator, meter: Meter) -> None:
        self.http, self.coordinator, self.meter = http, coordinator, meter
        self.tokens: dict[int, str] = {}
        self.weights = model_file.to_bytes(
            models.build(models.spec_for("mnist-cnn", (1, 28, 28), 10))
        )
        self.sha = hashlib.sha256(self.weights).hexdigest()
        self.path = self.enrolment_key = ""

    async def call(self, method: str, path: str, key: str, **more: Any) -> tuple[Cost, Any]:
        """Raises httpx.HTTPStatusError."""
        self.meter.take()
        headers = {"Authorization": f"Bearer {key}"}
        answer = await self.http.request(method, f"/v1{path}", headers=headers, **more)
        answer.raise_for_status()
        return self.meter.take(), answer.json()

    async def create(self, clients: int) -> None:
        config = {"dataset": "none", "dataset_size": 30 * clients, "model": "mnist-cnn"}
        config |= {"clients": clients, "clients_per_round": clients // 2, "rounds": LATER + 1}  # type: ignore[dict-item]
        _, made = await self.call("POST", "/experiments", KEY, json={"name": "x", "config": config})
        self.path, self.enrolment_key = f"/experiments/{made['id']}", made["enrolment_key"]
        path = f"{self.path}/initial-model"
        await self.call("PUT", f"{path}/parts/0?sha256={self.sha}", KEY, content=self.weights)
        await self.call("POST", path, KEY, json={"sha256": self.sha, "parts": [self.sha]})

    async def subscribe(self) -> Cost:
        body = {"client_key": secrets.token_hex(20)}
        cost, got = await self.call("POST", f"{self.path}/clients", self.enrolment_key, json=body)
        self.tokens[int(got["client_id"].removeprefix("client-"))] = got["token"]
        return cost

    async def status(self, slot: int) -> Cost:
        return (await self.call("GET", f"{self.path}/status", self.tokens[slot]))[0]

    async def upload(self, slot: int, number: int) -> Cost:
        path = f"{self.path}/rounds/{number}/update?sha256={self.sha}&num_examples=1"
        return (await self.call("PUT", path, self.tokens[slot], content=self.weights))[0]

    async def cohort(self, number: int) -> list[int]:
        _, shown = await self.call("GET", f"{self.path}/rounds/{number}", KEY)
        return [int(name.removeprefix("client-")) for name in shown["cohort"]]

    async def round(self, number: int) -> dict[str, Cost]:
        """The costs while it collects, nearly all updates being in where that may matter."""
        cohort = await self.cohort(number)
        *most, last = cohort
        outside = next(slot for slot in self.tokens if slot not in cohort)
        uploads = [await self.upload(slot, number) for slot in most]
        whole = sum(uploads, Cost())
        found = {
            "status: train": await self.status(last),
            "status: update is in": await self.status(most[0]),
            "status: not in the cohort": await self.status(outside),
            "upload, on average": Cost(
                round(whole.calls / len(uploads)), round(whole.rows / len(uploads))
            ),
            "upload, the dearest": max(uploads, key=lambda cost: cost.rows),
            "GET experiment": (await self.call("GET", self.path, KEY))[0],
            "GET round": (await self.call("GET", f"{self.path}/rounds/{number}", KEY))[0],
        }
        self.meter.take()
        await self.coordinator.tick()
        found["tick"] = self.meter.take()
        found["upload that closes the round"] = await self.upload(last, number)
        return found


async def measure(clients: int, numbers: Iterable[int]) -> list[dict[str, Any]]:
    """A row for each of these rounds."""
    meter, rows = Meter(), []
    with tempfile.TemporaryDirectory() as folder:
        documents, blobs = await open_sqlite(Path(folder, "db"))
        context = Context(
            repo=Repository(meter.wrap(documents)),
            blobs=meter.wrap(blobs),
            jitter=lambda: 0.5,  # no poll is drawn to look at the whole cohort: one in so many is
        )
        app = create_app(Settings(admin_key=KEY, rate_per_second=0))
        app.state.admin_key, app.state.coordinator = KEY, Coordinator(context, KEY)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            federation = Federation(http, app.state.coordinator, meter)
            await federation.create(clients)
            joining = [await federation.subscribe() for _ in range(clients - 1)]
            enrolling = {"subscribe": joining[-1], "status: enrolling": await federation.status(0)}
            await federation.subscribe()
            for number in numbers:
                costs = {**(enrolling if number == 1 else {}), **await federation.round(number)}
                rows.append({"clients": clients, "round": number, "costs": costs})
        await documents.close()
    return rows


async def costs(sizes: Iterable[int]) -> list[dict[str, Any]]:
    """For each number of clients in round 1, and for the first one in round 20 too."""
    found = []
    for place, clients in enumerate(sizes):
        rows = await measure(clients, range(1, 2 if place else LATER + 1))
        found += [row for row in rows if row["round"] in (1, LATER)]
        print(f"costs of {clients} clients counted", flush=True)
    for row in found:
        row["costs"] = {kind: [c.calls, c.rows] for kind, c in row["costs"].items()}
    return found


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Calls of the store / rows that they read or write, by kind of request."""
    rows = list(rows)
    if not rows:
        return ""
    heads = [f"{row['clients']:,} clients, round {row['round']}" for row in rows]
    lines = [f"| calls / rows | {' | '.join(heads)} |", "|---|" + "---:|" * len(rows)]
    for kind in rows[0]["costs"]:
        cells = [row["costs"].get(kind) for row in rows]
        shown = ["{} / {}".format(*cell) if cell else "" for cell in cells]
        lines.append(f"| {kind} | {' | '.join(shown)} |")
    return "\n".join(lines)

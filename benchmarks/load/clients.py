"""Clients that train nothing: each does over HTTP what a real one does, with real weights.

They ask for their status as often as they are told to, download the model of a round that they are
in, and upload an update of their own: the model, a little changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load.drove import changed
from benchmarks.load.http import Answer, Pool, Seen
from client_sdk.task import model_file, models
from serverless_fl.wire.config import ExperimentConfig

SAID = "num_examples=30&metrics=%7B%22loss%22:0.5%7D"  # of an update, beside its digest
PROBES, PROBES_AT_ONCE = 1000, 8


def initial_weights() -> bytes:
    """The default network for MNIST, as the SDK makes it."""
    return model_file.to_bytes(models.build(models.spec_for("mnist-cnn", (1, 28, 28), 10), 0))


def settings_of(clients: int, cohort: int, rounds: int) -> ExperimentConfig:
    """The settings of an experiment under load."""
    return ExperimentConfig(
        **{"dataset": "none", "dataset_size": 30 * clients, "model": "mnist-cnn"},
        **{"clients": clients, "clients_per_round": cohort},
        **{"rounds": rounds, "deadline_seconds": 3600.0},
    )


@dataclass
class Crowd(Seen):
    """N clients of one experiment, over one pool of connections, and what was seen of them."""

    pool: Pool
    admin_key: str
    clients: int
    cohort: int
    rounds: int
    id: str = ""
    state: str = ""
    tokens: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._initial = initial_weights()
        self._uploads: Counter[int] = Counter()  # of each round
        self._held = False  # somebody keeps back the last update of the last round
        self._nearly_full, self._probed = asyncio.Event(), asyncio.Event()
        self._go = asyncio.Event()  # all wait while the probes are taken
        self._go.set()

    async def call(
        self, what: str, method: str, path: str, key: str, body: Any = None
    ) -> Answer | None:
        """None where it was refused, which is counted; a broken connection or a busy server is
        tried again.
        """
        raw = isinstance(body, bytes)
        data = body if raw else json.dumps(body).encode() if body is not None else b""
        kind = "octet-stream" if raw else "json"
        answer = await self.ask(
            what, lambda: self.pool.request(method, f"/v1{path}", key, data, kind)
        )
        return answer if answer.status < 300 else None

    async def create(self) -> str:
        """Gives the enrolment key."""
        config = settings_of(self.clients, self.cohort, self.rounds)
        asked = {"name": f"load of {self.clients}", "config": config.model_dump()}
        made = await self.call("create", "POST", "/experiments", self.admin_key, asked)
        assert made, self.errors
        self.id, path = made.json()["id"], f"/experiments/{made.json()['id']}/initial-model"
        sha = hashlib.sha256(self._initial).hexdigest()
        part = f"{path}/parts/0?sha256={sha}"
        await self.call("initial part", "PUT", part, self.admin_key, self._initial)
        commit = {"sha256": sha, "parts": [sha]}
        assert await self.call("initial commit", "POST", path, self.admin_key, commit), self.errors
        key: str = made.json()["enrolment_key"]
        return key

    async def enrol(self, key: str) -> float:
        """All at once, as far as the connections go; gives the seconds that it took."""

        async def one(number: int) -> None:
            body = {"client_key": secrets.token_hex(20), "name": f"c{number}"}
            path = f"/experiments/{self.id}/clients"
            if answer := await self.call("subscribe", "POST", path, key, body):
                self.tokens[number] = answer.json()["token"]

        started = time.perf_counter()
        await asyncio.gather(*(one(n) for n in range(self.clients)))
        return time.perf_counter() - started

    async def train(self) -> None:
        """All rounds; in the last one, all but one updates in, the probes are taken."""
        await asyncio.gather(self._probe(), *(self._live(n) for n in self.tokens))

    async def _live(self, number: int) -> None:
        token, path = self.tokens[number], f"/experiments/{self.id}"
        await asyncio.sleep(number / self.clients)  # nobody's clients all start at one moment
        while True:
            await self._go.wait()
            answer = await self.call("status", "GET", f"{path}/status", token)
            if answer is None:
                return
            turn = answer.json()
            if turn["action"] == "done":
                self.state = turn["state"]
                return
            if turn["action"] == "wait":
                await asyncio.sleep(turn["retry_after"])
                continue
            if turn["round"] == self.rounds and not self._held:
                self._held = True
                await self._probed.wait()
            await self._upload(number, token, path, turn["round"])

    async def _upload(self, number: int, token: str, path: str, round_: int) -> None:
        model = await self.call("download", "GET", f"{path}/models/{round_ - 1}", token)
        if model is None:
            return
        data = changed(model.body, number)
        sha = hashlib.sha256(data).hexdigest()
        path = f"{path}/rounds/{round_}/update?sha256={sha}&{SAID}"
        await self.call("upload", "PUT", path, token, data)
        self._uploads[round_] += 1
        if (round_, self._uploads[round_]) == (self.rounds, self.cohort - 1):
            self._nearly_full.set()

    async def _probe(self) -> None:
        """Polls, so many at a time whatever the number of clients: their times can be compared."""
        await self._nearly_full.wait()
        self._go.clear()
        await asyncio.sleep(1)
        tokens = iter([*self.tokens.values()] * (PROBES // len(self.tokens) + 1))

        async def several() -> None:
            for _ in range(PROBES // PROBES_AT_ONCE):
                await self.call("probe", "GET", f"/experiments/{self.id}/status", next(tokens))

        started = time.perf_counter()
        await asyncio.gather(*(several() for _ in range(PROBES_AT_ONCE)))
        self.seconds["all probes"] = [time.perf_counter() - started]
        self._go.set()
        self._probed.set()


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Cancel what takes longer, and go on."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        pass

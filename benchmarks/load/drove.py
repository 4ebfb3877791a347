"""A load process of `benchmarks.load.scale`: some of its clients, which train nothing.

It reads what it has to do as JSON from standard input, and writes what it saw to standard output.
It imports little, because each process of many clients would else bring PyTorch.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.load.http import Answer, Pool, Seen
from serverless_fl.weights.header import header_length

LONGEST_HOLD = 20  # seconds


def changed(weights: bytes, number: int) -> bytes:
    """The same file with every value moved a little."""
    start = header_length(weights[:8])
    values = np.frombuffer(weights, np.float32, offset=start) + np.float32(1e-4 * (number % 7 - 3))
    values[0] = number  # no two files are the same
    return weights[:start] + values.tobytes()


@dataclass
class Drove(Seen):
    """The clients of one load process, and what was seen of them."""

    urls: list[str]
    bucket: str
    experiment: str
    key: str
    first: int
    last: int  # not among them
    told: list[tuple[int, float]] = field(default_factory=list)  # rounds, and seconds since 1970
    held: int = 0  # requests that the coordinator held back

    async def run(self) -> None:
        """Enrol all clients, and take part to the end."""
        numbers = range(self.first, self.last)
        size = len(numbers)
        self._pools = itertools.cycle([Pool(url, size) for url in self.urls])
        self._bucket = Pool(self.bucket, 64)
        at_once = asyncio.Semaphore(64)
        tokens: dict[int, str] = {}

        async def enrol(number: int) -> None:
            async with at_once:
                body = {"client_key": secrets.token_hex(20), "name": f"c{number}"}
                answer = await self.call("subscribe", "POST", "/clients", self.key, body)
                tokens[number] = answer.json()["token"]

        await asyncio.gather(*(enrol(number) for number in numbers))
        await asyncio.gather(*(self._live(*client) for client in tokens.items()))

    async def call(self, what: str, method: str, path: str, key: str, body: Any = None) -> Answer:
        """A request to the next coordinator, until it succeeds; what fails is counted."""
        data = b"" if body is None else json.dumps(body).encode()
        path = f"/v1/experiments/{self.experiment}{path}"
        return await self._try(what, lambda: next(self._pools).request(method, path, key, data))

    async def _try(self, what: str, send: Callable[[], Awaitable[Answer]]) -> Answer:
        answer = await self.ask(what, send, busy=(429, 500, 503))
        if answer.status >= 300:
            raise RuntimeError(f"{what}: {answer.status} {answer.body[:300]!r}")
        return answer

    async def _live(self, number: int, token: str) -> None:
        query, what, pause = "", "status", 0.0
        while True:
            turn = (await self.call(what, "GET", f"/status{query}", token)).json()
            query, what, pause = "", "status", 0.0
            match turn["action"]:
                case "done":
                    return
                case "train":
                    self.told.append((turn["round"], time.time()))
                    await self._take_part(number, token, turn)
                case "wait" if turn["hold"] >= 1:
                    seconds = min(LONGEST_HOLD, int(turn["hold"]))
                    query, what = f"?wait={seconds}&round={turn['round']}", "held"
                    self.held += 1
                case _:
                    pause = turn["retry_after"]
            await asyncio.sleep(pause)

    async def _take_part(self, number: int, token: str, turn: dict[str, Any]) -> None:
        version, place = turn["base_version"], f"/rounds/{turn['round']}/update"
        listed = await self.call("parts", "GET", f"/models/{version}/parts", token)
        (part,) = listed.json()
        model = await self._signed("download", "GET", part["url"])
        data = changed(model.body, number)
        sha = hashlib.sha256(data).hexdigest()
        started = time.perf_counter()
        announced = {"parts": [{"number": 0, "sha256": sha, "size": len(data)}]}
        planned = await self.call("announce", "POST", f"{place}/parts", token, announced)
        upload = planned.json()[0]["upload"]
        await self._signed("put", "PUT", upload["url"], data, upload["headers"])
        commit = {"sha256": sha, "parts": [sha], "num_examples": 30, "metrics": {"loss": 0.5}}
        await self.call("commit", "POST", place, token, commit)
        self.seconds["upload"].append(time.perf_counter() - started)

    async def _signed(
        self, what: str, method: str, url: str, body: bytes = b"", headers: Any = None
    ) -> Answer:
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}"
        return await self._try(
            what, lambda: self._bucket.request(method, path, "", body, headers=headers)
        )


def main() -> None:
    drove = Drove(**json.load(sys.stdin))
    asyncio.run(drove.run())
    times = os.times()
    seen = {"seconds": drove.seconds, "errors": drove.errors, "told": drove.told}
    seen |= {"requests": drove.requests, "held": drove.held, "cpu": times.user + times.system}
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()

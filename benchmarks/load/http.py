"""An HTTP/1.1 client that costs little, so that it is the server that is measured.

httpx takes several times as much of the processor for a request as this does (`compare` measures
it), and on a machine of a few cores that is taken from the server. It knows what the coordinator
answers with: a Content-Length, and connections that stay open.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

IDLE_SECONDS = 3.0  # uvicorn closes a connection that nobody used for five


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    seconds: float  # from the first byte sent on a free connection to the last one received

    def json(self) -> Any:
        return json.loads(self.body)


class Pool:
    """So many connections to one server at most; who finds none waits for one."""

    def __init__(self, url: str, size: int) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self.host, self.port = parts.hostname, parts.port
        self._free: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)

    async def request(
        self,
        method: str,
        path: str,
        key: str = "",
        body: bytes = b"",
        kind: str = "json",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Raises OSError, asyncio.IncompleteReadError where the connection breaks."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        if key:
            head += f"Authorization: Bearer {key}\r\n"
        if body:
            own = headers or {"Content-Type": f"application/{kind}"}
            own = {**own, "Content-Length": str(len(body))}
            head += "".join(f"{name}: {value}\r\n" for name, value in own.items())
        connection = await self._free.get()
        if connection is not None and time.perf_counter() - connection.used_at > IDLE_SECONDS:
            connection.writer.close()
            connection = None
        try:
            if connection is None:
                connection = Connection(*await asyncio.open_connection(self.host, self.port))
            started = time.perf_counter()
            connection.writer.write(head.encode() + b"\r\n" + body)
            await connection.writer.drain()
            status, data, stays = await connection.answer()
            seconds = time.perf_counter() - started
        except BaseException:
            if connection is not None:
                connection.writer.close()
            self._free.put_nowait(None)
            raise
        if not stays:
            connection.writer.close()
        connection.used_at = time.perf_counter()
        self._free.put_nowait(connection if stays else None)
        return Answer(status, data, seconds)

    async def close(self) -> None:
        while not self._free.empty():
            if connection := self._free.get_nowait():
                connection.writer.close()


@dataclass(kw_only=True)
class Seen:
    """What clients have seen of their requests."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[str] = field(default_factory=Counter)
    requests: int = 0

    async def ask(
        self, what: str, send: Callable[[], Awaitable[Answer]], busy: Collection[int] = (429, 503)
    ) -> Answer:
        """Send a request, again while the connection breaks or the server is busy; gives the
        answer, which may be a refusal. What fails is counted.
        """
        while True:
            try:
                answer = await send()
            except (OSError, asyncio.IncompleteReadError) as error:
                self.errors[f"{what}: {type(error).__name__}"] += 1
            else:
                self.requests += 1
                if answer.status < 300:
                    self.seconds[what].append(answer.seconds)
                    return answer
                code = ""
                with suppress(ValueError):  # a bucket's is XML
                    code = answer.json().get("code", "")
                self.errors[f"{what}: {answer.status} {code}"] += 1
                if answer.status not in busy:
                    return answer
            await asyncio.sleep(1)


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used_at: float = math.inf

    async def answer(self) -> tuple[int, bytes, bool]:
        """Status, body, and whether the connection stays open."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        first, *lines = head.splitlines()
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        size = int(headers["content-length"])
        body = await self.reader.readexactly(size)
        return int(first.split(" ")[1]), body, headers.get("connection") != "close"


@asynccontextmanager
async def pool(url: str, size: int) -> AsyncIterator[Pool]:
    made = Pool(url, size)
    try:
        yield made
    finally:
        await made.close()


async def compare(url: str, requests: int = 1000, at_once: int = 8) -> dict[str, dict[str, float]]:
    """What a request of /health costs this process, through httpx and through `Pool`."""

    async def measure(get: Callable[[], Awaitable[object]]) -> dict[str, float]:
        async def several() -> None:
            for _ in range(requests // at_once):
                await get()

        await get()
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(several() for _ in range(at_once)))
        done = requests // at_once * at_once
        return {
            "requests_per_second": round(done / (time.perf_counter() - started)),
            "client_cpu_ms": round(1000 * (time.process_time() - cpu) / done, 3),
        }

    async with httpx.AsyncClient(base_url=url) as client, pool(url, at_once) as raw:
        return {
            "httpx": await measure(lambda: client.get("/health")),
            "raw asyncio": await measure(lambda: raw.request("GET", "/health")),
        }

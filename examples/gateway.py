"""The part that the platforms' gateways share: plain HTTP in front of a pool of containers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclass(frozen=True)
class Call:
    """An HTTP request as a gateway sees it. `path` and `query` are not decoded."""

    method: str
    path: str
    query: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    caller: str = "127.0.0.1"

    @classmethod
    async def of(cls, request: Request) -> Call:
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        return cls(
            method=request.method,
            path=request.scope["raw_path"].decode(),
            query=request.scope["query_string"].decode(),
            headers=headers,
            body=await request.body(),
            caller=request.client.host if request.client else "127.0.0.1",
        )


class Pool:
    """A pool of containers. Each takes one invocation at a time, as on the real platform.

    `urls` are the containers' URLs for invocations; `timeout` is in seconds.
    """

    def __init__(self, urls: Sequence[str], timeout: float) -> None:
        self._free: asyncio.Queue[str] = asyncio.Queue()
        for url in urls:
            self._free.put_nowait(url)
        self.http = httpx.AsyncClient(timeout=timeout, trust_env=False)

    async def invoke(self, payload: bytes) -> httpx.Response:
        url = await self._free.get()
        try:
            headers = {"Content-Type": "application/json"}
            return await self.http.post(url, content=payload, headers=headers)
        finally:
            self._free.put_nowait(url)


Forward = Callable[[Call, Pool], Awaitable[Response]]


def gateway(urls: Sequence[str], forward: Forward, *, timeout: float) -> Starlette:
    """Make an application that gives every request to `forward`."""

    async def endpoint(request: Request) -> Response:
        return await forward(await Call.of(request), request.app.state.pool)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.pool = Pool(urls, timeout)
        async with app.state.pool.http:
            yield

    return Starlette(routes=[Route("/{path:path}", endpoint, methods=METHODS)], lifespan=lifespan)

"""One caller's connection to a coordinator: retries, errors, and bodies as models.

Every call of the API may be repeated without harm, so all of them are retried: on connection
errors, on 429 and on 5xx, with exponential backoff and full jitter (Brooker, "Exponential Backoff
and Jitter", AWS Architecture Blog, 2015), and never before the server's Retry-After.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.wire.schema import Problem
from client_sdk import errors
from client_sdk.transport import exchange, pick

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
MAX_CONNECTIONS = 64  # of all callers that share one
MAX_BUSY = 16  # requests under way at once
MAX_HELD = 32  # of the connections may be waiting for an answer that the coordinator holds back
_RETRIED = frozenset({429, 500, 502, 503, 504})
_SIZE = 1024  # bytes; sizes of requests are kept as rounded up to it
_DURATION = re.compile(r"(?:^|,)\s*total\s*;[^,]*?\bdur=\"?([0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class Retry:
    """How long to go on trying. All in seconds."""

    give_up_after: float = 300.0
    first_pause: float = 0.2
    longest_pause: float = 10.0


@dataclass
class Traffic:
    """Bytes of bodies moved by a client and those that share its connections.

    `api_requests` and `api_seconds` leave out what went to a blob store by signed URLs; the
    seconds are the coordinator's own (Server-Timing) where it gave them for every request, else
    those until the answer was here.
    """

    sent: int = 0
    received: int = 0
    requests: int = 0
    retries: int = 0
    api_requests: int = 0
    wall_seconds: float = 0.0
    server_seconds: float = 0.0
    timed: int = 0
    sizes: Counter[int] = field(default_factory=Counter)

    def add(self, sent: int, received: int) -> None:
        self.requests += 1
        self.sent += sent
        self.received += received

    def add_api(self, response: httpx.Response, bytes_moved: int, seconds: float) -> None:
        self.api_requests += 1
        self.wall_seconds += seconds
        self.sizes[-(-bytes_moved // _SIZE)] += 1
        own = _server_seconds(response)
        if own is not None:
            self.timed += 1
            self.server_seconds += own

    @property
    def timed_by_server(self) -> bool:
        return 0 < self.timed == self.api_requests

    @property
    def api_seconds(self) -> float:
        return self.server_seconds if self.timed_by_server else self.wall_seconds

    def metered_calls(self, unit: int) -> int:
        """Requests of the API, each counted anew for every `unit` bytes that it moved."""
        return sum(max(1, -(-size * _SIZE // unit)) * n for size, n in self.sizes.items())


class Connection:
    """The machinery below `client_sdk.client.CoordinatorClient`, which has the arguments."""

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        *,
        retry: Retry | None = None,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise ValueError(f"{base_url!r} is no http:// or https:// address")
        self.base_url = base_url.rstrip("/")
        self.retry = retry or Retry()
        self.traffic = Traffic()
        self._key = key
        self._on_retry = on_retry or (lambda message: None)
        self._timeout = timeout
        # An answer that is held back keeps a connection; others must find one all the same.
        self.holding = asyncio.Semaphore(MAX_HELD)
        self._busy = asyncio.Semaphore(MAX_BUSY)  # more would only wait for each other's answers
        # A proxy from the environment is for the outside, never for this machine itself.
        outside = urlsplit(base_url).hostname not in ("127.0.0.1", "::1", "localhost")
        self._transport = transport or pick(MAX_CONNECTIONS, trust_env=outside)
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=httpx.Timeout(timeout, connect=10.0),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=32),
            transport=self._transport,
            trust_env=outside,
        )
        self._headers = dict(self._http.headers)

    def using(self, key: str) -> Self:
        """Another caller over the same connections; closing the first closes both."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._key = key
        return other

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def _json(
        self,
        model: type[M],
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        headers: dict[str, str] | None = None,
    ) -> M:
        adapter: TypeAdapter[M] = _adapter(model)
        if body is None:
            return parse(adapter, await self.request(method, path, headers=headers))
        return parse(adapter, await self.post(path, body, headers=headers))

    async def post(
        self, path: str, body: BaseModel, *, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """POST a body as JSON. Raises as `request` does."""
        sent = {**(headers or {}), "Content-Type": "application/json"}
        return await self.request(
            "POST", path, content=body.model_dump_json().encode(), headers=sent
        )

    async def request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """One call of the API with its retries; with `held=True` the answer may be held back.

        Raises RequestRefused, CoordinatorUnreachable.
        """
        sent = dict(headers or {})
        if self._key is not None:
            sent["Authorization"] = f"Bearer {self._key}"
        return await self._retried(
            self.base_url, _refusal, method, f"{self.base_url}/v1{path}", headers=sent, **options
        )

    async def direct(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        content: bytes = b"",
        fine: Collection[int] = (),
    ) -> httpx.Response:
        """One call by a signed URL, which no key of ours goes with; statuses in `fine` are good.

        Raises DirectRefused, CoordinatorUnreachable.
        """
        host = urlsplit(url).hostname or ""
        return await self._retried(
            host,
            lambda response: errors.DirectRefused(
                response.status_code, "direct", f"{host} answered {response.status_code}"
            ),
            method,
            url,
            fine=fine,
            headers=headers,
            content=content or None,
        )

    async def _retried(
        self,
        whom: str,
        refusal: Callable[[httpx.Response], errors.RequestRefused],
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
        timeout: httpx.Timeout | None = None,
        fine: Collection[int] = (),
        held: bool = False,
    ) -> httpx.Response:
        gate = contextlib.nullcontext() if held else self._busy
        # As `httpx.AsyncClient.build_request` does, which takes several times as long.
        request = httpx.Request(
            method,
            url,
            params=params,
            headers={**self._headers, **{k.lower(): v for k, v in (headers or {}).items()}},
            content=content,
            extensions={"timeout": (timeout or self._http.timeout).as_dict()},
        )
        started, pause = time.monotonic(), self.retry.first_pause
        while True:
            least, asked = 0.0, time.monotonic()
            try:
                async with gate:
                    response = await exchange(self._http, self._transport, request)
            except httpx.RequestError as error:  # also an answer that cannot be decoded
                fault: Exception = errors.CoordinatorUnreachable(
                    f"{whom} did not answer: {str(error) or type(error).__name__}"
                )
            else:
                sent, received = len(content or b""), len(response.content)
                self.traffic.add(sent, received)
                if whom == self.base_url:
                    self.traffic.add_api(response, sent + received, time.monotonic() - asked)
                if response.is_success or response.status_code in fine:
                    return response
                fault = refusal(response)
                if response.status_code not in _RETRIED:
                    raise fault
                least = _retry_after(response)
            wait = max(least, random.uniform(0, pause))  # noqa: S311  (spreads retries, no secret)  # nosec B311
            pause = min(2 * pause, self.retry.longest_pause)
            if time.monotonic() - started + wait > self.retry.give_up_after:
                raise fault
            self.traffic.retries += 1
            self._on_retry(f"{fault}; trying again in {wait:.1f} s")
            await asyncio.sleep(wait)


_adapter = cache(TypeAdapter)  # building one costs more than a call of it


def parse(adapter: TypeAdapter[T], response: httpx.Response) -> T:
    try:
        return adapter.validate_json(response.content)
    except ValidationError as error:
        raise errors.ClientError(
            f"{response.url}: the answer is not a coordinator's of this version: {error}"
        ) from error


def _refusal(response: httpx.Response) -> errors.RequestRefused:
    kind = {
        401: errors.NotAuthorised,
        403: errors.NotAuthorised,
        404: errors.NotThere,
        409: errors.StateConflict,
    }.get(response.status_code, errors.RequestRefused)
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        text = response.text.strip()[:200] or response.reason_phrase
        return kind(response.status_code, "unknown", f"HTTP {response.status_code}: {text}")
    return kind(response.status_code, problem.code, problem.detail)


def _server_seconds(response: httpx.Response) -> float | None:
    """What the coordinator says that it worked (Server-Timing's `total`, in milliseconds)."""
    found = _DURATION.search(response.headers.get("server-timing", ""))
    return float(found[1]) / 1000 if found else None


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks for (RFC 9110, section 10.2.3), at most five minutes."""
    value = response.headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return min(float(value), 300.0)
    moment = email.utils.parsedate_tz(value)
    return min(max(email.utils.mktime_tz(moment) - time.time(), 0.0), 300.0) if moment else 0.0

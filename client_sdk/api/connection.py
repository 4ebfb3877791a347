"""One caller's connection to a coordinator: retries, errors, and bodies as models.

A repeated call of the API does no harm, so the connection retries every call: on connection errors,
on 429 and on 5xx, with exponential backoff and full jitter (Brooker, "Exponential Backoff and
Jitter", AWS Architecture Blog, 2015), and never before the server's Retry-After. It does not retry
after an error that no further try can mend, or after an answer that is longer than it may be.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from client_sdk import errors
from client_sdk.api import address, faults
from client_sdk.api.answers import (
    ANSWER_BYTES,
    MODEL_BYTES,
    PROBLEM_BYTES,
    parse,
    read_body,
    retry_after,
)
from client_sdk.api.signed_urls import require_signed
from client_sdk.api.traffic import Traffic
from client_sdk.api.transport import Transport, without_login
from serverless_fl import tracing

M = TypeVar("M", bound=BaseModel)
MAX_CONNECTIONS = 64  # of all callers that share one
MAX_BUSY = 16  # requests under way at once; more would only wait for each other's answers
FIRST_SECONDS = 10.0  # of tries at an address that has never answered
CONNECT_SECONDS = 10.0
LEAST_CONNECT_SECONDS = 0.1  # of the last try, where next to nothing is left
_RETRIED = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Retry:
    """How long to go on trying. All in seconds."""

    give_up_after: float = 300.0
    first_pause: float = 0.2
    longest_pause: float = 10.0


class ConnectionOptions(TypedDict, total=False):
    """The optional arguments of a `Connection`."""

    retry: Retry | None
    timeout: float
    transport: httpx.AsyncBaseTransport | None
    on_retry: Callable[[str], None] | None
    most_model_bytes: int
    certificate: tuple[Path, Path] | None


@dataclass(frozen=True)
class _Call:
    """A request and how to judge its answer."""

    request: httpx.Request
    limits: Mapping[str, float | None]  # seconds
    server: str  # the coordinator's address, or a blob store's host
    refusal: Callable[[httpx.Response], errors.RequestRefused]
    fine: Collection[int]  # statuses that are good although they are errors
    held: bool  # the coordinator may hold the answer back
    most: int  # bytes of the answer


@dataclass(frozen=True)
class _Failure:
    """An error that a further try may mend, not before `least` seconds have passed."""

    error: Exception
    least: float = 0.0


class Connection:
    """Sends requests to the coordinator at `base_url` with one caller's key.

    `timeout` is in seconds, for each read and write of a request. `transport` replaces the network
    in tests. `on_retry` gets a sentence before each further try. A model of more than
    `most_model_bytes` is not downloaded. `certificate` names the files (PEM) of the client
    certificate and of its key, for a proxy that asks for one. Raises BadSettings where the address,
    the key, the certificate or a variable of the environment cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        *,
        retry: Retry | None = None,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
        on_retry: Callable[[str], None] | None = None,
        most_model_bytes: int = MODEL_BYTES,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.base_url = address.checked(base_url)
        self.retry = retry or Retry()
        self.traffic = Traffic()
        self.most_model_bytes = most_model_bytes
        self.key = None if key is None else _sendable(key)
        self.timeout = timeout
        self._on_retry = on_retry or (lambda message: None)
        self._busy = asyncio.Semaphore(MAX_BUSY)
        self._answered: set[str] = set()  # addresses; all callers of this connection share it
        self._transport = transport or Transport.from_environment(
            MAX_CONNECTIONS, self.base_url, certificate
        )
        self.http = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS),
            transport=self._transport,
            trust_env=False,  # the transport has read the environment
        )

    def using(self, key: str) -> Self:
        """Give another caller over the same connections; closing the first closes both."""
        other = copy.copy(self)
        other.key = _sendable(key)
        return other

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def call(
        self,
        model: type[M],
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        headers: dict[str, str] | None = None,
    ) -> M:
        """Make one call of the API, with a body as JSON; gives the answer as `model`.

        Raises as `request` does.
        """
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
        """Make one call of the API, with retries.

        With `held=True` the coordinator may hold the answer back. The answer may have no more than
        `most` bytes. Raises RequestRefused, CoordinatorUnreachable, BadAnswer.
        """
        sent = {**(headers or {}), **tracing.headers()}
        if self.key is not None:
            sent["Authorization"] = f"Bearer {self.key}"
        return await self._retried(
            self.base_url,
            faults.refusal,
            method,
            f"{self.base_url}/v1{path}",
            headers=sent,
            **options,
        )

    async def direct(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        content: bytes = b"",
        fine: Collection[int] = (),
        most: int = PROBLEM_BYTES,
    ) -> httpx.Response:
        """Make one call by a signed URL, without this caller's key; statuses in `fine` are good.

        Raises DirectRefused, CoordinatorUnreachable, BadAnswer.
        """
        require_signed(url, headers or {}, self.base_url)
        return await self._retried(
            httpx.URL(url).host,
            faults.direct_refusal,
            method,
            url,
            fine=fine,
            headers=headers,
            content=content or None,
            most=most,
        )

    async def _retried(
        self,
        server: str,
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
        most: int = ANSWER_BYTES,
    ) -> httpx.Response:
        # Answers come as they are: a few bytes of gzip can stand for gigabytes.
        sent_headers = {"Accept-Encoding": "identity", **(headers or {})}
        request = self.http.build_request(
            method, url, params=params, headers=sent_headers, content=content
        )
        limits = (timeout or self.http.timeout).as_dict()
        call = _Call(request, limits, server, refusal, fine, held, most)
        started, pause = time.monotonic(), self.retry.first_pause
        while True:
            left = self._give_up_after(server) - (time.monotonic() - started)
            found = await self._try_once(call, left)
            if isinstance(found, httpx.Response):
                return found
            wait = max(found.least, random.uniform(0, pause))  # noqa: S311  (spreads retries, no secret)  # nosec B311
            pause = min(2 * pause, self.retry.longest_pause)
            if time.monotonic() - started + wait > self._give_up_after(server):
                raise found.error
            self.traffic.retries += 1
            self._on_retry(f"{found.error}; trying again in {wait:.1f} s")
            await asyncio.sleep(wait)

    async def _try_once(self, call: _Call, left: float) -> httpx.Response | _Failure:
        """Send the request; `left` is how many seconds remain for tries.

        Raises an error that no further try can mend.
        """
        request, server, asked = call.request, call.server, time.monotonic()
        connect = CONNECT_SECONDS
        if server not in self._answered:
            connect = max(min(CONNECT_SECONDS, left), LEAST_CONNECT_SECONDS)
        request.extensions["timeout"] = {**call.limits, "connect": connect}
        try:
            async with contextlib.nullcontext() if call.held else self._busy:
                response = await self._exchange(request, call.most)
        except httpx.RequestError as error:
            about = f"{server}{self._proxied(request)}"
            if why := faults.permanent(error):
                raise errors.CoordinatorUnreachable(f"{about}: {why}.") from error
            hint = faults.hint(error, request) if server not in self._answered else ""
            sentence = f"{about} did not answer: {faults.reason(error)}{hint}"
            return _Failure(errors.CoordinatorUnreachable(sentence))
        self._answered.add(server)
        self._count(call, response, time.monotonic() - asked)
        if response.is_success or response.status_code in call.fine:
            return response
        refused = call.refusal(response)
        if response.status_code not in _RETRIED:
            raise refused
        return _Failure(refused, retry_after(response))

    def _count(self, call: _Call, response: httpx.Response, seconds: float) -> None:
        sent, received = len(call.request.content), len(response.content)
        self.traffic.add(sent, received)
        if call.server == self.base_url:
            self.traffic.add_api(response, sent + received, seconds)

    def _give_up_after(self, server: str) -> float:
        """Seconds of tries. An address that never answered is likelier wrong than one that did."""
        most = self.retry.give_up_after
        return most if server in self._answered else min(most, FIRST_SECONDS)

    def _proxied(self, request: httpx.Request) -> str:
        """The proxy of a request, for messages: the fault may be its own."""
        found = isinstance(self._transport, Transport) and self._transport.proxy_of(request.url)
        return f" (through the proxy {without_login(found)})" if found else ""

    async def _exchange(self, request: httpx.Request, most: int) -> httpx.Response:
        """Send a request and read the whole body, of `most` bytes at most. Raises BadAnswer.

        The transport does it, not httpx's own `send`, which would keep a stranger's cookies and try
        for ever where a redirect leads to no valid address.
        """
        response = await self._transport.handle_async_request(request)
        response.request = request
        try:
            body = await read_body(response, most)
        finally:
            await response.aclose()
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            content=body,
            request=request,
            extensions=response.extensions,
        )


def _sendable(key: str) -> str:
    """A key without the line end that a secret's file brings. Raises BadSettings."""
    key = key.strip()
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise errors.BadSettings(
            "The key cannot be one: it is empty, or it holds spaces or other characters than "
            "ASCII's. Copy it again."
        )
    return key


_adapter = cache(TypeAdapter)  # building one costs more than a call of it

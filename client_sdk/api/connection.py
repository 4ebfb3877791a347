"""One caller's connection to a coordinator: retries, errors, and bodies as models.

Every call of the API may be repeated without harm, so all of them are retried: on connection
errors, on 429 and on 5xx, with exponential backoff and full jitter (Brooker, "Exponential Backoff
and Jitter", AWS Architecture Blog, 2015), and never before the server's Retry-After. A fault that
no further try can mend is raised at once, and so is an answer that is longer than it may be.
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
from typing import Any, Self, TypeVar

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
from client_sdk.api.signed import require_signed
from client_sdk.api.traffic import Traffic
from client_sdk.api.transport import Transport, without_login

M = TypeVar("M", bound=BaseModel)
MAX_CONNECTIONS = 64  # of all callers that share one
MAX_BUSY = 16  # requests under way at once
FIRST_SECONDS = 10.0  # of trying to reach an address that has never answered
CONNECT_SECONDS = 10.0
_RETRIED = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Retry:
    """How long to go on trying. All in seconds."""

    give_up_after: float = 300.0
    first_pause: float = 0.2
    longest_pause: float = 10.0


class Connection:
    """Sends requests to the coordinator at `base_url` with one caller's key.

    `timeout` is in seconds, for each read and write of a request. `transport` replaces the network
    in tests. `on_retry` gets a sentence before each further try. A model of more than
    `most_model_bytes` is not downloaded. Raises BadSettings where the address, the key or a
    variable of the environment cannot be used.
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
    ) -> None:
        self.base_url = address.checked(base_url)
        self.retry = retry or Retry()
        self.traffic = Traffic()
        self.most_model_bytes = most_model_bytes
        self.key = None if key is None else _sendable(key)
        self.timeout = timeout
        self._on_retry = on_retry or (lambda message: None)
        self._busy = asyncio.Semaphore(MAX_BUSY)  # more would only wait for each other's answers
        self._answered: set[str] = set()  # addresses; all callers of this connection share it
        self._transport = transport or Transport.from_environment(MAX_CONNECTIONS, self.base_url)
        self.http = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS),
            transport=self._transport,
            trust_env=False,  # the transport has read it
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
        """One call of the API, with a body as JSON; gives the answer as `model`. Raises as
        `request` does.
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
        """One call of the API with its retries; with `held=True` the answer may be held back, and
        it may have no more than `most` bytes.

        Raises RequestRefused, CoordinatorUnreachable, BadAnswer.
        """
        sent = dict(headers or {})
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
        """One call by a signed URL, which no key of ours goes with; statuses in `fine` are good.

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
        most: int = ANSWER_BYTES,
    ) -> httpx.Response:
        gate = contextlib.nullcontext() if held else self._busy
        # Answers come as they are: a few bytes of gzip can stand for gigabytes.
        sent_headers = {"Accept-Encoding": "identity", **(headers or {})}
        request = self.http.build_request(
            method, url, params=params, headers=sent_headers, content=content
        )
        limits = (timeout or self.http.timeout).as_dict()
        started, pause = time.monotonic(), self.retry.first_pause
        while True:
            least, asked = 0.0, time.monotonic()
            left = self._give_up_after(whom) - (asked - started)
            connect = CONNECT_SECONDS if whom in self._answered else min(CONNECT_SECONDS, left)
            request.extensions["timeout"] = {**limits, "connect": max(connect, 0.1)}
            try:
                async with gate:
                    response = await self._exchange(request, most)
            except httpx.RequestError as error:
                about = f"{whom}{self._proxied(request)}"
                if why := faults.hopeless(error):
                    raise errors.CoordinatorUnreachable(f"{about}: {why}.") from error
                fault: Exception = errors.CoordinatorUnreachable(
                    f"{about} did not answer: {faults.reason(error)}"
                    + (faults.hint(error, request) if whom not in self._answered else "")
                )
            else:
                self._answered.add(whom)
                sent, received = len(content or b""), len(response.content)
                self.traffic.add(sent, received)
                if whom == self.base_url:
                    self.traffic.add_api(response, sent + received, time.monotonic() - asked)
                if response.is_success or response.status_code in fine:
                    return response
                fault = refusal(response)
                if response.status_code not in _RETRIED:
                    raise fault
                least = retry_after(response)
            wait = max(least, random.uniform(0, pause))  # noqa: S311  (spreads retries, no secret)  # nosec B311
            pause = min(2 * pause, self.retry.longest_pause)
            if time.monotonic() - started + wait > self._give_up_after(whom):
                raise fault
            self.traffic.retries += 1
            self._on_retry(f"{fault}; trying again in {wait:.1f} s")
            await asyncio.sleep(wait)

    def _give_up_after(self, whom: str) -> float:
        """An address that never answered is likelier wrong than one that did."""
        most = self.retry.give_up_after
        return most if whom in self._answered else min(most, FIRST_SECONDS)

    def _proxied(self, request: httpx.Request) -> str:
        """The proxy may be what is at fault."""
        found = isinstance(self._transport, Transport) and self._transport.proxy_of(request.url)
        return f" (through the proxy {without_login(found)})" if found else ""

    async def _exchange(self, request: httpx.Request, most: int) -> httpx.Response:
        """Send a request and read the whole body, of `most` bytes at most. Raises BadAnswer.

        httpx's own `send` would keep a stranger's cookies, and try again for ever where the address
        of a redirect is none; the transport does neither.
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

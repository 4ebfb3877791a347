"""A typed async client of the coordinator's API, over httpx.

Every call here may be repeated without harm, so all of them are retried: on connection errors, on
429 and on 5xx, with exponential backoff and full jitter (Brooker, "Exponential Backoff and
Jitter", AWS Architecture Blog, 2015), and never before the server's Retry-After.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.wire import schema
from client_sdk import errors

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
_STATUS: TypeAdapter[schema.Train | schema.Wait | schema.Done] = TypeAdapter(schema.RoundStatus)
_MODELS: TypeAdapter[list[schema.ModelView]] = TypeAdapter(list[schema.ModelView])
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+)$")
_RETRIED = frozenset({429, 500, 502, 503, 504})
PARALLEL_PARTS = 4


@dataclass(frozen=True)
class Retry:
    """How long to go on trying. All in seconds."""

    give_up_after: float = 300.0
    first_pause: float = 0.2
    longest_pause: float = 10.0


@dataclass
class Traffic:
    """Bytes of bodies moved by a client and those that share its connections."""

    sent: int = 0
    received: int = 0
    requests: int = 0
    retries: int = 0


class CoordinatorClient:
    """One caller of one coordinator. Use it as an async context manager.

    `key` is the admin key, an enrolment key or a client's token; `using(key)` gives another
    caller over the same connections. `transport` replaces the network in tests.
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
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise ValueError(f"{base_url!r} is no http:// or https:// address")
        self.base_url = base_url.rstrip("/")
        self.retry = retry or Retry()
        self.traffic = Traffic()
        self._key = key
        self._on_retry = on_retry or (lambda message: None)
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=httpx.Timeout(timeout, connect=10.0),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=32),
            transport=transport,
            # A proxy from the environment is for the outside, never for this machine itself.
            trust_env=urlsplit(base_url).hostname not in ("127.0.0.1", "::1", "localhost"),
        )

    def using(self, key: str) -> CoordinatorClient:
        """Another caller over the same connections; closing the first closes both."""
        other = object.__new__(CoordinatorClient)
        other.__dict__.update(self.__dict__)
        other._key = key
        return other

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    # The admin's calls

    async def create_experiment(
        self, name: str, config: schema.ExperimentConfig, idempotency_key: str
    ) -> schema.CreatedExperiment:
        """Create an experiment; the same key gives the same one again. Raises RequestRefused."""
        return await self._json(
            schema.CreatedExperiment,
            "POST",
            "/experiments",
            body=schema.CreateExperiment(name=name, config=config),
            headers={"Idempotency-Key": idempotency_key},
        )

    async def upload_initial_model(
        self, experiment_id: str, weights: bytes, part_bytes: int
    ) -> schema.ModelView:
        """Upload the initial weights (safetensors) and open the enrolment."""
        path = f"/experiments/{experiment_id}/initial-model"
        sha256, parts = await self._upload_parts(path, weights, part_bytes)
        commit = schema.WeightsCommit(sha256=sha256, parts=parts)
        return await self._json(schema.ModelView, "POST", path, body=commit)

    async def stop_experiment(self, experiment_id: str) -> schema.ExperimentView:
        return await self._json(schema.ExperimentView, "POST", f"/experiments/{experiment_id}/stop")

    # Anyone's

    async def experiment(self, experiment_id: str) -> schema.ExperimentView:
        return await self._json(schema.ExperimentView, "GET", f"/experiments/{experiment_id}")

    async def round(self, experiment_id: str, number: int) -> schema.RoundView:
        path = f"/experiments/{experiment_id}/rounds/{number}"
        return await self._json(schema.RoundView, "GET", path)

    async def models(self, experiment_id: str) -> list[schema.ModelView]:
        response = await self._request("GET", f"/experiments/{experiment_id}/models")
        return _parse(_MODELS, response)

    async def download_model(
        self, experiment_id: str, version: int | str = "latest", part_bytes: int = 4 * 1024**2
    ) -> bytes:
        """A model's safetensors bytes, fetched in ranges of `part_bytes` and verified.

        Raises CorruptDownload, NotThere, NotAuthorised.
        """
        path = f"/experiments/{experiment_id}/models/{version}"
        for _ in range(3):
            data, etag = await self._download(path, part_bytes)
            if f'"{hashlib.sha256(data).hexdigest()}"' == etag:
                return bytes(data)
        raise errors.CorruptDownload(f"{path}: the bytes do not have the digest {etag}")

    async def _download(self, path: str, part_bytes: int) -> tuple[bytearray, str]:
        data, etag, size = bytearray(), "", None
        while size is None or len(data) < size:
            headers = {"Range": f"bytes={len(data)}-{len(data) + part_bytes - 1}"}
            if etag:
                headers["If-Range"] = etag
            response = await self._request("GET", path, headers=headers)
            etag = response.headers.get("etag", "")
            found = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
            if response.status_code != httpx.codes.PARTIAL_CONTENT or found is None:
                return bytearray(response.content), etag  # the whole file, in one answer
            size = int(found[3])
            data += response.content
        return data, etag

    async def report_evaluation(
        self, experiment_id: str, version: int, num_examples: int, metrics: Mapping[str, float]
    ) -> schema.EvaluationView:
        return await self._json(
            schema.EvaluationView,
            "POST",
            f"/experiments/{experiment_id}/models/{version}/evaluations",
            body=schema.EvaluationReport(num_examples=num_examples, metrics=dict(metrics)),
        )

    # A client's

    async def subscribe(
        self, experiment_id: str, client_key: str, name: str = ""
    ) -> schema.Subscription:
        """Claim a slot, with the enrolment key as this caller's key."""
        return await self._json(
            schema.Subscription,
            "POST",
            f"/experiments/{experiment_id}/clients",
            body=schema.Subscribe(client_key=client_key, name=name),
        )

    async def shard(self, experiment_id: str) -> schema.Shard:
        return await self._json(schema.Shard, "GET", f"/experiments/{experiment_id}/shard")

    async def status(self, experiment_id: str) -> schema.Train | schema.Wait | schema.Done:
        response = await self._request("GET", f"/experiments/{experiment_id}/status")
        return _parse(_STATUS, response)

    async def upload_update(
        self,
        experiment_id: str,
        round_number: int,
        weights: bytes,
        num_examples: int,
        metrics: Mapping[str, float],
        part_bytes: int,
    ) -> schema.UpdateReceipt:
        """Upload an update and commit it.

        Raises StateConflict where it came too late, RequestRefused where it was refused for what
        it holds.
        """
        path = f"/experiments/{experiment_id}/rounds/{round_number}/update"
        sha256, parts = await self._upload_parts(path, weights, part_bytes)
        commit = schema.UpdateCommit(
            sha256=sha256, parts=parts, num_examples=num_examples, metrics=dict(metrics)
        )
        return await self._json(schema.UpdateReceipt, "POST", path, body=commit)

    # The machinery

    async def _upload_parts(self, path: str, data: bytes, part_bytes: int) -> tuple[str, list[str]]:
        view = memoryview(data)
        pieces = [view[i : i + part_bytes] for i in range(0, len(data), part_bytes)]
        digests = [hashlib.sha256(piece).hexdigest() for piece in pieces]
        gate = asyncio.Semaphore(PARALLEL_PARTS)

        async def put(number: int) -> None:
            async with gate:
                await self._request(
                    "PUT",
                    f"{path}/parts/{number}",
                    params={"sha256": digests[number]},
                    content=bytes(pieces[number]),
                    headers={"Content-Type": "application/octet-stream"},
                )

        tasks = [asyncio.create_task(put(number)) for number in range(len(pieces))]
        try:
            await asyncio.gather(*tasks)
        finally:  # the first fault ends the others
            for task in tasks:
                task.cancel()
        return hashlib.sha256(data).hexdigest(), digests

    async def _json(
        self,
        model: type[M],
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        headers: dict[str, str] | None = None,
    ) -> M:
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        content = None if body is None else body.model_dump_json().encode()
        response = await self._request(method, path, content=content, headers=sent)
        return _parse(TypeAdapter(model), response)

    async def _request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """One call with its retries. Raises RequestRefused or CoordinatorUnreachable."""
        sent = dict(headers or {})
        if self._key is not None:
            sent["Authorization"] = f"Bearer {self._key}"
        started, pause = time.monotonic(), self.retry.first_pause
        while True:
            least = 0.0
            try:
                response = await self._http.request(method, f"/v1{path}", headers=sent, **options)
            except httpx.TransportError as error:
                fault: Exception = errors.CoordinatorUnreachable(
                    f"{self.base_url} did not answer: {str(error) or type(error).__name__}"
                )
            else:
                self.traffic.requests += 1
                self.traffic.sent += len(options.get("content") or b"")
                self.traffic.received += len(response.content)
                if response.is_success:
                    return response
                fault = _refusal(response)
                if response.status_code not in _RETRIED:
                    raise fault
                least = _retry_after(response)
            wait = max(least, random.uniform(0, pause))  # noqa: S311  (spreads retries, no secret)
            pause = min(2 * pause, self.retry.longest_pause)
            if time.monotonic() - started + wait > self.retry.give_up_after:
                raise fault
            self.traffic.retries += 1
            self._on_retry(f"{fault}; trying again in {wait:.1f} s")
            await asyncio.sleep(wait)


def _parse(adapter: TypeAdapter[T], response: httpx.Response) -> T:
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
        problem = schema.Problem.model_validate_json(response.content)
    except ValidationError:
        text = response.text.strip()[:200] or response.reason_phrase
        return kind(response.status_code, "unknown", f"HTTP {response.status_code}: {text}")
    return kind(response.status_code, problem.code, problem.detail)


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks for (RFC 9110, section 10.2.3), at most five minutes."""
    value = response.headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return min(float(value), 300.0)
    moment = email.utils.parsedate_tz(value)
    return min(max(email.utils.mktime_tz(moment) - time.time(), 0.0), 300.0) if moment else 0.0

"""A typed async client of the coordinator's API, over httpx."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping

import httpx
from pydantic import TypeAdapter

from app.wire import schema, views
from client_sdk import errors
from client_sdk.connection import Connection, parse

_STATUS: TypeAdapter[schema.Train | schema.Wait | schema.Done] = TypeAdapter(schema.RoundStatus)
_MODELS: TypeAdapter[list[views.ModelView]] = TypeAdapter(list[views.ModelView])
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+)$")
PARALLEL_PARTS = 4


class CoordinatorClient(Connection):
    """One caller of one coordinator. Use it as an async context manager.

    `key` is the admin key, an enrolment key or a client's token; `using(key)` gives another
    caller over the same connections. `transport` replaces the network in tests.
    """

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
    ) -> views.ModelView:
        """Upload the initial weights (safetensors) and open the enrolment."""
        path = f"/experiments/{experiment_id}/initial-model"
        sha256, parts = await self._upload_parts(path, weights, part_bytes)
        commit = schema.WeightsCommit(sha256=sha256, parts=parts)
        return await self._json(views.ModelView, "POST", path, body=commit)

    async def stop_experiment(self, experiment_id: str) -> views.ExperimentView:
        return await self._json(views.ExperimentView, "POST", f"/experiments/{experiment_id}/stop")

    # Anyone's

    async def experiment(self, experiment_id: str) -> views.ExperimentView:
        return await self._json(views.ExperimentView, "GET", f"/experiments/{experiment_id}")

    async def round(self, experiment_id: str, number: int) -> views.RoundView:
        path = f"/experiments/{experiment_id}/rounds/{number}"
        return await self._json(views.RoundView, "GET", path)

    async def models(self, experiment_id: str) -> list[views.ModelView]:
        response = await self._request("GET", f"/experiments/{experiment_id}/models")
        return parse(_MODELS, response)

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
            # The rest is of the same version, though `latest` may be another by now.
            if path.endswith("/latest"):
                path = path.removesuffix("latest") + response.headers["x-model-version"]
        return data, etag

    async def report_evaluation(
        self, experiment_id: str, version: int, num_examples: int, metrics: Mapping[str, float]
    ) -> views.EvaluationView:
        return await self._json(
            views.EvaluationView,
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
        return parse(_STATUS, response)

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

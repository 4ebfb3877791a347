"""Blobs in S3, or in a store that speaks its protocol: one object a part.

Clients move weights themselves, by presigned URLs (AWS Signature Version 4 in the query). A signed
PUT names the length, the SHA-256 and `If-None-Match: *`, so that the store refuses other bytes and
never replaces a checked part. S3 enforces all three, but some imitations do not
(`app.store.s3_check`). So the commit and the aggregation verify the bytes that they read.
"""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from app.store.port import STORE_OF_WEIGHTS, SignedRequest
from serverless_fl.domain.errors import StoreUnavailable

T = TypeVar("T")
CONNECT_SECONDS = 2.0  # boto3 tries three times, and a Lambda must answer within 29 seconds
READ_SECONDS = 5.0  # between two packets
OPERATION_SECONDS = 25.0  # in all, including the wait for a thread
IDLE_SECONDS = 15.0  # a container that was frozen for longer may hold dead connections
THREADS = 16
LARGEST = 64 * 1024**2  # the most bytes read from an object; the coordinator's own have 8 MiB
_PAGE = 1000  # the most keys that one call lists or deletes
_PUTS = 4  # tries to store an object that others write or delete meanwhile


class S3Blobs:
    """`app.store.port.DirectBlobs` over a bucket. boto3 finds the credentials and the region.

    `public_endpoint`: the origin under which clients reach the store, if it differs from the
    coordinator's. A URL is valid for at most `url_seconds`.
    """

    def __init__(
        self, bucket: str, *, url_seconds: int, public_endpoint: str | None = None
    ) -> None:
        self.bucket = bucket
        self.url_seconds = url_seconds
        self.public_endpoint = public_endpoint
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._used_at = _now()

    # The clients are made, and boto3 is imported, at their first use: this takes a quarter of a
    # second, and most calls of the coordinator need no client.

    @cached_property
    def _client(self) -> Any:
        return self._make_client(None)

    @cached_property
    def _signer(self) -> Any:
        return self._make_client(self.public_endpoint) if self.public_endpoint else self._client

    def _make_client(self, endpoint: str | None) -> Any:
        import boto3
        from botocore.config import Config

        def client(style: str) -> Any:
            config = Config(
                signature_version="s3v4",
                # Each part has a digest from its sender. boto3 would sign one of its own into the
                # URLs.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                tcp_keepalive=True,
                max_pool_connections=THREADS,
                retries={"mode": "standard", "total_max_attempts": 3},
                s3={"addressing_style": style},
            )
            return boto3.client("s3", config=config, endpoint_url=endpoint)

        if "." in self.bucket:  # no certificate covers such a host's name; "auto" uses a path
            return client("auto")
        # "virtual" signs for the host of the bucket's region. By default boto3 signs for a global
        # host, which redirects for new buckets and refuses in new regions. Imitations of S3 seldom
        # have a host for each bucket.
        made = client("virtual")
        return made if _is_aws(made.meta.endpoint_url) else client("auto")

    def _fresh(self, client: Any) -> Any:
        """Give the client, and drop its connections if nobody used them for `IDLE_SECONDS`."""
        now = _now()
        idle = max(b - a for a, b in zip(self._used_at, now, strict=True))
        self._used_at = now
        if idle > IDLE_SECONDS:
            client.close()  # closes its pool; the next request opens a connection
        return client

    async def _run(self, work: Callable[[Any], T]) -> T:
        """Run work in a thread. Raises StoreUnavailable for any error of S3 or boto3."""

        def guarded() -> T:
            # This imports botocore, which takes a part of a cold start that most calls do not need.
            from app.store.s3_faults import FOREIGN, translated

            try:
                with self._lock:
                    client = self._fresh(self._client)
                return work(client)
            except FOREIGN as error:
                raise translated(error, self.bucket) from error

        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, guarded)
        except TimeoutError as error:
            said = f"The bucket {self.bucket} did not answer in {OPERATION_SECONDS:g} s."
            raise StoreUnavailable(said, store=STORE_OF_WEIGHTS) from error

    async def put(self, key: str, data: bytes) -> None:
        def work(client: Any) -> bool:
            """Return whether the object exists now; False if another request's outcome is open."""
            # A file, because the socket sends bytes in one call, within CONNECT_SECONDS in all.
            body = io.BytesIO(data)
            try:
                client.put_object(Bucket=self.bucket, Key=key, Body=body, IfNoneMatch="*")
            except client.exceptions.ClientError as error:
                code = error.response["Error"]["Code"]
                if code not in ("PreconditionFailed", "ConditionalRequestConflict"):
                    raise
                return bool(code == "PreconditionFailed")
            return True

        for attempt in range(_PUTS):
            if await self._run(work):
                return
            await asyncio.sleep(0.1 * 2**attempt)
        said = f"The bucket {self.bucket} failed: other requests keep writing {key}."
        raise StoreUnavailable(said, store=STORE_OF_WEIGHTS)

    async def get(self, key: str) -> bytes | None:
        """Give the bytes, or the first `LARGEST` of a foreign object; its digest then differs."""

        def work(client: Any) -> bytes | None:
            try:
                found = client.get_object(Bucket=self.bucket, Key=key)
            except client.exceptions.NoSuchKey:
                return None
            with found["Body"] as body:
                data: bytes = body.read(min(LARGEST, found["ContentLength"]))
            return data

        return await self._run(work)

    async def sizes(self, prefix: str) -> dict[str, int]:
        return {key: size async for page in self._pages(prefix) for key, size in page.items()}

    async def delete(self, prefix: str) -> None:
        async for page in self._pages(prefix):
            if page:
                await self._delete(list(page))

    async def _delete(self, keys: list[str]) -> None:
        def work(client: Any) -> list[dict[str, str]]:
            doomed = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            answer = client.delete_objects(Bucket=self.bucket, Delete=doomed)
            faults: list[dict[str, str]] = answer.get("Errors", [])
            return faults

        if faults := await self._run(work):
            from app.store.s3_faults import of_code

            said = f"The bucket {self.bucket} did not delete {len(faults)} objects: {faults[0]}."
            raise of_code(faults[0].get("Code", ""))(said, store=STORE_OF_WEIGHTS)

    async def _pages(self, prefix: str) -> AsyncIterator[dict[str, int]]:
        """Yield pages of keys and sizes under a prefix, as many as one call lists."""
        more: dict[str, str] = {}
        while True:
            asked = {"Bucket": self.bucket, "Prefix": prefix, "MaxKeys": _PAGE, **more}
            answer = await self._run(lambda client, a=asked: client.list_objects_v2(**a))  # type: ignore[misc]
            yield {found["Key"]: found["Size"] for found in answer.get("Contents", ())}
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    async def sign_put(
        self, key: str, sha256: str, size: int, *, seconds: int | None = None
    ) -> SignedRequest:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        life = min(self.url_seconds, seconds or self.url_seconds)
        content = {"ContentLength": size, "ChecksumSHA256": checksum, "IfNoneMatch": "*"}
        url = await self._sign("put_object", life, {"Key": key, **content})
        headers = {"x-amz-checksum-sha256": checksum, "If-None-Match": "*"}
        return SignedRequest("PUT", url, headers, life)

    async def sign_get(self, key: str) -> SignedRequest:
        url = await self._sign("get_object", self.url_seconds, {"Key": key})
        return SignedRequest("GET", url, {}, self.url_seconds)

    async def _sign(self, operation: str, seconds: int, parameters: dict[str, Any]) -> str:
        """Sign a URL. It needs no call to the store, once boto3 has found the credentials."""

        def work(_: Any) -> str:
            with self._lock:
                signer = self._signer
            url: str = signer.generate_presigned_url(
                operation, Params={"Bucket": self.bucket, **parameters}, ExpiresIn=seconds
            )
            return url

        return await self._run(work)


def _is_aws(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _now() -> tuple[float, float]:
    """Read two clocks, because one of them may stand still while a container is frozen."""
    return time.time(), time.monotonic()

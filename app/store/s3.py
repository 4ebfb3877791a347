"""Blobs in S3, or in what speaks its protocol: an object a part. The only file that knows boto3.

Clients move weights themselves, by presigned URLs (AWS Signature Version 4 in the query). A signed
PUT names the length, the SHA-256 and `If-None-Match: *`: the store refuses other bytes, and a part
that was checked can never be replaced. S3 enforces all three; not every imitation does, and so the
commit and the aggregation verify what they read all the same.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from app.domain.errors import StoreUnavailable
from app.store.port import SignedRequest

T = TypeVar("T")
_PAGE = 1000  # keys that one call lists or deletes
_PUTS = 4  # of one object, where others write or delete it meanwhile


class S3Blobs:
    """`app.store.port.DirectBlobs` over a bucket. Credentials and region are boto3's to find."""

    def __init__(self, bucket: str, *, url_seconds: int) -> None:
        self.bucket = bucket
        self.url_seconds = url_seconds
        self._lock = threading.Lock()

    @cached_property
    def _client(self) -> Any:
        # Made at the first use: it costs a quarter of a second that most calls need not wait for.
        import boto3
        from botocore.config import Config

        config = Config(
            signature_version="s3v4",
            # Digests are ours, of each part; boto3's own would be signed into the URLs.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=3,
            read_timeout=20,
            max_pool_connections=16,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        return boto3.client("s3", config=config)

    async def _run(self, work: Callable[[Any], T]) -> T:
        """In a thread. Raises StoreUnavailable for anything that S3 or boto3 says."""

        def guarded() -> T:
            from app.store.s3_faults import FOREIGN, translated  # brings botocore

            try:
                with self._lock:
                    client = self._client
                return work(client)
            except FOREIGN as error:
                raise translated(error, self.bucket) from error

        return await asyncio.to_thread(guarded)

    async def put(self, key: str, data: bytes) -> None:
        def work(client: Any) -> bool:
            """Whether the object is there; not so where a conflict says nothing of its outcome."""
            try:
                client.put_object(Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*")
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
        raise StoreUnavailable(f"The bucket {self.bucket} failed: {key} is being written.")

    async def get(self, key: str) -> bytes | None:
        def work(client: Any) -> bytes | None:
            try:
                found = client.get_object(Bucket=self.bucket, Key=key)
            except client.exceptions.NoSuchKey:
                return None
            data: bytes = found["Body"].read()
            return data

        return await self._run(work)

    async def sizes(self, prefix: str) -> dict[str, int]:
        return await self._run(lambda client: dict(self._list(client, prefix)))

    async def delete(self, prefix: str) -> None:
        def work(client: Any) -> None:
            keys = [key for key, _ in self._list(client, prefix)]
            for start in range(0, len(keys), _PAGE):
                page = [{"Key": key} for key in keys[start : start + _PAGE]]
                answer = client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": page, "Quiet": True}
                )
                if errors := answer.get("Errors"):
                    raise StoreUnavailable(f"The bucket {self.bucket} failed: {errors[0]}.")

        await self._run(work)

    def _list(self, client: Any, prefix: str) -> Iterator[tuple[str, int]]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for found in page.get("Contents", ()):
                yield found["Key"], found["Size"]

    async def sign_put(self, key: str, sha256: str, size: int) -> SignedRequest:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        url = await self._sign(
            "put_object", Key=key, ContentLength=size, ChecksumSHA256=checksum, IfNoneMatch="*"
        )
        headers = {"x-amz-checksum-sha256": checksum, "If-None-Match": "*"}
        return SignedRequest("PUT", url, headers, self.url_seconds)

    async def sign_get(self, key: str) -> SignedRequest:
        return SignedRequest("GET", await self._sign("get_object", Key=key), {}, self.url_seconds)

    async def _sign(self, operation: str, **parameters: Any) -> str:
        """Signing asks nobody: it is arithmetic, once boto3 has found the credentials."""

        def work(client: Any) -> str:
            url: str = client.generate_presigned_url(
                operation,
                Params={"Bucket": self.bucket, **parameters},
                ExpiresIn=self.url_seconds,
            )
            return url

        return await self._run(work)

"""Tests whether a bucket enforces the conditions of a signed URL (docs/decisions/0029).

S3 enforces them. An imitation may let the holder of a URL store other bytes, or replace an accepted
part. The coordinator notices that when it reads the part, and drops the client's update.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from app.store.port import (
    STORE_OF_WEIGHTS,
    DirectBlobs,
    Document,
    Documents,
    SignedRequest,
)
from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import StoreUnavailable

AGAIN_SECONDS = 86_400.0  # a bucket that failed the test is tested again after so long
SECONDS = 5.0  # for the whole test: a Lambda must start within ten seconds
KIND, KEY = "stores", "signatures"  # the document with the result of the last test
_RIGHT, _WRONG, _LONG = b"right", b"wrong", b"wrong and longer"


async def tell_unenforced(documents: Documents, blobs: DirectBlobs, bucket: str) -> None:
    """Test the bucket, and log a warning if it does not enforce signatures.

    Each start of a container would wait for the test. So a bucket that passed is not tested again,
    and a bucket that failed is tested once a day.
    """
    try:
        async with asyncio.timeout(SECONDS):
            seen = await documents.get(KIND, KEY)
            found = _known(seen, bucket)
            if found is None:
                found = await unenforced(blobs)
                body = {"bucket": bucket, "taken": found, "asked_at": time.time()}
                if seen is None:
                    await documents.insert(KIND, KEY, body)
                else:
                    await documents.replace(KIND, KEY, seen.revision, body)
            if found:
                log_event("signatures are not enforced", WARNING, taken=", ".join(found))
    except TimeoutError:
        log_event("signatures were not checked", WARNING, cause=f"no answer in {SECONDS:g} s")
    except StoreUnavailable as error:
        log_event("signatures were not checked", WARNING, code=error.code, cause=error.message)


def _known(seen: Document | None, bucket: str) -> list[str] | None:
    """Give the result of the last test; None if the bucket must be tested again."""
    if seen is None or seen.body["bucket"] != bucket:
        return None
    taken: list[str] = seen.body.get("taken", [])
    old = abs(time.time() - seen.body.get("asked_at", 0.0)) > AGAIN_SECONDS
    return None if taken and old else taken


async def unenforced(blobs: DirectBlobs) -> list[str]:
    """Send forbidden variants of a signed PUT; give the names of those that the store accepts.

    Raises StoreUnavailable.
    """
    key = f"store/check-{secrets.token_hex(8)}"
    signed = await blobs.sign_put(key, hashlib.sha256(_RIGHT).hexdigest(), len(_RIGHT))
    found = []
    try:
        for fault, data, headers in (
            ("other bytes", _WRONG, signed.headers),
            ("more bytes", _LONG, {}),
            ("no headers", _WRONG, {}),
        ):
            if await _put(signed, data, headers):
                found.append(fault)
                await blobs.delete(key)
        if not await _put(signed, _RIGHT, signed.headers):
            raise StoreUnavailable(
                f"{STORE_OF_WEIGHTS} refuses a signed URL.", store=STORE_OF_WEIGHTS
            )
        if await _put(signed, _RIGHT, signed.headers):
            found.append("replacement")
    finally:
        await blobs.delete(key)
    return found


async def _put(signed: SignedRequest, data: bytes, headers: Mapping[str, str]) -> bool:
    """Send the request; return whether the store accepted it."""
    request = urllib.request.Request(  # noqa: S310  (it is the store's own URL)
        signed.url, data, {**headers, "Content-Type": ""}, method=signed.method
    )

    def send() -> bool:
        try:
            with urllib.request.build_opener().open(request, timeout=SECONDS):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError as error:
            said = f"{STORE_OF_WEIGHTS} cannot be reached by the URLs for clients: {error}."
            raise StoreUnavailable(said, store=STORE_OF_WEIGHTS) from error

    return await asyncio.to_thread(send)

"""Whether a blob store insists on what was signed.

S3 does. An imitation may let the holder of a URL store other bytes, or replace a part that was
accepted: then that client's update is dropped when it is read (docs/decisions/0029).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from app.store.port import DirectBlobs, Document, Documents, SignedRequest
from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import StoreUnavailable

AGAIN_SECONDS = 86_400.0  # after which a bucket that does not insist is asked again
SECONDS = 5.0  # for all of it: a Lambda has ten to start in
KIND, KEY = "stores", "signatures"  # of the document that says which bucket insists, or on what not
_RIGHT, _WRONG, _LONG = b"right", b"wrong", b"wrong and longer"


async def tell_unenforced(documents: Documents, blobs: DirectBlobs, bucket: str) -> None:
    """Log what the bucket does not insist on. One that was seen to insist is not asked again, and
    another one only once a day: each start of a container waits for the answers.
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
    """What was found before, where that may still be so."""
    if seen is None or seen.body["bucket"] != bucket:
        return None
    taken: list[str] = seen.body.get("taken", [])
    old = abs(time.time() - seen.body.get("asked_at", 0.0)) > AGAIN_SECONDS
    return None if taken and old else taken


async def unenforced(blobs: DirectBlobs) -> list[str]:
    """What the store lets the holder of a signed PUT get away with. Raises StoreUnavailable."""
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
            raise StoreUnavailable("A signed URL is refused.", store="The store of weights")
        if await _put(signed, _RIGHT, signed.headers):
            found.append("replacement")
    finally:
        await blobs.delete(key)
    return found


async def _put(signed: SignedRequest, data: bytes, headers: Mapping[str, str]) -> bool:
    """Whether the store took it."""
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
            said = f"The store of weights cannot be reached as clients reach it: {error}."
            raise StoreUnavailable(said, store="The store of weights") from error

    return await asyncio.to_thread(send)

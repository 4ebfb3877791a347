"""A model's way from the coordinator: in ranges, or in parts from its blob store; verified.

A download that was interrupted goes on with the parts that it has. It ends in an error after a few
rounds in which no further part arrives.
"""

from __future__ import annotations

import hashlib
import re

import httpx
from pydantic import TypeAdapter

from client_sdk import errors
from client_sdk.api.answers import parse
from client_sdk.api.connection import Connection
from client_sdk.api.parts import TRIES, for_each_part, require_few_parts
from serverless_fl.wire import views
from serverless_fl.wire.bounds import Listed
from serverless_fl.wire.schema import BlobInfo

_PARTS: TypeAdapter[list[views.ModelPart]] = TypeAdapter(Listed[views.ModelPart])
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+)$")


async def download(
    connection: Connection,
    path: str,
    part_bytes: int,
    *,
    direct: bool,
    held: bytes | None = None,
    file: BlobInfo | None = None,
) -> bytes:
    """A model's file, verified.

    `held` is a file from before; the coordinator does not send the same file again. `file` is what
    the coordinator has announced, if it has; other bytes are an error.

    Raises CorruptDownload, RequestRefused, CoordinatorUnreachable, BadAnswer.
    """
    most = connection.most_model_bytes
    if file is not None and file.size > most:
        raise errors.BadAnswer(
            f"{path}: the model is announced with {file.size} bytes; at most {most} are taken."
        )
    most = file.size if file else most
    pieces: dict[str, bytes] = {}  # of signed URLs, by digest
    in_vain = 0
    while True:
        before = len(pieces)
        try:
            if direct:
                data = await _direct_parts(connection, path, most, pieces)
            else:
                data = await _ranges(connection, path, part_bytes, held, most)
            return data if file is None else _verified(path, data, file.sha256)
        except (errors.CorruptDownload, errors.DirectRefused):
            in_vain = 0 if len(pieces) > before else in_vain + 1
            if in_vain == TRIES:
                raise


async def _ranges(
    connection: Connection, path: str, part_bytes: int, held: bytes | None, most: int
) -> bytes:
    """The file in ranges of `part_bytes` through the coordinator; `held` where it is that file."""
    known = f'"{hashlib.sha256(held).hexdigest()}"' if held is not None else ""
    first = await _range(connection, path, 0, part_bytes, most, known=known)
    if held is not None and first.status_code == httpx.codes.NOT_MODIFIED:
        return held
    etag = first.headers.get("etag", "")
    found = _CONTENT_RANGE.match(first.headers.get("content-range", ""))
    if first.status_code != httpx.codes.PARTIAL_CONTENT or found is None:
        return _verified(path, first.content, etag.strip('"'))  # the whole file in one answer
    size, step = int(found[3]), len(first.content)  # perhaps less than was asked for
    if size > most:
        raise errors.BadAnswer(f"{path}: the model has {size} bytes; at most {most} are taken.")
    require_few_parts(path, size, step)
    # The size is only what somebody says, so no memory is reserved for it.
    pieces = {0: first.content}
    # The other ranges are of the same version, though `latest` may be another by now.
    if path.endswith("/latest"):
        path = path.removesuffix("latest") + _version(first)

    async def fetch(start: int) -> None:
        wanted = min(step, size - start)
        piece = (await _range(connection, path, start, step, most, etag)).content
        if len(piece) != wanted:
            raise errors.CorruptDownload(f"{path}: another file took its place; try again")
        pieces[start] = piece

    await for_each_part(fetch, range(step, size, step))
    return _verified(path, b"".join(pieces[n] for n in range(0, size, step)), etag.strip('"'))


def _version(response: httpx.Response) -> str:
    found: str = response.headers.get("x-model-version", "")
    return found if found.isascii() and found.isdigit() and len(found) < 8 else "latest"


async def _range(
    connection: Connection,
    path: str,
    start: int,
    size: int,
    most: int,
    etag: str = "",
    known: str = "",
) -> httpx.Response:
    """One range; from a server without ranges the whole file, of at most `most` bytes.

    With `etag` the range must be of that file. With `known` the answer is empty where the file has
    that ETag.
    """
    headers = {"Range": f"bytes={start}-{start + size - 1}"}
    if etag:
        headers["If-Range"] = etag
    fine: tuple[int, ...] = ()
    if known:
        headers["If-None-Match"] = known
        fine = (httpx.codes.NOT_MODIFIED,)
    return await connection.request("GET", path, headers=headers, fine=fine, most=most)


async def _direct_parts(
    connection: Connection, path: str, most: int, pieces: dict[str, bytes]
) -> bytes:
    """The file from the blob store, by signed URLs. Parts in `pieces` are here already; the others
    are added.
    """
    found: list[views.ModelPart] = []
    while page := parse(
        _PARTS,
        await connection.request("GET", f"{path}/parts", params={"first": len(found)}),
    ):
        found += page
        if [part.number for part in found] != list(range(len(found))):
            raise errors.BadAnswer(f"{path}: the coordinator lists parts out of order")
        if sum(part.size for part in found) > most:
            raise errors.BadAnswer(f"{path}: the parts have more than the {most} bytes they may")

    async def fetch(part: views.ModelPart) -> None:
        if part.url is None:
            raise errors.CorruptDownload(f"{path}: part {part.number} has no URL")
        response = await connection.direct("GET", part.url, most=part.size)
        pieces[part.sha256] = _verified(path, response.content, part.sha256)

    await for_each_part(fetch, (part for part in found if part.sha256 not in pieces))
    return b"".join(pieces[part.sha256] for part in found)


def _verified(path: str, data: bytes | bytearray, sha256: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise errors.CorruptDownload(f"{path}: the bytes do not have the digest {sha256}")
    return bytes(data)

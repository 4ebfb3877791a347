"""Weights on their way: parts up, ranges or parts down, a few at a time, each verified.

What the coordinator advertises decides: `part_bytes` how large a part may be, `direct` whether
parts go to its blob store itself, by signed URLs. A transfer that was interrupted goes on: parts
that are stored already are not sent again. It is given up after a few rounds that bring nothing;
one that brings a part, however slowly, starts the count anew.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import httpx
from pydantic import TypeAdapter

from client_sdk import errors
from client_sdk.api.answers import parse
from client_sdk.api.connection import Connection
from serverless_fl.wire import parts, views
from serverless_fl.wire.bounds import MAX_PARTS, Listed
from serverless_fl.wire.schema import BlobInfo

T = TypeVar("T")
PARALLEL_PARTS = 4
TRIES = 3  # of a whole transfer; the connection retries each of its requests besides
GZIP_LEVEL = 1  # 6 takes three times as long for a twentieth less (docs/decisions/0018)
GZIP_PAYS = 0.95  # a part whose gzip has more than this share of its bytes is sent as it is
_MANGLED = ("digest-mismatch", "unknown")  # codes of a 422 whose body was mangled on its way
_PLANS: TypeAdapter[list[parts.PartPlan]] = TypeAdapter(Listed[parts.PartPlan])
_PARTS: TypeAdapter[list[views.ModelPart]] = TypeAdapter(Listed[views.ModelPart])
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+)$")


class Upload:
    """One file on its way to `path`, of whose parts the coordinator takes the digests.

    With `gzip`, parts that go through the coordinator are compressed where that pays.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        data: bytes,
        part_bytes: int,
        *,
        direct: bool,
        gzip: bool = False,
    ) -> None:
        self._connection, self._path, self._direct = connection, path, direct
        self._gzip = gzip
        _require_few(path, len(data), part_bytes)
        view = memoryview(data)
        self._pieces = [view[i : i + part_bytes] for i in range(0, len(data), part_bytes)]
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.parts = [hashlib.sha256(piece).hexdigest() for piece in self._pieces]

    async def send(self) -> None:
        """Bring every part that is not there.

        Raises RequestRefused, CoordinatorUnreachable, BadAnswer.
        """
        # Whether a single part is there already costs as much to ask as to send it.
        if len(self._pieces) == 1 and not self._direct:
            await self._put_part(0)
            return
        for start in range(0, len(self._pieces), parts.MAX_ANNOUNCED):
            batch = range(start, min(start + parts.MAX_ANNOUNCED, len(self._pieces)))
            await self._send_batch(batch)

    async def _send_batch(self, batch: range) -> None:
        fewest, in_vain = len(batch) + 1, 0
        while True:
            missing = [plan for plan in await self._plan(batch) if not plan.stored]
            in_vain = 0 if len(missing) < fewest else in_vain + 1
            fewest = min(fewest, len(missing))
            try:
                await at_once(self._bring, missing)
                return
            except errors.DirectRefused:  # its URL has run out, perhaps: ask for others
                if in_vain == TRIES - 1:
                    raise

    async def _plan(self, numbers: range) -> list[parts.PartPlan]:
        announced = parts.PartAnnouncements(
            parts=[
                parts.PartAnnouncement(number=n, sha256=self.parts[n], size=len(self._pieces[n]))
                for n in numbers
            ]
        )
        response = await self._connection.post(f"{self._path}/parts", announced)
        plans = parse(_PLANS, response)
        if [plan.number for plan in plans] != list(numbers):
            raise errors.BadAnswer(
                f"{self._path}: the coordinator plans other parts than announced"
            )
        return plans

    async def _bring(self, plan: parts.PartPlan) -> None:
        if plan.upload is None:
            await self._put_part(plan.number)
            return
        await self._connection.direct(
            "PUT",
            plan.upload.url,
            headers=plan.upload.headers,
            content=bytes(self._pieces[plan.number]),
            # It is there: an earlier try got through, though its answer did not.
            fine=(httpx.codes.PRECONDITION_FAILED,),
        )

    async def send_at_once(self, facts: Mapping[str, str]) -> httpx.Response:
        """Bring the only part, and with it what its commit would say. Raises as `send`."""
        return await self._put(self._path, self._pieces[0], {"sha256": self.sha256, **facts})

    async def _put_part(self, number: int) -> None:
        path = f"{self._path}/parts/{number}"
        await self._put(path, self._pieces[number], {"sha256": self.parts[number]})

    async def _put(self, path: str, piece: memoryview, params: dict[str, str]) -> httpx.Response:
        """Send a part, in gzip where that was asked for and pays."""
        if self._gzip:
            smaller = await asyncio.to_thread(gzip.compress, piece, GZIP_LEVEL, mtime=0)
            if len(smaller) <= GZIP_PAYS * len(piece):
                try:
                    return await self._send(path, smaller, params, {"Content-Encoding": "gzip"})
                except errors.RequestRefused as error:
                    if not _unreadable(error):
                        raise
                self._gzip = False  # something on the way does not let it through
        return await self._send(path, bytes(piece), params, {})

    async def _send(
        self, path: str, content: bytes, params: dict[str, str], headers: dict[str, str]
    ) -> httpx.Response:
        return await self._connection.request(
            "PUT",
            path,
            params=params,
            content=content,
            headers={"Content-Type": "application/octet-stream", **headers},
        )


def _unreadable(error: errors.RequestRefused) -> bool:
    """Whether the coordinator, or a proxy, may have refused the gzip and not the content."""
    return error.status in (400, 415) or (error.status == 422 and error.code in _MANGLED)


async def download(
    connection: Connection,
    path: str,
    part_bytes: int,
    *,
    direct: bool,
    held: bytes | None = None,
    file: BlobInfo | None = None,
) -> bytes:
    """A model's file, verified. `held` is not sent again where that is the file; `file` is what the
    coordinator has announced, if it has.

    Raises CorruptDownload, RequestRefused, CoordinatorUnreachable, BadAnswer.
    """
    most = connection.most_model_bytes
    if file is not None and file.size > most:
        raise errors.BadAnswer(
            f"{path}: the model is announced with {file.size} bytes; at most {most} are taken."
        )
    pieces: dict[str, bytes] = {}  # of signed URLs, by digest
    in_vain = 0
    while True:
        before = len(pieces)
        try:
            if direct:
                data = await _direct_parts(connection, path, file.size if file else most, pieces)
            else:
                data = await _ranges(
                    connection, path, part_bytes, held, file.size if file else most
                )
            if file is not None:
                _verified(path, data, file.sha256)
            return data
        except (errors.CorruptDownload, errors.DirectRefused):
            in_vain = 0 if len(pieces) > before else in_vain + 1
            if in_vain == TRIES:
                raise


async def _ranges(
    connection: Connection, path: str, part_bytes: int, held: bytes | None, most: int
) -> bytes:
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
    _require_few(path, size, step)
    # No bytes are set aside before they are here: the size is only what somebody says.
    pieces = {0: first.content}
    # The rest is of the same version, though `latest` may be another by now.
    if path.endswith("/latest"):
        path = path.removesuffix("latest") + _version(first)

    async def fetch(start: int) -> None:
        wanted = min(step, size - start)
        piece = (await _range(connection, path, start, step, most, etag)).content
        if len(piece) != wanted:
            raise errors.CorruptDownload(f"{path}: another file took its place; try again")
        pieces[start] = piece

    await at_once(fetch, range(step, size, step))
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
    """The range, or the whole file from whoever gives no ranges: at most `most` bytes of it."""
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
    """From the blob store, by the URLs of the parts as they are stored; those in `pieces` are here
    already.
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

    await at_once(fetch, (part for part in found if part.sha256 not in pieces))
    return b"".join(pieces[part.sha256] for part in found)


def _require_few(path: str, size: int, part_bytes: int) -> None:
    """Raise BadAnswer where a file would come in more parts than any may have."""
    if part_bytes < 1 or size > part_bytes * MAX_PARTS:
        raise errors.BadAnswer(
            f"{path}: {size} bytes in parts of {part_bytes} would be more than {MAX_PARTS} parts."
        )


def _verified(path: str, data: bytes | bytearray, sha256: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise errors.CorruptDownload(f"{path}: the bytes do not have the digest {sha256}")
    return bytes(data)


async def at_once(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """Do the work for each item, a few at a time. The first fault ends the others; it is raised."""
    remaining = iter(items)

    async def run() -> None:
        for item in remaining:
            await work(item)

    tasks = [asyncio.create_task(run()) for _ in range(PARALLEL_PARTS)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()

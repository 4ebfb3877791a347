"""A file's way to the coordinator, in parts that it stores one by one.

The coordinator advertises how large a part may be (`part_bytes`), and whether parts go to its blob
store by signed URLs (`direct`). An upload that was interrupted goes on: stored parts are not sent
again. It ends in an error after a few rounds in which no further part arrives.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Mapping

import httpx
from pydantic import TypeAdapter

from client_sdk import errors
from client_sdk.api.answers import parse
from client_sdk.api.connection import Connection
from client_sdk.api.parts import TRIES, for_each_part, require_few_parts
from serverless_fl.wire import parts
from serverless_fl.wire.bounds import Listed

GZIP_LEVEL = 1  # 6 takes three times as long for a twentieth less (docs/decisions/0018)
GZIP_PAYS = 0.95  # a part whose gzip has more than this share of its bytes goes uncompressed
_MANGLED = ("digest-mismatch", "unknown")  # codes of a 422 whose body was mangled on its way
_PLANS: TypeAdapter[list[parts.PartPlan]] = TypeAdapter(Listed[parts.PartPlan])


class Upload:
    """One file for `path`. With `gzip`, parts that go through the coordinator are compressed where
    that pays. Raises BadAnswer for a file of too many parts.
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
        require_few_parts(path, len(data), part_bytes)
        view = memoryview(data)
        self._pieces = [view[i : i + part_bytes] for i in range(0, len(data), part_bytes)]
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.parts = [hashlib.sha256(piece).hexdigest() for piece in self._pieces]

    async def send(self) -> None:
        """Send every part that the coordinator lacks.

        Raises RequestRefused, CoordinatorUnreachable, BadAnswer.
        """
        # Whether a single part is there already costs as much to ask as to send it.
        if len(self._pieces) == 1 and not self._direct:
            await self._put_part(0)
            return
        for start in range(0, len(self._pieces), parts.MAX_ANNOUNCED):
            batch = range(start, min(start + parts.MAX_ANNOUNCED, len(self._pieces)))
            await self._send_batch(batch)

    async def send_with_commit(self, facts: Mapping[str, str]) -> httpx.Response:
        """Send the only part together with what its commit would say. Raises as `send`."""
        return await self._put(self._path, self._pieces[0], {"sha256": self.sha256, **facts})

    async def _send_batch(self, batch: range) -> None:
        fewest, in_vain = len(batch) + 1, 0
        while True:
            missing = [plan for plan in await self._plan(batch) if not plan.stored]
            in_vain = 0 if len(missing) < fewest else in_vain + 1
            fewest = min(fewest, len(missing))
            try:
                await for_each_part(self._send_part, missing)
                return
            except errors.DirectRefused:  # perhaps a URL has expired: a new plan has others
                if in_vain == TRIES - 1:
                    raise

    async def _plan(self, numbers: range) -> list[parts.PartPlan]:
        """Announce parts; gives for each whether it is stored, and where it goes if not."""
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

    async def _send_part(self, plan: parts.PartPlan) -> None:
        """Send a part as the coordinator plans: through it, or by a signed URL."""
        if plan.upload is None:
            await self._put_part(plan.number)
            return
        await self._connection.direct(
            "PUT",
            plan.upload.url,
            headers=plan.upload.headers,
            content=bytes(self._pieces[plan.number]),
            # The part is there: an earlier try got through, though its answer did not.
            fine=(httpx.codes.PRECONDITION_FAILED,),
        )

    async def _put_part(self, number: int) -> None:
        path = f"{self._path}/parts/{number}"
        await self._put(path, self._pieces[number], {"sha256": self.parts[number]})

    async def _put(self, path: str, piece: memoryview, params: dict[str, str]) -> httpx.Response:
        """PUT a piece, compressed where that was asked for and pays."""
        if self._gzip:
            smaller = await asyncio.to_thread(gzip.compress, piece, GZIP_LEVEL, mtime=0)
            if len(smaller) <= GZIP_PAYS * len(piece):
                try:
                    return await self._request(path, smaller, params, {"Content-Encoding": "gzip"})
                except errors.RequestRefused as error:
                    if not _may_refuse_gzip(error):
                        raise
                self._gzip = False  # something on the way does not let it through
        return await self._request(path, bytes(piece), params, {})

    async def _request(
        self, path: str, content: bytes, params: dict[str, str], headers: dict[str, str]
    ) -> httpx.Response:
        return await self._connection.request(
            "PUT",
            path,
            params=params,
            content=content,
            headers={"Content-Type": "application/octet-stream", **headers},
        )


def _may_refuse_gzip(error: errors.RequestRefused) -> bool:
    """Whether the coordinator, or a proxy, may have refused the gzip and not the content."""
    return error.status in (400, 415) or (error.status == 422 and error.code in _MANGLED)

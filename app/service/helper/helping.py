"""The helper's service: it tells a coordinator the sum of the masks of one sum a round.

What it must not forget is the digest of the sum that it has opened in each round, and its own key.
Both are one insert-if-absent in its store, which is durable before the helper answers.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from app.service.context import Context
from app.store.port import Documents
from serverless_fl.domain.errors import HelperRefused
from serverless_fl.privacy.secure.context import Refused
from serverless_fl.privacy.secure.helper import Helper, Sealed
from serverless_fl.privacy.secure.identity import Pins
from serverless_fl.privacy.secure.streams import COUNTS, WEIGHTS

_KEYS, _SUMS = "helper_keys", "helper_sums"  # kinds of documents
_ROUND_DIGITS = 7
SEQUENCES = {"weights": WEIGHTS, "counts": COUNTS}


async def helper_secret(documents: Documents) -> bytes:
    """The helper's secret key, made at the first start; who inserts it first makes it for all."""
    await documents.insert(_KEYS, "key", {"secret": secrets.token_hex(32)})
    found = await documents.get(_KEYS, "key")
    assert found is not None  # noqa: S101  (inserted by this call or by an earlier one)
    return bytes.fromhex(found.body["secret"])


class Helping:
    """Opens sums. `fewest` and `pins` are the operator's own.

    `most_bytes`: of words in one answer.
    """

    @classmethod
    async def of(
        cls,
        context: Context,
        fewest: int,
        pins: Pins | None,
        clock: Callable[[], float] = time.time,
    ) -> Helping:
        secret = await helper_secret(context.repo.documents)
        return cls(context, Helper(secret=secret, fewest=fewest, pins=pins), clock)

    def __init__(self, context: Context, helper: Helper, clock: Callable[[], float]) -> None:
        self.helper = helper
        self._documents = context.repo.documents
        self._most_bytes = context.limits.part_bytes
        self._clock = clock
        self._working = asyncio.Semaphore(1)  # the work is the processor's

    async def words(
        self, key: bytes, asked: Sealed, sequence: str, first: int, count: int
    ) -> bytes:
        """Give words that take the masks off the sum, at most `count`, from `first` on.

        `key` is the public key of the helper that is meant. Raises HelperRefused.
        """
        if key != self.helper.key:
            raise HelperRefused(
                f"The experiment names another helper: the key here is {self.helper.key.hex()}."
            )
        try:
            await self._settle(asked)
            number = SEQUENCES[sequence]
            width = asked.context.terms.bits // 8 if number == WEIGHTS else 8
            count = min(count, self._most_bytes // width)
            async with self._working:
                found = await asyncio.to_thread(self.helper.words, asked, number, first, count)
        except Refused as refused:
            raise HelperRefused(str(refused)) from refused
        return found.tobytes()

    async def _settle(self, asked: Sealed) -> None:
        """Make this the only sum of its round that the helper opens, durably. Raises Refused.

        A sum that it has opened is not checked again: a certificate may have run out meanwhile.
        """
        number = asked.context.round
        key = f"{asked.context.experiment}/{number:0{_ROUND_DIGITS}d}"
        found = await self._documents.get(_SUMS, key)
        if found is None:
            now = datetime.fromtimestamp(self._clock(), UTC)
            # Signatures and certificates of a large cohort take a tenth of a second.
            await asyncio.to_thread(self.helper.require, asked, now)
            if await self._documents.insert(_SUMS, key, {"digest": asked.digest}):
                return
            found = await self._documents.get(_SUMS, key)
        if found is None or found.body["digest"] != asked.digest:
            raise Refused(
                f"The helper has opened another sum of round {number}, and opens one a round: two "
                "sums tell the updates in which they differ."
            )

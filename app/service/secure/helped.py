"""The coordinator's half of the mode `helper`: it asks the helper for the sum of the masks.

The helper's words are added to the sum as if they were one more masked update; no masks are left
in it then. The helper gives the same words each time, so nothing of them is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.service.context import Context
from app.service.records.attempts import attempt_context
from serverless_fl.domain.errors import HelperRefused, HelperUnavailable
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import Update
from serverless_fl.domain.round import Round
from serverless_fl.privacy.secure.helper import Sealed, counts_size
from serverless_fl.privacy.secure.unmasking import counts_to_text


class Helped:
    """The sum of a round's masks, as the helper tells it.

    Methods raise HelperUnavailable, and HelperRefused where the helper does not open the sum.
    """

    @classmethod
    async def of(
        cls, context: Context, experiment: Experiment, round_: Round, updates: Sequence[Update]
    ) -> Helped:
        attempt = await attempt_context(context.repo, experiment, round_)
        try:
            asked = Sealed.of(attempt, {update.slot: update.seal for update in updates})
        except ValueError as error:
            raise HelperRefused(f"An update of round {round_.number} has no seal.") from error
        return cls(context, experiment.config.helper_key, asked)

    def __init__(self, context: Context, key: str, asked: Sealed) -> None:
        self._helper, self._key, self._asked = context.helper, key, asked

    async def counts(self) -> str:
        """What is to be added to the masked counts, in hexadecimal digits."""
        size = counts_size(self._asked.context.terms.metrics)
        return counts_to_text(await self._all("counts", np.dtype("<u8"), 0, size))

    async def words(self, first: int, count: int) -> np.ndarray:
        """What is to be added to the sum of the masked words from `first` on."""
        width = self._asked.context.terms.bits // 8
        return await self._all("weights", np.dtype(f"<u{width}"), first, count)

    async def _all(self, sequence: str, dtype: np.dtype, first: int, count: int) -> np.ndarray:
        found, place = np.empty(count, dtype), 0
        asked = {"helper": self._key, "sequence": sequence, **self._asked.plain}
        while place < count:
            some = await self._some(asked | {"first": first + place, "count": count - place}, dtype)
            if not 0 < some.size <= count - place:
                raise HelperUnavailable("The helper answered with another number of words.")
            found[place : place + some.size] = some
            place += some.size
        return found

    async def _some(self, asked: Mapping[str, Any], dtype: np.dtype) -> np.ndarray:
        if self._helper is None:
            raise HelperUnavailable("This coordinator has no helper: set FL_HELPER_URL.")
        data = await self._helper.words(dict(asked))
        if len(data) % dtype.itemsize:
            raise HelperUnavailable("The helper answered with a part of a word.")
        return np.frombuffer(data, dtype)

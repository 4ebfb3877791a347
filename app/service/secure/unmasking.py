"""Takes the masks off the sum of a round's updates.

The words are added as float64, in which their sum is exact. The streams that are left in the sum
can be computed from any place on, so each span of the model is unmasked alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import numpy as np

from app.service.context import Context
from app.service.files.readers import Values
from app.service.records.attempts import attempt_context
from app.service.secure import CannotUnmask
from app.service.secure.helped import Helped
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import PhaseAnswer, Update
from serverless_fl.domain.round import Round
from serverless_fl.privacy.secure.context import AttemptContext
from serverless_fl.privacy.secure.party import Answer
from serverless_fl.privacy.secure.recovery import left_over
from serverless_fl.privacy.secure.unmasking import Sum
from serverless_fl.weights import spans
from serverless_fl.weights.header import Layout


class Unmasking:
    """The sum of a round's updates: its counts, and the mean over each span."""

    @classmethod
    async def of(
        cls,
        context: Context,
        experiment: Experiment,
        round_: Round,
        updates: Sequence[Update],
        layout: Layout,
    ) -> Unmasking:
        """Raises CannotUnmask."""
        attempt = await attempt_context(context.repo, experiment, round_)
        if round_.helped:
            helped = await Helped.of(context, experiment, round_, updates)
            counts = [*(update.counts for update in updates), round_.helper_counts]
            try:
                return cls(Sum(attempt.terms, layout, (), counts), (), helped)
            except ValueError as error:
                raise CannotUnmask(f"Its masks cannot be taken off: {error}.") from error
        answers = await context.repo.phase_answers(round_)
        try:
            # To combine the shares of a large cohort takes seconds.
            made = partial(_sum, attempt, round_, updates, answers, layout)
            return cls(*await asyncio.to_thread(made))
        except ValueError as error:
            raise CannotUnmask(f"Its masks cannot be taken off: {error}.") from error

    def __init__(self, found: Sum, wrong: Collection[int], helped: Helped | None = None) -> None:
        self._sum, self._helped = found, helped
        self.counts = found.counts
        self.streams = found.streams
        self.wrong = tuple(sorted(wrong))  # slots whose shares did not fit the others'

    async def without(self, span: spans.Span, sums: np.ndarray, streams: slice) -> np.ndarray:
        """The sums of words over a span, float64 [elements], with some streams taken off."""
        return await asyncio.to_thread(self._sum.without, span, sums, streams)

    async def mean(
        self, span: spans.Span, sums: np.ndarray, base: Values, streams: slice
    ) -> np.ndarray:
        """The mean of the updates over a span, float64 [elements].

        `sums`: of their words, float64 [elements], with these streams left. `base`: the values that
        they were trained from. Raises HelperUnavailable, HelperRefused.
        """
        if self._helped is not None:
            first, masked = self._sum.words_of(span)
            if masked.any():
                sums = sums.copy()
                sums[masked] += await self._helped.words(first, int(masked.sum()))
        return await asyncio.to_thread(self._sum.mean, span, sums, base, streams)


def _sum(
    attempt: AttemptContext,
    round_: Round,
    updates: Sequence[Update],
    answers: Sequence[PhaseAnswer],
    layout: Layout,
) -> tuple[Sum, set[int]]:
    """The sum, and the slots that handed in wrong shares. Raises ValueError for shares that do not
    open it.
    """
    handed_in = {
        found.slot: Answer(_bytes_of(found.seeds), _bytes_of(found.keys)) for found in answers
    }
    summed = tuple(update.slot for update in updates)
    wrong = set[int]()
    streams = list(left_over(attempt, round_.cohort, summed, handed_in, wrong))
    return Sum(attempt.terms, layout, streams, [update.counts for update in updates]), wrong


def _bytes_of(shares: Mapping[int, str]) -> dict[int, bytes]:
    return {slot: bytes.fromhex(share) for slot, share in shares.items()}

"""The sum of masked updates, once the streams that are left in it are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from serverless_fl.privacy.secure.fixed_point import Counts, FixedPoint, decode_counts
from serverless_fl.privacy.secure.streams import COUNTS, Stream, apply_streams
from serverless_fl.privacy.secure.terms import Terms
from serverless_fl.weights import spans
from serverless_fl.weights.header import FLOATS, Layout


def places_of(layout: Layout) -> dict[str, int]:
    """Give the place of each floating-point tensor's first word in the whole vector of words.

    The tensors stand in the order of the model's file. Other tensors are not masked: they stay
    those of the base model.
    """
    places, place = {}, 0
    for tensor in layout.tensors:
        if tensor.dtype in FLOATS:
            places[tensor.name] = place
            place += tensor.count
    return places


class Sum:
    """The sum of masked updates of a model's layout. `masked_counts` are hexadecimal.

    Raises ValueError if the streams leave counts that are not those of a round.
    """

    def __init__(
        self,
        terms: Terms,
        layout: Layout,
        streams: Sequence[Stream],
        masked_counts: Sequence[str],
    ) -> None:
        self._point, self._streams = FixedPoint.of(terms), streams
        self._places = places_of(layout)
        words = np.zeros(1 + 2 * len(terms.metrics), "<u8")
        for text in masked_counts:
            words += counts_from_text(text)
        apply_streams(words, streams, sequence=COUNTS)
        self.counts: Counts = decode_counts(terms.metrics, words)

    def words_of(self, span: spans.Span) -> tuple[int, np.ndarray]:
        """Give the place of a span's first masked word, and which of its elements are masked.

        Masked words of a span follow one another, because tensors stand in the file's order.
        """
        masked, firsts = np.zeros(spans.elements(span), bool), list[int]()
        for elements, first in self._masked(span):
            masked[elements] = True
            firsts.append(first)
        return min(firsts, default=0), masked

    def _masked(self, span: spans.Span) -> Iterator[tuple[slice, int]]:
        """Yield the elements of each masked piece of a span, and the place of its first word."""
        place = 0
        for piece in span:
            stop = place + piece.last - piece.first
            first = self._places.get(piece.tensor.name)
            if first is not None:
                yield slice(place, stop), first + piece.first
            place = stop

    @property
    def streams(self) -> int:
        """The number of streams that are left in the sum."""
        return len(self._streams)

    def without(
        self, span: spans.Span, sums: np.ndarray, streams: slice = slice(None)
    ) -> np.ndarray:
        """Take some streams off the sums of words over a span, modulo 2^bits.

        `sums`: whole numbers in float64 [elements], as is the result. Elements that have no masks
        stay.
        """
        found, modulus = sums.copy(), 1 << self._point.bits
        for elements, first in self._masked(span):
            words = np.fmod(found[elements], modulus).astype(self._point.dtype)
            apply_streams(words, self._streams[streams], first=first)
            found[elements] = words
        return found

    def mean(
        self,
        span: spans.Span,
        sums: np.ndarray,
        base: Sequence[np.ndarray],
        streams: slice = slice(None),
    ) -> np.ndarray:
        """Give the mean of the updates over a span, float64 [elements].

        `sums`: of their words, as whole numbers in float64 [elements], in which these streams are
        left. `base`: the values that they were trained from, an array for each piece of the span.
        """
        words, found = self.without(span, sums, streams), np.concatenate([np.empty(0), *base])
        for elements, _ in self._masked(span):
            own = words[elements].astype(self._point.dtype)
            found[elements] += self._point.decode(own, self.counts.examples)
        return found


def counts_to_text(words: np.ndarray) -> str:
    """Write the words of counts, uint64, as 16 hexadecimal digits each."""
    return words.astype(">u8").tobytes().hex()


def counts_from_text(text: str) -> np.ndarray:
    """Read the words of counts. Raises ValueError for other texts."""
    return np.frombuffer(bytes.fromhex(text), ">u8").astype("<u8")

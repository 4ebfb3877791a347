"""Weights, counts and metrics as whole numbers modulo a power of two, so that sums are exact.

A party sends the change of each weight, clipped to a reach that all know, times its share of the
most examples that a party may have, in steps so small that the sum of all parties fits. It rounds
each value up or down at random, so the expectation is exact, and the errors of many parties cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serverless_fl.privacy.secure.terms import Terms

BITS = (16, 32)
METRIC_STEP = 2.0**-16  # of a metric in the sums
MAX_METRIC = 2.0**12  # a metric beyond it counts as this much
MAX_TOTAL = 1 << 34  # examples of all parties together: times the two above, they fit into 63 bits


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """How the change of a weight becomes a word of `bits` bits.

    `reach`: the largest change that counts. `parties`: the most that a round may have.
    `most_examples`: a party with more counts as one with so many.
    """

    bits: int
    reach: float
    parties: int
    most_examples: int

    @classmethod
    def of(cls, terms: Terms) -> FixedPoint:
        """Give that of an attempt's terms."""
        return cls(
            bits=terms.bits,
            reach=terms.max_weight_change,
            parties=terms.parties,
            most_examples=terms.most_examples,
        )

    @property
    def levels(self) -> int:
        """The word of the largest change of a party with the most examples."""
        return ((1 << (self.bits - 1)) - 1) // self.parties

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"<u{self.bits // 8}")

    def counted(self, examples: int) -> int:
        """Give the number of examples with which a party counts."""
        return min(examples, self.most_examples)

    def encode(self, changes: np.ndarray, examples: int, draw: np.random.Generator) -> np.ndarray:
        """Give the words of a party's changes, float64 [elements]; `draw` rounds at random.

        Raises ValueError for a change that is not finite.
        """
        if not np.isfinite(changes).all():
            raise ValueError("a weight is not finite")
        factor = self.levels * (self.counted(examples) / self.most_examples) / self.reach
        values = np.clip(changes, -self.reach, self.reach)
        values *= factor
        values += draw.random(values.size)
        np.floor(values, out=values)
        words: np.ndarray = values.astype(np.int64).astype(self.dtype)
        return words

    def decode(self, sums: np.ndarray, examples: int) -> np.ndarray:
        """Give the mean change, float64 [elements], of sums of words modulo 2^bits.

        `examples` are those of all parties in the sums, as `counted` gives them.
        """
        signed = sums.astype(f"<u{self.bits // 8}").view(f"<i{self.bits // 8}")
        wide = signed.astype(np.float64)
        return np.multiply(wide, self.reach / self.levels * (self.most_examples / examples))


@dataclass(frozen=True)
class Counts:
    """What the coordinator learns of a sum beside its weights: all examples, and mean metrics."""

    examples: int
    metrics: Mapping[str, float]


def encode_counts(names: Sequence[str], examples: int, metrics: Mapping[str, float]) -> np.ndarray:
    """Give the words of a party's counts, uint64 [1 + 2 * names].

    They are its examples, and for each name its examples if it has that metric, and the metric
    times these. Metrics of other names are left out.
    """
    words = [examples]
    for name in names:
        if name in metrics:
            value = min(max(float(metrics[name]), -MAX_METRIC), MAX_METRIC)
            words += [examples, round(value / METRIC_STEP) * examples]
        else:
            words += [0, 0]
    return np.array([word % (1 << 64) for word in words], np.uint64)


def decode_counts(names: Sequence[str], sums: np.ndarray) -> Counts:
    """Give the counts of sums modulo 2^64, uint64. Raises ValueError if they cannot be sums."""
    examples, *pairs = (int(word) for word in sums.view(np.int64))
    if not 0 < examples <= MAX_TOTAL or len(pairs) != 2 * len(names):
        raise ValueError("the counts are not those of a round")
    metrics = {}
    for name, having, total in zip(names, pairs[::2], pairs[1::2], strict=True):
        if not 0 <= having <= examples:
            raise ValueError("the counts are not those of a round")
        if having:
            metrics[name] = total * METRIC_STEP / having
    return Counts(examples, metrics)

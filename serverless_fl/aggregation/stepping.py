"""A strategy's step over a span: from flat arrays to the tensors of a model and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serverless_fl.aggregation.strategy import RoundFacts, Strategy
from serverless_fl.weights import spans
from serverless_fl.weights.deltas import LARGEST
from serverless_fl.weights.header import FLOATS, HALVES

Wrap = Callable[[spans.Step, spans.Piece], spans.Step]

_CHUNK = 1 << 18  # elements of one call of `step`; each of its arrays takes 2 MiB


def unwrapped(step: spans.Step, elements: spans.Piece) -> spans.Step:
    """Give the strategy's step itself."""
    return step


class StrategyFault(Exception):
    """The strategy computes weights that are no numbers."""


@dataclass(frozen=True)
class Stepped:
    """The new values of a span [elements], and those of each array of the state, float64."""

    weights: np.ndarray
    state: dict[str, np.ndarray]


def has_step(strategy: Strategy) -> bool:
    """Say whether a step does more than return the reduced weights."""
    return bool(strategy.state) or type(strategy).step is not Strategy.step


def step_span(
    strategy: Strategy,
    span: spans.Span,
    base: Sequence[np.ndarray],
    reduced: Mapping[str, np.ndarray],
    state: Mapping[str, Sequence[np.ndarray]],
    facts: RoundFacts,
    wrap: Wrap = unwrapped,
) -> Stepped:
    """Give the new values of a span, not yet rounded to the model's dtypes.

    `wrap` gives the step to take in place of the strategy's, over some elements of a tensor.

    `base` has a flat array for each piece of the span, and so has each array of `state`; arrays
    that `state` lacks begin at their initial value. `reduced` has the reduced weights [elements],
    float64, and companions; the weights are overwritten.
    Values beyond the finite ones of a tensor's dtype become the nearest finite ones; state has the
    dtypes of `serverless_fl.weights.encodings.state_layout`. Tensors of whole numbers keep their
    reduced values, and their state is 0.
    Raises StrategyFault if a new value is NaN.
    """
    new = reduced["weights"]
    found = Stepped(new, {name: np.zeros(new.size) for name in strategy.state})
    for number, place, some in _chunks(span):
        piece = span[number]
        before = {
            name: state[name][number][some].astype(np.float64)
            if name in state
            else np.full(place.stop - place.start, initial)
            for name, initial in strategy.state.items()
        }
        elements = spans.Piece(piece.tensor, piece.first + some.start, piece.first + some.stop)
        weights, after = wrap(strategy.step, elements)(
            base[number][some].astype(np.float64),
            {name: values[place] for name, values in reduced.items()},
            before,
            facts,
        )
        dtype = piece.tensor.dtype
        _store(strategy, piece, new[place], weights, LARGEST[dtype])
        for name, values in found.state.items():
            top = LARGEST["F32" if dtype in HALVES else dtype]
            _store(strategy, piece, values[place], after[name], top)
    return found


def _chunks(span: spans.Span) -> Iterator[tuple[int, slice, slice]]:
    """Yield chunks of the floating-point pieces: number, place in the span, place in the piece."""
    place = 0
    for number, piece in enumerate(span):
        count = piece.last - piece.first
        if piece.tensor.dtype in FLOATS:
            for start in range(0, count, _CHUNK):
                stop = min(start + _CHUNK, count)
                yield number, slice(place + start, place + stop), slice(start, stop)
        place += count


def _store(
    strategy: Strategy, piece: spans.Piece, out: np.ndarray, values: np.ndarray, top: float
) -> None:
    """Write values, none larger than `top`. Raises StrategyFault."""
    if np.isnan(values).any():
        raise StrategyFault(
            f"The strategy {strategy.name} computes NaN for tensor {piece.tensor.name[:80]!r}: "
            "lower its learning rate."
        )
    np.clip(values, -top, top, out=out)

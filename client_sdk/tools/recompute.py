"""Computes a round's model again, plainly: whole files in memory, one tensor after the other.

This shares no code with the coordinator's spans, stacks and stored sums, so that an error there
shows. Both use the rules of the strategies (`serverless_fl.aggregation`), the order of the updates
and the bracketing of their sum (`serverless_fl.domain.provenance`), and the form of the files
(`serverless_fl.weights`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from serverless_fl.aggregation.gram import rounded, sound
from serverless_fl.aggregation.stepping import has_step
from serverless_fl.aggregation.strategy import Reduction, RoundFacts, Strategy, UpdateFacts
from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import WEIGHTS
from serverless_fl.privacy import Mechanism, NormBound
from serverless_fl.privacy.noise import Noise
from serverless_fl.weights import codec, deltas, encodings, spans
from serverless_fl.weights.header import FLOATS, HALVES, Layout, TensorSpec, layout_of

Arrays = dict[str, np.ndarray]
_CLOSE = 1e-9  # of weights: Gram matrices of two machines differ in their last digits


@dataclass(frozen=True)
class Contributed:
    """An update of a round: what is known of it, its weight in the mean, and its values.

    `values` are float64, decoded and clipped.
    """

    facts: UpdateFacts
    weight: float
    values: Arrays


class Recomputed:
    """The files of a version, computed again from the updates in their groups.

    `base` is the model that the round began with, `start` the one that its clients trained from
    (both safetensors), and `state` the files of the state before, by name. `mechanism` may wrap the
    strategy's step, with `noise`. The files get the header of `written`, or the base model's.
    Raises BadWeights for files that do not fit together.
    """

    def __init__(
        self,
        strategy: Strategy,
        facts: RoundFacts,
        base: bytes,
        start: bytes,
        state: Mapping[str, bytes],
        groups: Sequence[Sequence[Contributed]],
        mechanism: Mechanism | None = None,
        noise: Noise | None = None,
        written: Layout | None = None,
    ) -> None:
        self._mechanism, self._noise = mechanism or NormBound(), noise
        self._strategy, self._facts, self._groups = strategy, facts, groups
        self._layout = layout_of(base)
        self._written = written or self._layout
        self._start = dict(codec.arrays(layout_of(start), start))
        self._before = {
            name: dict(codec.arrays(layout_of(data), data)) for name, data in state.items()
        }
        self._updates = [update for group in groups for update in group]
        if not sum(update.weight for update in self._updates) > 0:
            raise BadWeights("there are no updates with examples on record.")

    def weights_differ(self) -> str | None:
        """Say how the recorded weights differ from those of the strategy; None if they do not."""
        if not self._strategy.reduction.weighs_all:
            return None
        names = encodings.float_names(self._layout)
        changes = np.stack(
            [
                np.concatenate([u.values[n] - self._start[n] for n in names] or [np.empty(0)])
                for u in self._updates
            ]
        )
        gram = rounded(changes @ changes.T)
        found = sound(self._strategy.weights(gram, self._facts.updates))
        recorded = [update.weight for update in self._updates]
        for update, ours, theirs in zip(self._updates, found, recorded, strict=True):
            if not math.isclose(ours, theirs, rel_tol=_CLOSE, abs_tol=_CLOSE * max(found)):
                return (
                    f"client {update.facts.client} has the weight {theirs:.9g} on record, but the "
                    f"updates give {ours:.9g}"
                )
        return None

    def files(self) -> tuple[bytes, dict[str, bytes]]:
        """The model and the state's files, as the coordinator should have stored them."""
        new: Arrays = {}
        after: dict[str, Arrays] = {name: {} for name in self._strategy.state}
        for tensor in self._layout.tensors:
            name = tensor.name
            if tensor.dtype in FLOATS:
                stepped, state = self._step(tensor, self._reduce(name))
                new[name] = stepped
            else:
                dtype = self._start[name].dtype
                new[name] = _nearest(self._mean(name, whole_numbers=True), dtype)
                state = dict.fromkeys(after, np.zeros(tensor.count))
            for array, arrays in after.items():
                arrays[name] = state[array]
        wide = encodings.state_layout(self._written)
        files = {name: _file(wide, arrays) for name, arrays in after.items()}
        return _file(self._written, new), files

    def _reduce(self, name: str) -> np.ndarray:
        if not self._strategy.reduction.takes_columns:
            return self._mean(name)
        chosen = self._updates
        if self._strategy.reduction is Reduction.CHOSEN_COLUMNS:
            chosen = [update for update in chosen if update.weight > 0]
        columns, facts = np.stack([u.values[name] for u in chosen]), [u.facts for u in chosen]
        if columns.shape[1] == 1:  # NumPy sums the rows of one column in another order
            return self._strategy.reduce(np.repeat(columns, 2, axis=1), facts)[:1]
        return self._strategy.reduce(columns, facts)

    def _mean(self, name: str, *, whole_numbers: bool = False) -> np.ndarray:
        """The weighted mean: each group's sum, then the sum of these."""
        groups = [[u for u in group if u.weight > 0] for group in self._groups]
        if whole_numbers and self._strategy.reduction.takes_columns:
            groups = [[u for group in groups for u in group]]
        sums, totals = [], []
        for group in filter(None, groups):
            size = group[0].values[name].size
            sums.append(reduce(add, (u.values[name] * u.weight for u in group), np.zeros(size)))
            totals.append(reduce(add, (u.weight for u in group), 0))
        mean: np.ndarray = reduce(add, sums) / reduce(add, totals)
        return mean

    def _step(self, tensor: TensorSpec, reduced: np.ndarray) -> tuple[np.ndarray, Arrays]:
        strategy, name = self._strategy, tensor.name
        if not has_step(strategy) and not self._mechanism.wraps_step:
            return reduced, {}
        before = {
            array: self._before[array][name].astype(np.float64)
            if array in self._before
            else np.full(reduced.size, initial)
            for array, initial in strategy.state.items()
        }
        start, top = self._start[name].astype(np.float64), deltas.LARGEST[tensor.dtype]
        companions = {
            companion: self._mean(encodings.companion_name(companion, name))
            for companion in strategy.companions
        }
        everything = {"weights": reduced, **companions}
        elements = spans.Piece(tensor, 0, tensor.count)
        step = self._mechanism.wrap_step(strategy.step, elements, self._noise)
        new, after = step(start, everything, before, self._facts)
        most = deltas.LARGEST["F32" if tensor.dtype in HALVES else tensor.dtype]
        return np.clip(new, -top, top), {
            array: np.clip(after[array], -most, most) for array in strategy.state
        }


def _file(layout: Layout, values: Arrays) -> bytes:
    return layout.header + bytes(codec.pack(spans.whole(layout), values))


def trained(
    layout: Layout,
    start: bytes,
    data: bytes,
    encoding: str,
    scale: float,
    companions: Sequence[str] = (),
    own_start: bytes | None = None,
) -> Arrays:
    """An update's values and its companions', float64, decoded; the former clipped by `scale`.

    If the client trained from other weights than the round's `start`, `own_start`, its difference
    from those is added to the round's. Raises BadWeights.
    """
    base = dict(codec.arrays(layout_of(start), start))
    theirs = base if own_start is None else dict(codec.arrays(layout_of(own_start), own_start))
    own_layout = layout_of(data)
    encodings.require_same_form(encodings.update_layout(layout, encoding, companions), own_layout)
    values = dict(codec.arrays(own_layout, data))
    if encoding != WEIGHTS:
        values = _decoded(layout, theirs, values)
    found = {name: array.astype(np.float64) for name, array in values.items()}
    for name, before in base.items():
        if own_start is not None and before.dtype.kind == "f":
            found[name] = before.astype(np.float64) + (found[name] - theirs[name])
        if scale != 1.0 and before.dtype.kind == "f":
            wide = before.astype(np.float64)
            found[name] = wide + scale * (found[name] - wide)
    return found


def _decoded(layout: Layout, base: Arrays, values: Arrays) -> Arrays:
    """The weights of a delta."""
    names = encodings.float_names(layout)
    scales = values.pop(encodings.SCALES, np.ones(len(names)))
    dtypes = {tensor.name: tensor.dtype for tensor in layout.tensors}
    for name, scale in zip(names, scales, strict=True):
        added = base[name].astype(np.float64) + values[name].astype(np.float64) * float(scale)
        values[name] = np.clip(added, -deltas.LARGEST[dtypes[name]], deltas.LARGEST[dtypes[name]])
    return values


def _nearest(means: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The whole number next to each mean, ties to even, within the type's range.

    Of a type of 64 bits the largest is the largest float64 in its range, because a mean is one.
    """
    if dtype.kind == "b":
        return np.array([round(mean) == 1 for mean in means.tolist()])
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if int(float(high)) > high:
        high = int(math.nextafter(high, 0))
    return np.array([min(max(round(mean), low), high) for mean in means.tolist()], dtype)


def difference(ours: bytes, theirs: bytes) -> str | None:
    """The first difference of two files in words; None where they are the same bytes."""
    if ours == theirs:
        return None
    mine, found = layout_of(ours), layout_of(theirs)
    if mine.header != found.header:
        return "its header is not the initial model's, with the scales that were agreed"
    for (name, a), (_, b) in zip(
        codec.arrays(mine, ours), codec.arrays(found, theirs), strict=True
    ):
        wrong = np.flatnonzero(a.view(np.uint8) != b.view(np.uint8)) // a.itemsize
        if len(wrong):
            at = int(wrong[0])
            return (
                f"tensor {name!r} differs in {len(set(wrong.tolist()))} of {a.size} values, first "
                f"at {at}: {b[at]!r}, but the updates give {a[at]!r}"
            )
    return "the files differ"

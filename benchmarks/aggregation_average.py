"""FedAvg alone, as the coordinator feeds it: span by span, and of each span one update at a time.

    python -m benchmarks.aggregation_average MODEL UPDATES [--memory]

Prints JSON. Speed: bytes of updates a second, and those of `numpy.add(sums, update, out=sums)` over
float32 arrays which no cache holds, the same bytes, in turns: medians of as many rounds as make
some seconds. Memory: of a process of its own, what its peak is above that of Python with NumPy,
from the first update to the span's bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterable

import numpy as np

from app.aggregation import Strategy
from app.service.context import MIB, Limits
from app.service.running import strategies
from app.wire import codec, spans

POOL = 32 * MIB  # elements of distinct updates, 128 MiB: what is read again is in no cache by then
LEAST = 4 * 1024 * MIB  # bytes of updates in all
WARM = 4  # rounds of one update, after which the process has its memory from the system
MODELS = {
    # PyTorch's example network for MNIST.
    "22 thousand": [250, 10, 5000, 20, 16000, 50, 500, 10],
    # McMahan et al., arXiv:1602.05629: 5x5 convolutions of 32 and 64 channels, 512 units.
    "1.7 million": [800, 32, 51200, 64, 1605632, 512, 5120, 10],
    "25 million": [250_000] * 100,
    "100 million": [1_000_000] * 100,
}


def parameters(model: str) -> int:
    return sum(MODELS[model])


def spans_of(model: str) -> list[spans.Span]:
    """As the coordinator cuts a model of float32."""
    tensors, place = [], 0
    for number, size in enumerate(MODELS[model]):
        tensors.append(codec.TensorSpec(f"t{number}", "F32", (size,), place, place + 4 * size))
        place += 4 * size
    layout = codec.Layout(bytes(8 + 80 * len(tensors)), tuple(tensors), {})
    return spans.cut(layout, Limits().part_bytes)


class Updates:
    """Updates of a span, one after the other out of the pool: as the strategies get their values,
    once `app.service` has taken the store's bytes apart and dealt them out.
    """

    def __init__(self, span: spans.Span, pool: np.ndarray) -> None:
        self.pieces = spans.split(span, Limits().part_bytes)
        self.counts = [spans.counts(piece) for piece in self.pieces]
        self.size, base = sum(map(sum, self.counts)), span[0].start
        self.places, self._pool = len(pool) // self.size, pool
        runs = [list(spans.joined(piece)) for piece in self.pieces]
        self._runs = [
            [slice((r.start - base) // 4, (r.start + r.size - base) // 4) for r in each]
            for each in runs
        ]

    def slice(self, number: int) -> slice:
        """Where an update lies in the pool."""
        start = number % self.places * self.size
        return slice(start, start + self.size)

    def fold(self, numbers: Iterable[int]) -> list[Strategy]:
        """The sums of these updates, in memory of its own, as `app.service.running` has them."""
        made = strategies("fedavg", self.counts)
        for number in numbers:
            flat = self._pool[self.slice(number)]
            for strategy, runs in zip(made, self._runs, strict=True):
                strategy.add([flat[run] for run in runs], 1 + number % 9)
        return made


def speed(model: str, count: int) -> dict[str, float]:
    """Bytes a second: of FedAvg, and of `numpy.add`."""
    pool = np.random.default_rng(0).standard_normal(POOL, dtype=np.float32)
    sums = np.zeros_like(pool)
    cut = [Updates(span, pool) for span in spans_of(model)]
    size = 4 * parameters(model) * count
    for _ in range(WARM):
        _round(cut, pool, sums, range(1))
    rounds = range(0, max(1, LEAST // size) * count, count)
    seconds = [_round(cut, pool, sums, range(first, first + count)) for first in rounds]
    ours, theirs = (statistics.median(column) for column in zip(*seconds, strict=True))
    return {"ours": size / ours, "add": size / theirs}


def _round(
    cut: list[Updates], pool: np.ndarray, sums: np.ndarray, numbers: range
) -> tuple[float, float]:
    """Seconds of a round of these updates: ours, and those of `numpy.add`."""
    ours = theirs = 0.0
    for updates in cut:
        started = time.perf_counter()
        updates.fold(numbers)
        ours += time.perf_counter() - started
        started = time.perf_counter()
        for number in numbers:
            place = updates.slice(number)
            np.add(sums[place], pool[place], out=sums[place])
        theirs += time.perf_counter() - started
    return ours, theirs


def memory(model: str, count: int) -> dict[str, float]:
    """The peak in bytes above that of the process as it stands."""
    _average(spans_of("22 thousand")[0], 1)  # what is imported and set up but once
    before = resident("VmHWM")
    for span in spans_of(model):
        _average(span, count)
    return {"peak": resident("VmHWM") - before}


def _average(span: spans.Span, count: int) -> None:
    updates = Updates(span, np.ones(sum(spans.counts(span)), np.float32))
    made, pieces = updates.fold(range(count)), updates.pieces
    del updates  # as in `Fold`, the last one is gone when the mean is packed
    body = memoryview(bytearray(spans.size(span)))
    for piece, strategy in zip(pieces, made, strict=True):
        spans.pack_into(body, piece, spans.named(piece, *strategy.result()))
        body = body[spans.size(piece) :]


def resident(what: str) -> int:
    """VmRSS, or its peak VmHWM, in bytes. Linux only."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith(what)) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("updates", type=int)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    found = (memory if arguments.memory else speed)(arguments.model, arguments.updates)
    assert all(math.isfinite(value) for value in found.values())
    print(json.dumps(found))


if __name__ == "__main__":
    main()

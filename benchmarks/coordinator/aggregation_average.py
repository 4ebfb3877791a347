"""FedAvg alone, as the coordinator feeds it: span by span, and of each span one update at a time.

    python -m benchmarks.coordinator.aggregation_average MODEL UPDATES [--memory]

Prints JSON. Speed: bytes of updates a second, from memory that no cache holds; the median of as
many rounds as take some seconds. Memory: the peak of a process of its own above that of Python
with NumPy, from the first update to the span's bytes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable

import numpy as np

from app.service.limits import MIB, Limits
from serverless_fl.aggregation.mean import WeightedMean
from serverless_fl.weights import codec, spans
from serverless_fl.weights.header import Layout, TensorSpec

POOL = 32 * MIB  # elements of distinct updates, 128 MiB, more than any cache holds
LEAST = 4 * 1024 * MIB  # bytes of updates in all
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
        tensors.append(TensorSpec(f"t{number}", "F32", (size,), place, place + 4 * size))
        place += 4 * size
    layout = Layout(bytes(8 + 80 * len(tensors)), tuple(tensors), {})
    return spans.cut(layout, Limits().part_bytes)


class Updates:
    """Updates of one span, taken out of the pool one after the other, tensor by tensor."""

    def __init__(self, span: spans.Span, pool: np.ndarray) -> None:
        self.size, self._pool = spans.elements(span), pool
        self._places = len(pool) // self.size
        ends = np.cumsum([piece.last - piece.first for piece in span]).tolist()
        self._tensors = list(zip([0, *ends], ends, strict=False))

    def fold(self, numbers: Iterable[int]) -> WeightedMean:
        """The sums of these updates."""
        mean = WeightedMean(self.size)
        for number in numbers:
            start = number % self._places * self.size
            flat = self._pool[start : start + self.size]
            mean.add([flat[first:last] for first, last in self._tensors], 1 + number % 9)
        return mean


def speed(model: str, count: int) -> dict[str, float]:
    """Bytes of updates a second."""
    pool = np.random.default_rng(0).standard_normal(POOL, dtype=np.float32)
    cut = [Updates(span, pool) for span in spans_of(model)]
    size = 4 * parameters(model) * count
    rounds = [
        _round(cut, range(first, first + count))
        for first in range(0, max(1, LEAST // size) * count, count)
    ]
    return {"speed": size / statistics.median(rounds)}


def _round(cut: list[Updates], numbers: range) -> float:
    """The seconds of a round of these updates."""
    started = time.perf_counter()
    for updates in cut:
        updates.fold(numbers)
    return time.perf_counter() - started


def memory(model: str, count: int) -> dict[str, float]:
    """The peak in bytes above that of the process as it stands."""
    _average(spans_of("22 thousand")[0], 1)  # what is imported and set up but once
    before = resident("VmHWM")
    for span in spans_of(model):
        _average(span, count)
    return {"peak": resident("VmHWM") - before}


def _average(span: spans.Span, count: int) -> None:
    pool = np.ones(spans.elements(span), np.float32)
    mean = Updates(span, pool).fold(range(count))
    del pool  # the coordinator, too, has let go of the last update when it packs the mean
    codec.pack(span, spans.by_tensor(span, mean.result()))


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
    print(json.dumps(found))


if __name__ == "__main__":
    main()

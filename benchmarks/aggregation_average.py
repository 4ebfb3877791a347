"""FedAvg alone, as the coordinator feeds it: span by span, and of each span one update at a time.

    python -m benchmarks.aggregation_average MODEL UPDATES [--memory]

Prints JSON. Speed: bytes of updates a second, and those of `numpy.add(sums, update, out=sums)` over
float32 arrays which no cache holds, the same bytes, in turns. Memory: of a process of its own, what
its peak is above that of Python with NumPy, from the first update to the span's bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator

import numpy as np

from app.aggregation.fedavg import FedAvg
from app.service.context import MIB, Limits
from app.wire import codec, spans

POOL = 32 * MIB  # elements of distinct updates, 128 MiB: what is read again is in no cache by then
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
    """Updates of one span, the same few again and again, as the store's bytes are taken apart."""

    def __init__(self, span: spans.Span, pool: np.ndarray) -> None:
        self.size = sum(piece.last - piece.first for piece in span)
        self.places = max(1, len(pool) // self.size)
        self._pool, self._names, place = pool, [], 0
        for piece in span:
            stop = place + piece.last - piece.first
            self._names.append((piece.tensor.name, place, stop))
            place = stop

    def slice(self, number: int) -> slice:
        start = number % self.places * self.size
        return slice(start, start + self.size)

    def values(self, number: int) -> Iterator[tuple[str, np.ndarray]]:
        flat = self._pool[self.slice(number)]
        return ((name, flat[start:stop]) for name, start, stop in self._names)


def speed(model: str, count: int) -> dict[str, float]:
    """Bytes a second: of FedAvg, and of `numpy.add`."""
    pool = np.random.default_rng(0).standard_normal(POOL, dtype=np.float32)
    sums = np.zeros_like(pool)
    ours = theirs = 0.0
    _average(spans_of(model)[0], 1)  # as `sums`, the process has had its memory from the system
    for span in spans_of(model):
        updates, strategy = Updates(span, pool), FedAvg()
        started = time.perf_counter()
        for number in range(count):
            strategy.add(updates.values(number), 1 + number % 9)
        ours += time.perf_counter() - started
        started = time.perf_counter()
        for number in range(count):
            place = updates.slice(number)
            np.add(sums[place], pool[place], out=sums[place])
        theirs += time.perf_counter() - started
    total = 4 * parameters(model) * count
    return {"ours": total / ours, "add": total / theirs}


def memory(model: str, count: int) -> dict[str, float]:
    """The peak in bytes above that of the process as it stands."""
    _average(spans_of("22 thousand")[0], 1)  # what is imported and set up but once
    before = resident("VmHWM")
    for span in spans_of(model):
        _average(span, count)
    return {"peak": resident("VmHWM") - before}


def _average(span: spans.Span, count: int) -> None:
    updates = Updates(span, np.ones(sum(p.last - p.first for p in span), np.float32))
    strategy = FedAvg()
    for number in range(count):
        strategy.add(updates.values(number), 1)
    del updates  # as in `Fold`, the last one is gone when the mean is packed
    spans.pack(span, strategy.result())


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

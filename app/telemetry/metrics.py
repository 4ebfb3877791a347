"""Counters and histograms of this process, and Prometheus' text format for them.

https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4). This module does not
use Prometheus' client library, because importing that slows a cold start down and the format is
short (docs/decisions/0016). Only the event loop's thread may change a counter.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]


class Counter:
    """A number that only grows. `labels` are the names of the label values that `add` takes."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name, self.text, self.labels = name, text, labels
        self.values: dict[Labels, float] = {} if labels else {(): 0.0}

    def add(self, amount: float = 1.0, *labels: str) -> None:
        self.values[labels] = self.values.get(labels, 0.0) + amount

    def total(self) -> float:
        """Give the sum over all labels."""
        return sum(self.values.values())

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.text, "counter")
        for labels, value in self.values.items():
            yield _sample(self.name, zip(self.labels, labels, strict=True), value)


class Histogram:
    """The distribution of values over buckets; `bounds` are the buckets' upper bounds."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> None:
        self.name, self.text, self.labels, self.bounds = name, text, labels, bounds
        self.counts: dict[Labels, list[int]] = {}
        self.sums: dict[Labels, float] = {}

    def observe(self, value: float, *labels: str) -> None:
        counts = self.counts.get(labels)
        if counts is None:
            counts = self.counts[labels] = [0] * (len(self.bounds) + 1)
            self.sums[labels] = 0.0
        counts[bisect_left(self.bounds, value)] += 1
        self.sums[labels] += value

    def total(self) -> float:
        """Give the sum of all values, over all labels."""
        return sum(self.sums.values())

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.text, "histogram")
        bounds = [*(_number(bound) for bound in self.bounds), "+Inf"]
        for labels, counts in self.counts.items():
            named, seen = list(zip(self.labels, labels, strict=True)), 0
            for bound, count in zip(bounds, counts, strict=True):
                seen += count
                yield _sample(f"{self.name}_bucket", [*named, ("le", bound)], seen)
            yield _sample(f"{self.name}_sum", named, self.sums[labels])
            yield _sample(f"{self.name}_count", named, seen)


def gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Iterator[str]:
    """Write the lines of a gauge, a metric whose values the caller looks up for each scrape."""
    yield from _head(name, text, "gauge")
    for key, value in values.items():
        yield _sample(name, [(label, key)] if label else (), value)


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{inner}}} {_number(value)}" if inner else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

REQUESTS = Counter("fl_requests_total", "Requests answered", "method", "route", "status")
REQUEST_SECONDS = Histogram(
    "fl_request_seconds", "Time from a request's head to its answer's end", FAST, "method", "route"
)
ROUNDS_CLOSED = Counter("fl_rounds_closed_total", "Rounds that this process closed")
UPDATES_ACCEPTED = Counter("fl_updates_accepted_total", "Updates that this process stored")
UPDATES_REFUSED = Counter(
    "fl_updates_refused_total", "Updates refused, by the problem's code", "code"
)
AGGREGATION_SECONDS = Histogram(
    "fl_aggregation_step_seconds", "Time of one call's share of an aggregation", SLOW
)
AGGREGATION_BYTES = Counter("fl_aggregation_bytes_total", "Bytes of averaged updates")
AGGREGATION_CELLS = Counter("fl_aggregation_cells_total", "Finished cells of aggregations")
STORE_SECONDS = Histogram(
    "fl_store_operation_seconds", "Time of one call of the store", FAST, "operation", "adapter"
)
STORE_FAILURES = Counter(
    "fl_store_failures_total", "Calls of the store that failed", "operation", "adapter"
)
ALL: tuple[Counter | Histogram, ...] = (
    REQUESTS,
    REQUEST_SECONDS,
    ROUNDS_CLOSED,
    UPDATES_ACCEPTED,
    UPDATES_REFUSED,
    AGGREGATION_SECONDS,
    AGGREGATION_BYTES,
    AGGREGATION_CELLS,
    STORE_SECONDS,
    STORE_FAILURES,
)


def render(gauges: Iterable[str] = ()) -> str:
    """Write all metrics as text, followed by the lines of `gauges`."""
    lines = [line for metric in ALL for line in metric.lines()]
    return "\n".join([*lines, *gauges, ""])

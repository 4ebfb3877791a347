"""CloudWatch's embedded metric format: CloudWatch reads metrics from a log line.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
It needs no call and no permission, because Lambda sends a function's output to CloudWatch anyway.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from app.telemetry import metrics as m

NAMESPACE: Final = "ServerlessFL"


def _failures() -> float:
    return sum(value for (_, _, status), value in m.REQUESTS.values.items() if status >= "500")


_METRICS: dict[str, tuple[str, Callable[[], float]]] = {
    "Requests": ("Count", m.REQUESTS.total),
    "RequestFailures": ("Count", _failures),
    "RequestSeconds": ("Seconds", m.REQUEST_SECONDS.total),
    "RoundsClosed": ("Count", m.ROUNDS_CLOSED.total),
    "UpdatesAccepted": ("Count", m.UPDATES_ACCEPTED.total),
    "UpdatesRefused": ("Count", m.UPDATES_REFUSED.total),
    "AggregationSeconds": ("Seconds", m.AGGREGATION_SECONDS.total),
    "AggregationBytes": ("Bytes", m.AGGREGATION_BYTES.total),
    "StoreSeconds": ("Seconds", m.STORE_SECONDS.total),
    "StoreFailures": ("Count", m.STORE_FAILURES.total),
}


class Embedded:
    """The counts of this container since its last line."""

    def __init__(self, **dimensions: str) -> None:
        self._dimensions = dimensions
        self._last = _totals()

    def line(self, at: float, **properties: str) -> str | None:
        """Give a log line with the growth since the last one, or None if nothing grew.

        `at`: seconds since 1970. An operator can search the log for `properties`. They are no
        dimensions, because AWS charges for each value of a dimension as a metric.
        """
        now = _totals()
        grown = {name: now[name] - self._last[name] for name in now if now[name] > self._last[name]}
        self._last = now
        if not grown:
            return None
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [list(self._dimensions)],
            "Metrics": [{"Name": name, "Unit": _METRICS[name][0]} for name in grown],
        }
        about = {"Timestamp": int(at * 1000), "CloudWatchMetrics": [directive]}
        return json.dumps({"_aws": about, **properties, **self._dimensions, **grown})


def _totals() -> dict[str, float]:
    return {name: total() for name, (_, total) in _METRICS.items()}

"""An estimate of what a run's calls would have cost on AWS Lambda behind its HTTP API.

The prices are a table to edit, client_sdk/prices.json, which says of when and from where they are.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from client_sdk.connection import Traffic

MEMORY_MB = 1024
LEFT_OUT = (
    "Not in it: the database and the blob store, cold starts, logs, the free tier, and what was "
    "called before a run was resumed."
)


@dataclass(frozen=True)
class Prices:
    """List prices in `currency`; sizes in bytes, 1 GB of data is 10**9 bytes."""

    as_of: str
    note: str
    region: str
    architecture: str
    currency: str
    lambda_per_million_requests: float
    lambda_per_gb_second: float
    http_api_per_million_requests: float
    http_api_metered_bytes: int
    data_out_per_gb: float
    sources: list[str]

    @classmethod
    def load(cls) -> Prices:
        """The table that comes with the SDK."""
        text = files("client_sdk").joinpath("prices.json").read_text(encoding="utf-8")
        return cls(**json.loads(text))


def estimate(
    traffic: Traffic, prices: Prices | None = None, memory_mb: int = MEMORY_MB
) -> dict[str, Any]:
    """What the traffic would cost, item by item and in all.

    Lambda counts milliseconds, begun ones in full, and GB of 1024 MB. Where the coordinator gave
    its own time of a request (Server-Timing), that is counted, else the time until the client had
    the answer, which is more. The HTTP API counts a call anew for each 512 KB; both directions are
    taken together here, which is more as well.
    """
    prices = prices or Prices.load()
    requests = traffic.api_requests
    ms = 1000 * traffic.api_seconds / requests if requests else 0.0
    gb_seconds = requests * math.ceil(ms) / 1000 * memory_mb / 1024
    calls = traffic.metered_calls(prices.http_api_metered_bytes)
    items = {
        "lambda_requests": requests / 1e6 * prices.lambda_per_million_requests,
        "lambda_gb_seconds": gb_seconds * prices.lambda_per_gb_second,
        "http_api_calls": calls / 1e6 * prices.http_api_per_million_requests,
        "data_out": traffic.received / 1e9 * prices.data_out_per_gb,
    }
    return {
        "kind": "estimate",
        "total": sum(items.values()),
        "currency": prices.currency,
        "items": items,
        "requests": requests,
        "http_api_calls": calls,
        "ms_per_request": ms,
        "ms_measured_by": "the coordinator" if traffic.timed_by_server else "the client",
        "memory_mb": memory_mb,
        "gb_seconds": gb_seconds,
        "bytes_in": traffic.sent,
        "bytes_out": traffic.received,
        "region": prices.region,
        "architecture": prices.architecture,
        "prices_as_of": prices.as_of,
        "note": f"{prices.note} {LEFT_OUT}",
        "sources": prices.sources,
    }


def sentence(cost: dict[str, Any]) -> str:
    """The estimate for a person."""
    return (
        f"on AWS Lambda and its HTTP API this would have cost about {cost['total']:.4f} "
        f"{cost['currency']} (an estimate: {cost['requests']} requests of "
        f"{cost['ms_per_request']:.0f} ms by {cost['ms_measured_by']}'s clock at "
        f"{cost['memory_mb']} MB, list prices of {cost['prices_as_of']})"
    )

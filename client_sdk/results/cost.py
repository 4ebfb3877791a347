"""An estimate of what a run's calls would have cost on AWS Lambda behind its HTTP API.

The prices are a table to edit, serverless_fl/domain/prices.json, which names their date and their
source.
"""

from __future__ import annotations

import math
from typing import Any

from client_sdk.api.traffic import Traffic
from serverless_fl.domain.prices import BadPrices, Prices, Usage, billed, describe
from serverless_fl.wire.views import CostView

__all__ = ["BadPrices", "Prices", "estimate", "sentence"]

LEFT_OUT = (
    "Not in it: the database and the blob store, cold starts, logs, the free tier, and what was "
    "called before a run was resumed. `coordinator` is its own estimate, derived from its records, "
    "which has all clients and the whole of the experiment."
)


def estimate(
    traffic: Traffic, prices: Prices | None = None, coordinator: CostView | None = None
) -> dict[str, Any]:
    """What the traffic would cost, item by item and in all.

    Lambda bills milliseconds, begun ones in full, and GB of 1024 MB. A request's time is the
    coordinator's own (Server-Timing) where it gave that, else the time until the client had the
    answer, which is longer. The HTTP API bills a call anew for each 512 KB; here both directions
    count together, which is more than it bills. `coordinator` is the coordinator's own estimate.
    """
    prices = prices or Prices.load()
    requests = traffic.api_requests
    ms = 1000 * traffic.api_seconds / requests if requests else 0.0
    calls = traffic.metered_calls(prices.http_api_metered_bytes)
    usage = Usage(requests=requests, http_api_calls=calls, bytes_out=traffic.received)
    cost = billed(usage, requests * math.ceil(ms) / 1000, prices)
    return {
        "kind": "estimate",
        "total": cost.usd,
        "items": cost.items,
        "requests": requests,
        "http_api_calls": calls,
        "ms_per_request": ms,
        "ms_measured_by": "the coordinator" if traffic.timed_by_server else "the client",
        "gb_seconds": cost.gb_seconds,
        "bytes_in": traffic.sent,
        "bytes_out": traffic.received,
        **describe(prices),
        "note": f"{prices.note} {LEFT_OUT}",
        "sources": prices.sources,
        "coordinator": coordinator.model_dump(mode="json") if coordinator else None,
    }


def sentence(cost: dict[str, Any]) -> str:
    """The estimate for a person."""
    sentence_ = (
        f"on AWS Lambda and its HTTP API this would have cost about {cost['total']:.4f} "
        f"{cost['currency']} (an estimate: {cost['requests']} requests of "
        f"{cost['ms_per_request']:.0f} ms by {cost['ms_measured_by']}'s clock at "
        f"{cost['memory_mb']} MB, list prices of {cost['prices_as_of']})"
    )
    own = cost["coordinator"]
    if not own:
        return sentence_
    return f"{sentence_}; the coordinator estimates {own['usd']:.4f} USD"

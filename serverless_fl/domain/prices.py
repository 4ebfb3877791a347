"""What calls would cost on AWS Lambda behind its HTTP API: a table of prices, and arithmetic.

Both sides use it: the coordinator for what it derives from its records, the SDK for what it counted
itself. The table is `prices.json` beside this file, or another of the same form (FL_PRICES).
Standard library only.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("prices.json")


class BadPrices(ValueError):
    """A table of prices that cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """List prices in US dollars, and what is assumed of a call where it was not measured.

    `data_out_per_gb` is of 10**9 bytes; Lambda's GB-second is of 1024 MB. `request_ms` is what a
    call takes, `ms_per_mb` what each 10**6 bytes through the coordinator add to it.
    """

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
    memory_mb: int
    request_ms: float
    ms_per_mb: float
    sources: list[str]

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), str(field.type)
            fine = isinstance(value, {"str": str, "list[str]": list}.get(kind, int | float))
            if kind in ("int", "float"):
                fine = fine and not isinstance(value, bool) and 0 <= value < math.inf
            if not fine or (kind == "int" and value < 1):
                raise BadPrices(f"{field.name} must not be {value!r}")
        if self.currency != "USD":
            raise BadPrices(f"currency must be USD, as budgets are, not {self.currency!r}")

    @classmethod
    def load(cls, path: Path | None = None) -> Prices:
        """The table in a file; without one, ours. Raises BadPrices."""
        path = path or TABLE
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            return cls(**table)
        except (OSError, ValueError, TypeError) as error:
            raise BadPrices(f"The price table {path} cannot be used: {error}.") from error


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Calls and what they move. Of an estimate the counts are fractions, so that they add up.

    `http_api_calls` are `requests` as the HTTP API meters them: anew for each 512 KB. `ticks` are
    invocations by a schedule, which the HTTP API does not see. `bytes_direct` went out of the blob
    store itself.
    """

    requests: float = 0.0
    http_api_calls: float = 0.0
    ticks: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    bytes_direct: float = 0.0
    aggregation_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in _FIELDS})

    def __mul__(self, times: float) -> Usage:
        return Usage(**{f.name: getattr(self, f.name) * times for f in _FIELDS})


_FIELDS = fields(Usage)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """An amount in US dollars, `usd`, and what it is made of, `items`."""

    usd: float
    items: dict[str, float]
    gb_seconds: float


def priced(usage: Usage, prices: Prices) -> Cost:
    """What this would cost, with the assumed time of each call."""
    seconds = (usage.requests + usage.ticks) * prices.request_ms / 1000
    seconds += (usage.bytes_in + usage.bytes_out) / 1e6 * prices.ms_per_mb / 1000
    return billed(usage, seconds + usage.aggregation_seconds, prices)


def billed(usage: Usage, seconds: float, prices: Prices) -> Cost:
    """What this costs where the calls took so many seconds in all."""
    gb_seconds = seconds * prices.memory_mb / 1024
    invocations = usage.requests + usage.ticks
    items = {
        "lambda_requests": invocations / 1e6 * prices.lambda_per_million_requests,
        "lambda_gb_seconds": gb_seconds * prices.lambda_per_gb_second,
        "http_api_calls": usage.http_api_calls / 1e6 * prices.http_api_per_million_requests,
        "data_out": (usage.bytes_out + usage.bytes_direct) / 1e9 * prices.data_out_per_gb,
    }
    return Cost(usd=sum(items.values()), items=items, gb_seconds=gb_seconds)


def dollars(amount: float) -> str:
    """An amount for people, in so many digits that a small one is not nothing: `0.0022 USD`."""
    if 0 < amount < 1e-6:
        return f"{amount:.1g} USD"
    return f"{amount:.{2 if amount >= 1 else 4 if amount >= 0.001 or not amount else 6}f} USD"


def describe(prices: Prices) -> dict[str, Any]:
    """Of when and where the prices are, for whoever is shown an amount."""
    return {
        "currency": prices.currency,
        "region": prices.region,
        "architecture": prices.architecture,
        "memory_mb": prices.memory_mb,
        "prices_as_of": prices.as_of,
    }

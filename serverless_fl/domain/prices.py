"""The cost of calls on AWS Lambda behind its HTTP API: a table of prices, and arithmetic.

The coordinator prices the calls that it derives from its records; the SDK prices the calls that it
counted. The table is `prices.json` beside this file, or a file of the same form (FL_PRICES).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("prices.json")


class BadPrices(ValueError):
    """The table of prices is unusable; the message names its fault."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """List prices in US dollars, and an assumed duration of calls that nobody measured.

    `data_out_per_gb` counts 10**9 bytes as a GB, Lambda's GB-second counts 1024 MB. A call takes
    `request_ms`, and `ms_per_mb` more for each 10**6 bytes that it moves through the coordinator.
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
        """Read the table in a file; without one, the table beside this module. Raises BadPrices."""
        path = path or TABLE
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            return cls(**table)
        except (OSError, ValueError, TypeError) as error:
            raise BadPrices(f"The price table {path} cannot be used: {error}.") from error


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Calls and the bytes that they move. The counts of an estimate are fractions.

    The HTTP API meters a request as one call for each 512 KB of it: `http_api_calls`. `ticks` are
    invocations by a schedule, which do not pass the HTTP API. Clients downloaded `bytes_direct`
    from the blob store itself.
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
    """An amount in US dollars, `usd`, and its parts by name, `items`."""

    usd: float
    items: dict[str, float]
    gb_seconds: float


def priced(usage: Usage, prices: Prices) -> Cost:
    """Give the cost of calls whose duration the table assumes."""
    seconds = (usage.requests + usage.ticks) * prices.request_ms / 1000
    seconds += (usage.bytes_in + usage.bytes_out) / 1e6 * prices.ms_per_mb / 1000
    return billed(usage, seconds + usage.aggregation_seconds, prices)


def billed(usage: Usage, seconds: float, prices: Prices) -> Cost:
    """Give the cost of calls that took `seconds` in all."""
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
    """Write an amount for people, with enough digits for a small one: `0.0022 USD`."""
    if 0 < amount < 1e-6:
        return f"{amount:.1g} USD"
    return f"{amount:.{2 if amount >= 1 else 4 if amount >= 0.001 or not amount else 6}f} USD"


def describe(prices: Prices) -> dict[str, Any]:
    """Give the date, the region and the machine of the prices, to show beside an amount."""
    return {
        "currency": prices.currency,
        "region": prices.region,
        "architecture": prices.architecture,
        "memory_mb": prices.memory_mb,
        "prices_as_of": prices.as_of,
    }

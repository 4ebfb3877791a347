"""The metrics that people read: their order, and the form of their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from serverless_fl.domain.metrics import is_rate

if TYPE_CHECKING:  # `compare` writes figures without PyTorch
    from client_sdk.simulation.outcome import Row

_FIRST = ("accuracy", "loss")


def names_of(rows: Iterable[Row]) -> list[str]:
    """The names of the rows' metrics: accuracy, loss, then the others in their own order."""
    found = dict.fromkeys(name for row in rows for name in row.metrics)
    return [n for n in _FIRST if n in found] + [n for n in found if n not in _FIRST]


def number(name: str, value: float | None) -> str:
    """A metric's value: a rate in per cent, a loss with four decimals."""
    if value is None:
        return ""
    if is_rate(name):
        return f"{value:.2%}"
    return f"{value:.4f}" if abs(value) < 1000 or name == "loss" else f"{value:.4g}"


def in_words(metrics: Mapping[str, float]) -> str:
    """Metrics as a part of a sentence: `accuracy 97.10%, loss 0.1000`."""
    order = [n for n in _FIRST if n in metrics] + [n for n in metrics if n not in _FIRST]
    return ", ".join(f"{name} {number(name, metrics[name])}" for name in order)

"""Turns a trainer's metrics into what the coordinator takes: names and finite floats.

A user's trainer may give NumPy scalars, tensors or None. A metric that cannot be sent is left out,
and its update is sent all the same.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

from client_sdk.errors import DataError
from serverless_fl.domain.metrics import MAX_METRIC, MAX_METRICS, METRIC_NAME, metric_fault

_NAME = re.compile(METRIC_NAME)


def clean(metrics: object) -> tuple[dict[str, float], list[str]]:
    """The metrics that can be sent, as floats, and a sentence for each one that is left out."""
    if metrics is None:
        return {}, []
    if not isinstance(metrics, Mapping):
        return {}, [f"The metrics are no mapping of names to numbers but {_kind(metrics)}."]
    kept: dict[str, float] = {}
    dropped, endless = [], []
    for name, value in metrics.items():
        number = number_of(value)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            dropped.append(
                f"The metric {str(name)[:64]!r} is left out: a name has 1 to 64 letters, digits "
                "and the signs _ . : -"
            )
        elif number is None:
            dropped.append(f"The metric {name!r} is left out: {_kind(value)} is no number.")
        elif not abs(number) <= MAX_METRIC:  # so NaN, too
            endless.append(f"{name} ({number:g})")
        elif (reason := metric_fault(name, number)) is not None:
            dropped.append(f"The metric {name!r} is left out: {reason}.")
        elif len(kept) == MAX_METRICS:
            dropped.append(
                f"The metric {name!r} is left out: {MAX_METRICS} is the most of an update."
            )
        else:
            kept[name] = number
    if endless:  # all of them where a training has diverged: one sentence for all
        dropped.append(f"Not finite, so left out of the metrics: {', '.join(endless)}.")
    return kept, dropped


def whole(value: Any, what: str) -> int:
    """A whole number, of any type that can be one, as an int; `what` names it. Raises DataError."""
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"The trainer's {what} must be a whole number, not {_kind(value)}."
        ) from error


def number_of(value: Any) -> float | None:
    """A number of any library, or an array or tensor of one number, as a float; None for others."""
    if value is None or isinstance(value, str | bytes | bytearray):
        return None
    try:
        if callable(getattr(value, "item", None)):
            value = value.item()
        return None if isinstance(value, complex | str | bytes) else float(value)
    except OverflowError:
        return float("inf")
    except Exception:  # a user's own type may raise anything
        return None


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

"""The span of a request: below the caller's, or in the trace of the round that it is of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from serverless_fl import tracing

_OF_A_ROUND = re.compile(r"/experiments/([^/]+)/rounds/(\d{1,7})/")


def request_span(
    method: str, path: str, headers: Iterable[tuple[bytes, bytes]]
) -> AbstractContextManager[Any]:
    """Open the span of a request, below the caller's span if it sent one (W3C Trace Context).

    What a caller without a span sends for a round (an update, a part of a phase) belongs to the
    round's trace. What it reads does not.
    """
    if not tracing.is_on():
        return tracing.NOTHING
    sent = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in (b"traceparent", b"tracestate")
    }
    found = _OF_A_ROUND.search(path) if method in ("POST", "PUT") else None
    round_ = (found[1], int(found[2])) if found else None
    return tracing.server_span(method, sent, round_)


def describe_request(found: Any, method: str, route: str | None, status: int) -> None:
    """Name a request's span by its route (OpenTelemetry's semantic conventions for HTTP)."""
    if found is None:
        return
    found.set_attribute("http.request.method", method)
    found.set_attribute("http.response.status_code", status)
    if route is not None:
        found.set_attribute("http.route", route)
        found.update_name(f"{method} {route}")
    if status >= 500:
        from opentelemetry.trace import StatusCode

        found.set_status(StatusCode.ERROR)

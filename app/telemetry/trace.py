"""OpenTelemetry spans, if an operator asks for them; without that, nothing is imported or done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

SECONDS = 2  # to send spans, unless a variable of OpenTelemetry's sets another timeout
_NOTHING: AbstractContextManager[Any] = nullcontext()
_provider: Any = None
_tracer: Any = None


def is_on() -> bool:
    """Say whether spans are sent."""
    return _tracer is not None


def span(name: str, **attributes: str | int | float) -> AbstractContextManager[Any]:
    """Open a span around the block. Gives the span, or None if traces are off."""
    if _tracer is None:
        return _NOTHING
    named = {f"fl.{key}": value for key, value in attributes.items()}
    return _tracer.start_as_current_span(name, attributes=named)  # type: ignore[no-any-return]


def request_span(
    method: str, headers: Iterable[tuple[bytes, bytes]]
) -> AbstractContextManager[Any]:
    """Open the span of a request, below the caller's span if it sent one (W3C Trace Context)."""
    return _NOTHING if _tracer is None else _server_span(method, headers)


@contextmanager
def _server_span(method: str, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[Any]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in (b"traceparent", b"tracestate")
    }
    parent = TraceContextTextMapPropagator().extract(carrier) if carrier else None
    with _tracer.start_as_current_span(method, context=parent, kind=SpanKind.SERVER) as found:
        yield found


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


def start(endpoint: str, version: str) -> None:
    """Send spans to an OTLP endpoint over HTTP; this adds `/v1/traces` to the address.

    OpenTelemetry's own variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER,
    OTEL_EXPORTER_OTLP_HEADERS) hold. Raises RuntimeError if the endpoint is no such address, or if
    the extra `otel` is not installed.
    """
    if not _is_address(endpoint):
        raise RuntimeError(
            "FL_OTEL_ENDPOINT (or OTEL_EXPORTER_OTLP_ENDPOINT) is no http:// or https:// address "
            "of an OTLP collector, such as http://localhost:4318."
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise RuntimeError(
            f"FL_OTEL_ENDPOINT needs OpenTelemetry: {sys.executable} -m pip install "
            "'serverless-fl[server,otel]'."
        ) from error
    # A call on a serverless platform ends only after its spans are sent, or dropped.
    named = any(f"OTEL_EXPORTER_OTLP_{what}TIMEOUT" in os.environ for what in ("", "TRACES_"))
    exporter = OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=None if named else SECONDS
    )
    trace_with(BatchSpanProcessor(exporter), version)


def _is_address(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def trace_with(processor: Any, version: str = "") -> None:
    """Give all spans to this processor of OpenTelemetry's SDK."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    global _provider, _tracer  # noqa: PLW0603  (a process has one, like `logging`)
    named: Mapping[str, str] = {"service.name": "serverless-fl", "service.version": version}
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are merged last, so that they win.
    from opentelemetry.sdk.resources import OTELResourceDetector

    _provider = TracerProvider(
        resource=Resource.create(dict(named)).merge(OTELResourceDetector().detect())
    )
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("app", version)


def flush() -> None:
    """Send the waiting spans, because a serverless platform runs nothing between two calls."""
    if _provider is not None:
        _provider.force_flush(SECONDS * 1000)


def stop() -> None:
    """Send the waiting spans, and switch traces off."""
    global _provider, _tracer  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None

"""OpenTelemetry spans of both sides, if somebody asks for them; else nothing is imported or done.

A round is one trace. Its id and its first span's follow from the experiment's id and the round's
number, so that the spans of all clients and of any number of coordinator processes are in it
without a word between them.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

SECONDS = 2  # to send spans, unless a variable of OpenTelemetry's sets another timeout
NOTHING: AbstractContextManager[Any] = nullcontext()
_provider: Any = None
_tracer: Any = None
_fixed_ids: ContextVar[tuple[int, int] | None] = ContextVar("_fixed_ids", default=None)


def is_on() -> bool:
    """Say whether spans are sent."""
    return _tracer is not None


def span(name: str, **attributes: str | int | float) -> AbstractContextManager[Any]:
    """Open a span around the block. Gives the span, or None if traces are off."""
    if _tracer is None:
        return NOTHING
    return _tracer.start_as_current_span(name, attributes=_named(attributes))  # type: ignore[no-any-return]


def round_span(
    name: str, experiment: str, number: int, **attributes: str | int | float
) -> AbstractContextManager[Any]:
    """Open a span in the trace of a round.

    Within another span of that trace it is below that one; else it is below the round's first
    span, and linked to the span that is open.
    """
    if _tracer is None:
        return NOTHING
    from opentelemetry import trace

    open_ = trace.get_current_span().get_span_context()
    first = _first_span(experiment, number)
    within = open_.trace_id == first.trace_id
    return _tracer.start_as_current_span(  # type: ignore[no-any-return]
        name,
        context=None if within else trace.set_span_in_context(trace.NonRecordingSpan(first)),
        attributes=_named({"experiment": experiment, "round": number, **attributes}),
        links=[trace.Link(open_)] if open_.is_valid and not within else (),
    )


def server_span(
    method: str, sent: Mapping[str, str], round_: tuple[str, int] | None
) -> AbstractContextManager[Any]:
    """Open the span of a request, below the span that the caller `sent` in its headers.

    Where it sent none, a request that is of a round (experiment and number) is in that one's trace.
    Traces must be on.
    """
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = None
    if sent:
        parent = TraceContextTextMapPropagator().extract(sent)
    elif round_ is not None:
        parent = trace.set_span_in_context(trace.NonRecordingSpan(_first_span(*round_)))
    return _tracer.start_as_current_span(  # type: ignore[no-any-return]
        method, context=parent, kind=trace.SpanKind.SERVER
    )


def record_round(
    experiment: str, number: int, began: float, ended: float, **attributes: str | int | float
) -> None:
    """Record the first span of a round's trace, once it is closed. Times: seconds of the epoch."""
    if _tracer is None:
        return
    from opentelemetry.context import Context

    token = _fixed_ids.set(_ids_of(experiment, number))
    try:
        first = _tracer.start_span(
            "round",
            context=Context(),
            start_time=int(began * 1e9),
            attributes=_named({"experiment": experiment, "round": number, **attributes}),
        )
    finally:
        _fixed_ids.reset(token)
    first.end(end_time=int(ended * 1e9))


def headers() -> dict[str, str]:
    """Give the headers of a request that put the receiver's span below the one that is open."""
    found: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(found)
    return found


def _named(attributes: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    return {f"fl.{key}": value for key, value in attributes.items()}


def _ids_of(experiment: str, number: int) -> tuple[int, int]:
    """Give the ids of a round's trace (128 bits) and of its first span (64 bits)."""
    digest = hashlib.sha256(f"{experiment}/{number}".encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


def _first_span(experiment: str, number: int) -> Any:
    """Give the context of a round's first span, which this or another process records.

    The sampler decides by the trace's id, so that processes with the same sampler agree.
    """
    from opentelemetry.sdk.trace.sampling import Decision
    from opentelemetry.trace import SpanContext, TraceFlags

    trace_id, span_id = _ids_of(experiment, number)
    decided = _provider.sampler.should_sample(None, trace_id, "round").decision
    flags = TraceFlags.SAMPLED if decided is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))


def start(endpoint: str, version: str, service: str, extras: str) -> None:
    """Send spans to an OTLP endpoint over HTTP; this adds `/v1/traces` to the address.

    OpenTelemetry's own variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER,
    OTEL_EXPORTER_OTLP_HEADERS) hold. Raises RuntimeError if the endpoint is no such address, or if
    the `extras` of this package are not installed, such as "server,otel".
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
            f"'serverless-fl[{extras}]'."
        ) from error
    # A call on a serverless platform ends only after its spans are sent, or dropped.
    named = any(f"OTEL_EXPORTER_OTLP_{what}TIMEOUT" in os.environ for what in ("", "TRACES_"))
    exporter = OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=None if named else SECONDS
    )
    trace_with(BatchSpanProcessor(exporter), version, service)


def _is_address(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def trace_with(processor: Any, version: str = "", service: str = "serverless-fl") -> None:
    """Give all spans to this processor of OpenTelemetry's SDK."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random ids, except for the first span of a round."""

        def generate_trace_id(self) -> int:
            fixed = _fixed_ids.get()
            return super().generate_trace_id() if fixed is None else fixed[0]

        def generate_span_id(self) -> int:
            fixed = _fixed_ids.get()
            return super().generate_span_id() if fixed is None else fixed[1]

    global _provider, _tracer  # noqa: PLW0603  (a process has one, like `logging`)
    named = Resource.create({"service.name": service, "service.version": version})
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are merged last, so that they win.
    _provider = TracerProvider(
        resource=named.merge(OTELResourceDetector().detect()), id_generator=Ids()
    )
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("serverless_fl", version)


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

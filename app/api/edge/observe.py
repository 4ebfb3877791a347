"""One log line, one count and one span for each request."""

from __future__ import annotations

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry import ids, metrics, trace
from app.telemetry.logs import DEBUG, INFO, log_event

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
QUIET = ("/health", "/ready", "/metrics")  # machines ask them all day long: logged as debug
UNMATCHED = "none"  # the metrics' route of a request that matched none, or was refused earlier


class Observed:
    """ASGI middleware outside of the guard, so that it sees refusals, too.

    It logs a request's route and not its path, because the path may hold any text. It logs only ids
    that the store knows.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A server may give all requests the same state, so this request gets a copy.
        scope = {**scope, "state": dict(scope.get("state", {}))}
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        status, sent, received, started = 500, 0, 0, perf_counter()

        def working_seconds() -> float:
            known = ids.current()
            return perf_counter() - started - (known.held if known else 0.0)

        async def send_counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                timing = b"total;dur=%.2f" % (1000 * working_seconds())
                message["headers"] = [*message["headers"], (b"server-timing", timing)]
            sent += len(message.get("body", b""))
            await send(message)

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        with trace.request_span(method, scope["path"], scope["headers"]) as span:
            try:
                await self.app(scope, receive_counted, send_counted)
            finally:
                seconds = working_seconds()
                route = getattr(scope.get("route"), "path", None)
                trace.describe_request(span, method, route, status)
                metrics.REQUESTS.add(1, method, route or UNMATCHED, str(status))
                metrics.REQUEST_SECONDS.observe(seconds, method, route or UNMATCHED)
                known = ids.current()
                log_event(
                    "request",
                    DEBUG if route in QUIET and status < 500 else INFO,
                    method=method,
                    route=route,
                    status=status,
                    code=None if known is None else known.code,
                    person=None if known is None else known.person,
                    held=round(known.held, 2) if known and known.held else None,
                    milliseconds=round(seconds * 1000, 2),
                    bytes_in=received,
                    bytes_out=sent,
                    round=_round_of(scope),
                )


def _round_of(scope: Scope) -> int | None:
    """Give the number of the round in the path, for the log; None for any other text."""
    route, number = scope.get("route"), scope.get("path_params", {}).get("number", "")
    if "/rounds/{number}" not in getattr(route, "path", ""):
        return None
    return int(number) if number.isdecimal() and number.isascii() and len(number) <= 7 else None

"""Events of AWS's gateways and load balancers, for Mangum.

Mangum knows the events' shapes. This file handles four things that Mangum takes on trust: a Host
header that it cannot split, headers that come twice, the caller's address behind a load balancer,
and the path that a stage or a domain puts before the coordinator's own path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from mangum.handlers import ALB, APIGateway, HTTPGateway
from mangum.types import LambdaConfig, LambdaContext, LambdaEvent, LambdaHandler, Response, Scope

from app.api.edge.certificates import PASSED, PLATFORM
from app.api.edge.prefix import strip_base

_SHAPES: tuple[type[LambdaHandler], ...] = (ALB, HTTPGateway, APIGateway)
_READ_HERE = ("host", "x-forwarded-port")
_ROOTS = ("/v1/", "/static/")
_PAGES = ("", "/", "/docs", "/docs/", "/health", "/ready", "/openapi.json")


def is_request(event: object) -> bool:
    """Say whether an event is an HTTP request."""
    return isinstance(event, dict) and isinstance(event.get("requestContext"), dict)


class AnyRequest:
    """Mangum's handler for an HTTP request of any gateway."""

    def __init__(self, event: LambdaEvent, context: LambdaContext, config: LambdaConfig) -> None:
        self.event = event
        shape = next(s for s in _SHAPES if s.infer(event, context, config))
        self.shape = shape(_without_host(event), context, config)

    @classmethod
    def infer(cls, event: LambdaEvent, context: LambdaContext, config: LambdaConfig) -> bool:
        return any(shape.infer(event, context, config) for shape in _SHAPES)

    @property
    def body(self) -> bytes:
        found: bytes = self.shape.body
        return found

    @property
    def scope(self) -> Scope:
        scope: dict[str, Any] = dict(self.shape.scope)
        headers = [
            (name.lower().encode("utf-8", "replace"), value.encode("utf-8", "replace"))
            for name, value in _headers(self.event)
        ]
        known = dict(headers)
        scope["headers"] = headers
        scope["server"] = ("lambda", 443)
        scheme = known.get(b"x-forwarded-proto", b"https").decode("latin-1")
        scope["scheme"] = scheme if scheme in ("http", "https") else "https"
        if isinstance(self.shape, ALB):
            # The load balancer adds the last address; the caller may have written the others.
            forwarded = known.get(b"x-forwarded-for", b"").decode("latin-1")
            scope["client"] = (forwarded.rpartition(",")[2].strip(), 0)
        scope["state"] = {
            PLATFORM: isinstance(self.shape, ALB),  # callers of other gateways write any header
            PASSED: _client_certificate(self.event),
        }
        scope["base_path"] = _base_path(self.event, scope["path"])
        return scope

    def __call__(self, response: Response) -> dict[str, Any]:
        found: dict[str, Any] = self.shape(response)
        return found


def _headers(event: LambdaEvent) -> Iterator[tuple[str, str]]:
    """Yield each header, as often as it came if the event says so."""
    several = event.get("multiValueHeaders")
    if several:
        for name, values in several.items():
            for value in values or ():
                yield str(name), str(value)
        return
    for name, value in (event.get("headers") or {}).items():
        yield str(name), str(value)


def _client_certificate(event: LambdaEvent) -> str | None:
    """Give the certificate (PEM) of an API Gateway's mutual TLS; None if there is none.

    An event of version 2.0 has it under `authentication`, one of version 1.0 under `identity`.
    """
    for name in ("authentication", "identity"):
        found = event["requestContext"].get(name)
        if isinstance(found, dict) and isinstance(shown := found.get("clientCert"), dict):
            return str(shown.get("clientCertPem") or "") or None
    return None


def _without_host(event: LambdaEvent) -> LambdaEvent:
    """Give the event without Host, because Mangum splits it at a colon and expects a number."""
    kept = dict(event)
    for field in ("headers", "multiValueHeaders"):
        if event.get(field):
            kept[field] = {k: v for k, v in event[field].items() if k.lower() not in _READ_HERE}
        elif field == "headers":
            kept[field] = {}
    return kept


def _base_path(event: LambdaEvent, path: str) -> str:
    """Give the path before the coordinator's own path; "" if there is none.

    An event of a REST API names the coordinator's own path: its resource `{proxy+}` has matched it.
    An HTTP API puts its stage before the path, but not under a custom domain, so this function
    looks at the path. No event names other prefixes, such as the mapping of a custom domain:
    FL_BASE_PATH sets them.
    """
    resource = event.get("resource")
    if resource == "/":
        return path.rstrip("/")
    if resource and (proxy := (event.get("pathParameters") or {}).get("proxy")):
        own = "/" + unquote(proxy).strip("/")
        whole = path.rstrip("/")
        return whole.removesuffix(own) if whole.endswith(own) else ""
    stage = event["requestContext"].get("stage")
    if not stage or stage == "$default" or resource:
        return ""
    within = strip_base(f"/{stage}", path)
    if within is None or not (within in _PAGES or within.startswith(_ROOTS)):
        return ""
    return f"/{stage}"

"""A small API Gateway: plain HTTP in front of Lambda's runtime interface emulator.

The gateway turns a request into an HTTP API event (payload format 2.0), posts it to one of the
emulators, and turns the function's answer into the response.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

import httpx
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response

from examples.gateway import Call, Pool, gateway

MAX_BYTES = 6 * 1024**2  # Lambda's limit for a synchronous call's request and answer, as JSON
SECONDS = 29  # the function's timeout in template.yaml
INVOKE = "/2015-03-31/functions/function/invocations"


def http_api(call: Call) -> dict[str, Any]:
    """Give the HTTP API event (2.0) of a request."""
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": call.path,
        "rawQueryString": call.query,
        "headers": call.headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": call.headers.get("host", "localhost"),
            "http": {
                "method": call.method,
                "path": call.path,
                "protocol": "HTTP/1.1",
                "sourceIp": call.caller,
                "userAgent": call.headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": bool(call.body),
    }
    if call.query:
        event["queryStringParameters"] = dict(parse_qsl(call.query, keep_blank_values=True))
    if call.body:
        event["body"] = base64.b64encode(call.body).decode()
    return event


def response_of(answer: dict[str, Any]) -> Response:
    """Give the HTTP response of a function's answer, in any of the gateways' formats."""
    body = answer.get("body") or ""
    content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    several = answer.get("multiValueHeaders") or {}
    headers = {name: ",".join(values) for name, values in several.items()}
    return Response(content, answer["statusCode"], headers=headers | (answer.get("headers") or {}))


def create_app(
    emulators: Sequence[str], event_of: Callable[[Call], dict[str, Any]] = http_api
) -> Starlette:
    """Make a gateway to the emulators at these URLs; `event_of` makes the events."""

    async def forward(call: Call, pool: Pool) -> Response:
        payload = json.dumps(event_of(call)).encode()
        if len(payload) > MAX_BYTES:
            return JSONResponse({"message": "Request Entity Too Large"}, 413)
        try:
            answer = await pool.invoke(payload)
        except httpx.TimeoutException:
            return JSONResponse({"message": "Service Unavailable"}, 503)
        found = json.loads(answer.content) if len(answer.content) <= MAX_BYTES else {}
        if "statusCode" not in found:
            return JSONResponse({"message": "Internal Server Error"}, 502)
        return response_of(found)

    return gateway([url + INVOKE for url in emulators], forward, timeout=SECONDS + 1)

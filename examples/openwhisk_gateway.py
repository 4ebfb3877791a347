"""A small OpenWhisk controller: plain HTTP in front of Docker actions.

The gateway turns a request into an activation of a raw web action, as OpenWhisk's WebActions.scala
does, with OpenWhisk's default limits. It turns the action's result into the response.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response

from examples.gateway import Call, Pool, gateway

MAX_BYTES = 1024**2  # the limit of a payload and of a result, as JSON
# The types that akka-http knows as text; the controller passes them on as they are. It passes
# application/json in base64, like binary types.
TEXT = ("text/", "application/x-www-form-urlencoded", "application/javascript", "application/xml")
SECONDS = 60  # the limit of a blocking call; later the caller gets the activation's id


def arguments(call: Call) -> dict[str, Any]:
    """Give the arguments of a raw web action for a request."""
    found: dict[str, Any] = {
        "__ow_method": call.method.lower(),
        "__ow_path": call.path,
        "__ow_query": call.query,
        "__ow_headers": call.headers,
    }
    if call.body:
        kind = call.headers.get("content-type", "").lower()
        plain = kind.startswith(TEXT) or kind.split(";")[0].endswith("+xml")
        found["__ow_body"] = (
            call.body.decode("utf-8", "replace") if plain else base64.b64encode(call.body).decode()
        )
    return found


def response_of(result: dict[str, Any]) -> Response:
    """Give the HTTP response of an action's result."""
    headers, body = result.get("headers") or {}, result.get("body") or ""
    plain = headers.get("content-type", "").startswith("text/")
    content = body.encode() if plain else base64.b64decode(body)
    return Response(content, result.get("statusCode", 200), headers=headers)


class RateLimit:
    """Lets `per_minute` invocations through in each minute of the clock."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.time) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._minute, self._count = 0, 0

    def seconds_to_wait(self) -> int:
        """Count one invocation. Gives 0, or the seconds until the next invocation may pass."""
        minute, second = divmod(self._clock(), 60)
        if minute != self._minute:
            self._minute, self._count = int(minute), 0
        if self._count >= self.per_minute:
            return int(60 - second) + 1
        self._count += 1
        return 0


def create_app(
    actions: Sequence[str], bound: Mapping[str, str], rate: RateLimit | None = None
) -> Starlette:
    """Make a gateway to initialised actions at these URLs; `bound` are their bound parameters."""

    async def forward(call: Call, pool: Pool) -> Response:
        if rate is not None and (seconds := rate.seconds_to_wait()):
            return JSONResponse(
                {"error": f"Too many requests in the last minute (allowed: {rate.per_minute})."},
                429,
                headers={"Retry-After": str(seconds)},
            )
        args = {**bound, **arguments(call)}
        if len(json.dumps(args)) > MAX_BYTES:
            return JSONResponse({"error": f"Request larger than allowed: {MAX_BYTES} bytes."}, 413)
        activation = secrets.token_hex(16)
        try:
            answer = await pool.invoke(
                json.dumps({"value": args, "activation_id": activation}).encode()
            )
        except httpx.TimeoutException:
            return JSONResponse({"error": "Response not yet ready.", "code": activation}, 202)
        if len(answer.content) > MAX_BYTES:
            return JSONResponse({"error": "The action produced a response that is too large."}, 502)
        if not answer.is_success:
            return JSONResponse({"error": "There was an error processing your request."}, 400)
        return response_of(answer.json())

    return gateway([f"{url}/run" for url in actions], forward, timeout=SECONDS)

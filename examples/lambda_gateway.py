"""A small API Gateway: plain HTTP in front of Lambda's runtime interface emulator.

    uvicorn examples.lambda_gateway:app

Each request becomes an HTTP API event (payload format 2.0), is posted to one of the emulators
named in EMULATORS (a comma-separated list of URLs), and the function's answer becomes the
response. An emulator takes one invocation at a time, as a Lambda container does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MAX_BYTES = 6 * 1024**2  # what Lambda takes and gives in one synchronous call, as JSON
INVOKE = "/2015-03-31/functions/function/invocations"


def event_of(request: Request, body: bytes) -> dict[str, Any]:
    """The HTTP API event (2.0) of a request."""
    path, query = request.scope["raw_path"].decode(), request.scope["query_string"].decode()
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": request.headers.get("host", "localhost"),
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.client.host if request.client else "127.0.0.1",
                "userAgent": request.headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": bool(body),
    }
    if query:
        event["queryStringParameters"] = dict(parse_qsl(query, keep_blank_values=True))
    if body:
        event["body"] = base64.b64encode(body).decode()
    return event


def response_of(answer: dict[str, Any]) -> Response:
    """The HTTP response of a function's answer."""
    body = answer.get("body") or ""
    content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    return Response(content, answer["statusCode"], headers=answer.get("headers") or {})


async def forward(request: Request) -> Response:
    payload = json.dumps(event_of(request, await request.body())).encode()
    if len(payload) > MAX_BYTES:
        return JSONResponse({"message": "Request Entity Too Large"}, 413)
    emulator = await request.app.state.free.get()
    try:
        answer = await request.app.state.http.post(emulator + INVOKE, content=payload)
    finally:
        request.app.state.free.put_nowait(emulator)
    found = answer.json()
    if "statusCode" not in found or len(answer.content) > MAX_BYTES:
        return JSONResponse({"message": "Internal Server Error"}, 502)
    return response_of(found)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    app.state.free = asyncio.Queue()
    for url in os.environ["EMULATORS"].split(","):
        app.state.free.put_nowait(url.rstrip("/"))
    async with httpx.AsyncClient(timeout=60, trust_env=False) as app.state.http:
        yield


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
app = Starlette(routes=[Route("/{path:path}", forward, methods=METHODS)], lifespan=lifespan)

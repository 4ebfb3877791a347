"""Cold starts of the Lambda entry and of a bare FastAPI hello, each in a process of its own."""

from __future__ import annotations

import asyncio
import compileall
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx

import app
import benchmarks
import serverless_fl
from app.config import Settings
from app.main import create_app
from benchmarks.coordinator.platforms import model, start
from client_sdk.api.client import CoordinatorClient
from examples.containers import LocalMongo

KEY = secrets.token_hex(16)
# What runs: one event, and a line that says that it is answered. pyOpenSSL and cryptography, which
# PyMongo would load, come with what developers install and are not in the image.
_CALL = """
import sys
sys.modules["OpenSSL"] = sys.modules["cryptography"] = None
from {module} import handler
import json, types
answer = handler(json.loads(sys.argv[1]), types.SimpleNamespace(aws_request_id="x"))
print(answer["statusCode"], flush=True)
if {heavy}:
    print(*sorted({{"torch", "numpy", "boto3"}} & sys.modules.keys()), flush=True)
"""


def event(path: str, token: str = "") -> str:
    """What an HTTP API hands to its function (payload format 2.0)."""
    http = {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}
    return json.dumps(
        {
            **{"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": ""},
            "headers": {"authorization": f"Bearer {token}", "host": "x"},
            "requestContext": {"http": http, "stage": "$default"},
            "isBase64Encoded": False,
        }
    )


def once(module: str, asked: str, environment: dict[str, str], heavy: bool = False) -> float:
    """Seconds from the start of Python to the answer."""
    code = _CALL.format(module=module, heavy=heavy)
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code, asked],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = (line for line in process.stdout if not line.startswith("{"))  # log lines are JSON
        status = next(lines, "nothing")
        seconds = time.perf_counter() - started
        loaded = next(lines, "").strip() if heavy else ""
    if status.strip() != "200":
        raise SystemExit(f"{module} answered {status!r}")
    if loaded:
        raise SystemExit(f"{module} has loaded {loaded} for a poll")
    return seconds


async def _client(url: str) -> tuple[str, str]:
    """A running experiment and the token of a client of it."""
    application = create_app(Settings(mongodb_url=url, admin_key=KEY, log_level="warning"))
    transport = httpx.ASGITransport(application)
    async with (
        application.router.lifespan_context(application),
        CoordinatorClient("http://here", KEY, transport=transport) as admin,
    ):
        experiment, _, (client, _) = await start(admin, model(0, 1024))
        assert client.connection.key is not None
        return experiment, client.connection.key


def cold(starts: int) -> dict[str, list[float]]:
    """Seconds of so many starts of each kind, taken in turn."""
    for package in (app, serverless_fl, benchmarks):
        compileall.compile_dir(str(Path(package.__file__).parent), quiet=2)
    found: dict[str, list[float]] = {"hello": [], "health": [], "poll": []}
    with LocalMongo() as mongo:
        experiment, token = asyncio.run(_client(mongo.url))
        ours = {"MONGODB_URL": mongo.url, "FL_ADMIN_KEY": KEY}
        poll = event(f"/v1/experiments/{experiment}/status", token)
        once("app.entry.aws_lambda", poll, ours, heavy=True)
        once("benchmarks.coordinator.bare", event("/hello"), {})
        for _ in range(starts):
            found["hello"].append(once("benchmarks.coordinator.bare", event("/hello"), {}))
            found["health"].append(once("app.entry.aws_lambda", event("/health"), ours))
            found["poll"].append(once("app.entry.aws_lambda", poll, ours))
    return found


def milliseconds(values: list[float]) -> str:
    return f"{1000 * statistics.median(values):.0f} ms"

"""Apache OpenWhisk: `main(args)` of a raw web action, and the server of a Docker action.

    uvicorn app.entry.openwhisk:action --host 0.0.0.0 --port 8080

The Docker action answers `/init` and `/run` itself (docs/actions-new.md of OpenWhisk), so it needs
no proxy, and no process for each call. The settings are parameters bound to the action, with the
names of the environment's variables (MONGODB_URL, FL_ADMIN_KEY and so on). They arrive with every
call; the first call's settings open the application.
"""

from __future__ import annotations

import app.entry.cold_start  # noqa: F401  # isort: skip  (before all that takes long)

import asyncio
import base64
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from mangum import Mangum
from mangum.types import LambdaConfig, LambdaContext, LambdaEvent, Response, Scope
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.api.edge.errors import RETRY_AFTER_SECONDS, problem
from app.config import Settings, read_settings
from app.entry.container import Container, platform_settings
from app.telemetry.logs import ERROR, log_event
from serverless_fl.domain.errors import StoreUnavailable

PART_BYTES = 512 * 1024  # OpenWhisk takes 1 MiB in a payload or a result, after base64
NOBODY = "0.0.0.0"  # noqa: S104  (an unknown caller, not an interface)  # nosec B104
AGAIN = {"Retry-After": str(RETRY_AFTER_SECONDS)}
END_OF_LOG = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"


class RawWebAction:
    """Mangum's handler for a raw web action's arguments and result."""

    def __init__(self, event: LambdaEvent, context: LambdaContext, config: LambdaConfig) -> None:
        self.event = event
        self.config = config

    @classmethod
    def infer(cls, event: LambdaEvent, context: LambdaContext, config: LambdaConfig) -> bool:
        return "__ow_method" in event

    @property
    def body(self) -> bytes:
        return _body(self.event)

    @property
    def scope(self) -> Scope:
        headers = _headers(self.event)
        # The body of a result is a string, so it cannot hold a compressed text.
        headers.pop("accept-encoding", None)
        # OpenWhisk's proxy adds the last address; the caller may have written the others.
        forwarded = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        path = self.event.get("__ow_path") or "/"
        scheme = headers.get("x-forwarded-proto", "https")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "http_version": "1.1",
            "method": self.event["__ow_method"].upper(),
            "headers": [
                (k.encode("latin-1", "replace"), v.encode("latin-1", "replace"))
                for k, v in headers.items()
            ],
            "path": unquote(path),
            "raw_path": path.encode("utf-8", "replace"),
            "root_path": "",
            "scheme": scheme if scheme in ("http", "https") else "https",
            "query_string": (self.event.get("__ow_query") or "").encode("utf-8", "replace"),
            "server": ("openwhisk", 443),
            "client": (forwarded or NOBODY, 0),
            "extensions": {},
        }

    def __call__(self, response: Response) -> dict[str, Any]:
        """Give the action's result: a text as it is, any other body in base64.

        OpenWhisk's controller decodes the base64 of other types, but not the base64 of a text.
        """
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in response["headers"]}
        content = response["body"]
        text = headers.get("content-type", "").startswith("text/")
        body = content.decode() if text else base64.b64encode(content).decode()
        return {"statusCode": response["status"], "headers": headers, "body": body}


# The types that akka-http knows as text; the controller passes such a body on as it is. A type
# whose bodies cannot be taken for base64 (they begin with `{` or `<`) need not be listed.
_TEXT = ("text/", "application/x-www-form-urlencoded", "application/javascript", "application/xml")


def _body(event: LambdaEvent) -> bytes:
    """Give the request's body.

    It comes in base64 for binary types and application/json, and as it is for text
    (WebActions.scala, extractEntityAndProcessRequest).
    """
    body = event.get("__ow_body") or ""
    if not isinstance(body, str):  # the action is not raw, so the controller parsed the body
        return json.dumps(body).encode()
    kind = _headers(event).get("content-type", "").strip().lower()
    if not kind.startswith(_TEXT):
        with suppress(ValueError):
            return base64.b64decode(body, validate=True)
    return body.encode("utf-8", "replace")


def _headers(event: LambdaEvent) -> dict[str, str]:
    return {k.lower(): str(v) for k, v in (event.get("__ow_headers") or {}).items()}


def settings_of(args: dict[str, Any]) -> Settings:
    """Read the settings that are bound to the action. Raises RuntimeError if one is missing."""
    settings = read_settings({name: args[name] for name in args if _is_setting(name)})
    if settings.mongodb_url is None or settings.admin_key is None:
        raise RuntimeError(
            "On OpenWhisk each container has a disk and a memory of its own: bind MONGODB_URL and "
            "FL_ADMIN_KEY to the action (wsk action update ... --param NAME VALUE)."
        )
    return settings.model_copy(update=platform_settings(settings, PART_BYTES))


def _is_setting(name: str) -> bool:
    return name.startswith("FL_") or name in ("MONGODB_URL", "OTEL_EXPORTER_OTLP_ENDPOINT")


_opened: list[tuple[Container, Mangum]] = []  # empty until the first call brings the settings


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Answer one activation: a web request, or (without `__ow_method`) the alarm's tick.

    Raises RuntimeError if the action is not a raw one, because then a caller's query would be among
    the arguments, and could change the settings.
    """
    if "__ow_method" in args and "__ow_query" not in args:
        raise RuntimeError("This must be a raw web action: wsk action update ... --web raw.")
    if not _opened:
        settings = settings_of(args)
        try:
            container = Container(settings)
        except StoreUnavailable as error:
            log_event("not opened", ERROR, cause=error.message)
            if "__ow_method" not in args:
                raise
            return _unavailable(error)
        http = Mangum(container.http, lifespan="off", custom_handlers=[RawWebAction])
        _opened.append((container, http))
    container, http = _opened[0]
    with container.call():
        if "__ow_method" not in args:
            return container.tick()
        if to := _slash_redirect(args):
            return {"statusCode": 308, "headers": {"location": to, "cache-control": "no-store"}}
        found: dict[str, Any] = http(args, None)  # type: ignore[arg-type]
        return found


def _unavailable(error: StoreUnavailable) -> dict[str, Any]:
    """Answer 503 if the database could not be opened, so that clients try again.

    OpenWhisk would answer a failed activation with 400, and clients would give up.
    """
    answer = problem(503, error.code, error.advice, headers=AGAIN)
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in answer.raw_headers}
    body = base64.b64encode(bytes(answer.body)).decode()
    return {"statusCode": answer.status_code, "headers": headers, "body": body}


def _slash_redirect(args: dict[str, Any]) -> str | None:
    """Give the page's address for a browser that left out the slash after the action's name.

    The page names its files by relative references, and without the slash they would lead beside
    the action.
    """
    name: str = (args.get("__ow_action") or "").rpartition("/")[2]
    if args.get("__ow_path") or not name or args["__ow_method"] not in ("get", "head"):
        return None
    return f"{name}.http/"


# All activations run in this one thread, because the event loop belongs to it. OpenWhisk sends a
# container one activation at a time anyway.
_thread = ThreadPoolExecutor(1)


async def _init(request: Request) -> JSONResponse:
    await request.body()  # code for a generic runtime; this image holds its own code
    return JSONResponse({"ok": True})


async def _run(request: Request) -> JSONResponse:
    try:
        activation = json.loads(await request.body())
        value = activation.get("value") or {}
        value["__ow_action"] = activation.get("action_name")
        result = await asyncio.get_running_loop().run_in_executor(_thread, main, value)
        return JSONResponse(result, background=None if _opened else BackgroundTask(_end))
    except StoreUnavailable:
        detail = "The database did not answer: the next tick tries again."
        return JSONResponse(
            {"error": detail}, 502, background=None if _opened else BackgroundTask(_end)
        )
    except Exception as error:  # after any error, the activation must end with a result
        print(f"activation failed: {type(error).__name__}: {error}", file=sys.stderr)
        detail = str(error) if isinstance(error, RuntimeError) else "The activation failed."
        return JSONResponse({"error": detail}, 502)
    finally:
        for stream in (sys.stdout, sys.stderr):
            print(END_OF_LOG, file=stream, flush=True)


def _end() -> None:
    """End this process after its answer, because it could not open the application.

    The platform starts another container for the next activation.
    """
    os.kill(os.getpid(), signal.SIGTERM)


action = Starlette(
    routes=[Route("/init", _init, methods=["POST"]), Route("/run", _run, methods=["POST"])]
)

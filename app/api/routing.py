"""Routes that are built when they are first asked for, under paths that are whole from the start.

FastAPI works out parameters, bodies and answers of each route when it is declared, and once more
when its router is included: for all of ours that takes as long as a third of FastAPI's own import,
in every cold start, of which most then answer one client's poll.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import Match, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import responses
from app.api.quick import Call, Handler, send_json

PREFIX = "/v1"
JSON_BYTES = 64 * 1024  # of a body of JSON
LIST_BYTES = 2 * 1024**2  # where it names all parts of a file: 20,000 take 1.4 MB

KeyFirst = Callable[[Scope], Awaitable[None]]


class LateRoute(APIRoute):
    """An APIRoute that knows what it takes to be matched. All else it becomes when it is looked at:
    when it is called, or when the OpenAPI document is made.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.path = path
        self.endpoint = endpoint
        self.name = endpoint.__name__
        self.methods: set[str] = set(options["methods"])
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self.quick: Handler | None = None
        self.key_first: KeyFirst | None = None
        self.most = JSON_BYTES
        self._options = options

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask for the key before the body is read; try the quick handler, where there is one.

        Quick handlers ask for it themselves.
        """
        if scope["method"] not in self.methods:
            await super().handle(scope, receive, send)  # which says so
            return
        if scope["method"] == "POST":
            receive = at_most(self.most, scope, receive)
        if self.quick is not None:
            call = Call(scope, receive)
            answer = await self.quick(call)
            if answer is not None:
                await send_json(answer, send)
                return
            receive = call.again
        if self.key_first is not None:
            await self.key_first(scope)
        await super().handle(scope, receive, send)

    def __getattr__(self, name: str) -> Any:  # only of what is not there yet
        options = self.__dict__.pop("_options", None)
        if options is None or name.startswith("__"):
            raise AttributeError(name)
        super().__init__(self.path, self.endpoint, **options)
        return getattr(self, name)


def router(
    prefix: str = "", tags: Iterable[str] = (), *, versioned: bool = True, **options: Any
) -> APIRouter:
    """For routes of the API, or (not `versioned`) beside it."""
    if versioned:
        prefix = PREFIX + prefix
        options["responses"] = responses(400, 403, 413, 415, 429, 500)
    return APIRouter(prefix=prefix, tags=list(tags), route_class=LateRoute, **options)


def quickly(part: APIRouter, handler: Handler) -> None:
    """Give the router's last route this quick handler (app/api/quick.py)."""
    route = part.routes[-1]
    assert isinstance(route, LateRoute)  # noqa: S101  (`router` makes no others)
    route.quick = handler


def takes_body(part: APIRouter, key_first: KeyFirst, *, most: int = JSON_BYTES) -> None:
    """Let the router's last route read bodies, of `most` bytes of JSON, after `key_first`."""
    route = part.routes[-1]
    assert isinstance(route, LateRoute)  # noqa: S101  (`router` makes no others)
    route.key_first, route.most = key_first, most


def at_most(most: int, scope: Scope, receive: Receive) -> Receive:
    """`receive` for a body of at most so many bytes; it raises HTTPException (413)."""
    seen = 0
    too_large = HTTPException(413, f"The body is too large: at most {most} bytes here")

    length = Headers(scope=scope).get("content-length", "0")  # digits: the guard has looked
    announced = int(length) if length.isdecimal() else 0

    async def counted() -> Message:
        nonlocal seen
        if announced > most:
            raise too_large
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise too_large  # FastAPI passes these on
        return message

    return counted


def install(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Give the application their routes, as they are: an included router would be matched twice."""
    for part in routers:
        app.router.routes.extend(part.routes)
    app.router.redirect_slashes = False  # it would name a host and a path that the caller made up
    app.router.default = _without_last_slash(app, app.router.default)


def _without_last_slash(app: FastAPI, otherwise: ASGIApp) -> ASGIApp:
    """Lead from `docs/` to `docs`, by a reference that holds under whatever prefix a gateway has
    put before the path (RFC 3986, section 4.2).
    """

    async def lead(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removesuffix("/") if scope["type"] == "http" else ""
        shorter = {**scope, "path": path}
        if path in ("", scope["path"]) or not any(
            route.matches(shorter)[0] is not Match.NONE for route in app.router.routes
        ):
            await otherwise(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        to = f"../{quote(path.rpartition('/')[2], safe='')}" + (f"?{query}" if query else "")
        await RedirectResponse(to)(scope, receive, send)

    return lead

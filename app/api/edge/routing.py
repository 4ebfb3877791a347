"""The base of all routes: the version's prefix, the key before the body, the bound on the body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.edge.errors import responses
from app.api.edge.late_route import LateRoute
from app.api.edge.late_routes import LateRoutes, Load

PREFIX = "/v1"
JSON_BYTES = 64 * 1024  # the most bytes of a JSON body
LIST_BYTES = 2 * 1024**2  # the same for a list of a file's parts: 20,000 parts take 1.4 MB

KeyFirst = Callable[[Scope], Awaitable[None]]
Shortcut = Callable[[Scope, Receive, Send], Awaitable[Receive | None]]
"""Answers and gives None, or gives the `receive` with which the request goes on."""


class Route(LateRoute):
    """A route that checks the key before it reads the body, and bounds a JSON body."""

    key_first: KeyFirst | None = None
    shortcut: Shortcut | None = None  # `app.api.routes.quick` sets it; it asks for the key itself
    most = JSON_BYTES

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.methods is None or scope["method"] in self.methods:  # FastAPI answers others: 405
            if scope["method"] == "POST":
                receive = at_most(self.most, scope, receive)
            if self.shortcut is not None:
                rest = await self.shortcut(scope, receive, send)
                if rest is None:
                    return
                receive = rest
            if self.key_first is not None:
                await self.key_first(scope)
        await super().handle(scope, receive, send)


def router(
    prefix: str = "", tags: Iterable[str] = (), *, versioned: bool = True, **options: Any
) -> APIRouter:
    """Make a router for routes of the API, or (not `versioned`) for pages beside it."""
    if versioned:
        prefix = PREFIX + prefix
        options["responses"] = responses(400, 403, 413, 415, 429, 500)
    return APIRouter(prefix=prefix, tags=list(tags), route_class=Route, **options)


def takes_body(part: APIRouter, key_first: KeyFirst, *, most: int = JSON_BYTES) -> None:
    """Let the router's last route read a body of at most `most` bytes, after `key_first`."""
    route = part.routes[-1]
    assert isinstance(route, Route)  # noqa: S101  (`router` sets this class)
    route.key_first, route.most = key_first, most


def at_most(most: int, scope: Scope, receive: Receive) -> Receive:
    """Wrap `receive`: it raises HTTPException (413) for a body of more than `most` bytes."""
    seen = 0
    too_large = HTTPException(413, f"The body is too large: at most {most} bytes here")

    length = Headers(scope=scope).get("content-length", "0")  # the guard refuses other than digits
    announced = int(length) if length.isdecimal() else 0

    async def counted() -> Message:
        nonlocal seen
        if announced > most:
            raise too_large
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise too_large  # FastAPI lets it reach its handler
        return message

    return counted


def install(app: FastAPI, routers: Iterable[APIRouter], late: Load | None = None) -> None:
    """Add the routers' routes to the application; `include_router` would build each route again.

    `late` gives further routers, when a request or a document first needs their routes.
    """
    for part in routers:
        app.router.routes.extend(part.routes)
    if late is not None:
        app.router.routes.append(LateRoutes(app.router.routes, late))
    app.router.redirect_slashes = False  # it would redirect to a host that the caller chose
    app.router.default = _without_last_slash(app, app.router.default)


def _without_last_slash(app: FastAPI, otherwise: ASGIApp) -> ASGIApp:
    """Redirect from `docs/` to `docs` by a relative reference (RFC 3986, section 4.2).

    A relative reference also works below a prefix that a gateway puts before the path.
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

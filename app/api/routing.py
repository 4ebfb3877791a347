"""Routes that are built when they are first asked for, under paths that are whole from the start.

FastAPI works out parameters, bodies and answers of each route when it is declared, and once more
when its router is included: for all of ours that takes as long as a third of FastAPI's own import,
in every cold start, of which most then answer one client's poll.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from app.api.errors import responses
from app.api.quick import Call, Handler, send_json

PREFIX = "/v1"


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
        self._options = options

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Try the quick handler, where the route has one."""
        if self.quick is not None and scope["method"] in self.methods:
            call = Call(scope, receive)
            answer = await self.quick(call)
            if answer is not None:
                await send_json(answer, send)
                return
            receive = call.again
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
        options["responses"] = responses(403, 413, 415, 429, 500)
    return APIRouter(prefix=prefix, tags=list(tags), route_class=LateRoute, **options)


def quickly(part: APIRouter, handler: Handler) -> None:
    """Give the router's last route this quick handler (app/api/quick.py)."""
    route = part.routes[-1]
    assert isinstance(route, LateRoute)  # noqa: S101  (`router` makes no others)
    route.quick = handler


def install(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Give the application their routes, as they are: an included router would be matched twice."""
    for part in routers:
        app.router.routes.extend(part.routes)

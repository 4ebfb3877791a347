"""Routes whose modules wait until a request, or the OpenAPI document, asks for them.

A cold start mostly answers a client's poll. The other routes, and the bodies that only they know,
take a twentieth of it (docs/decisions/0033).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

Load = Callable[[], Iterable[APIRouter]]


class LateRoutes(BaseRoute):
    """The last route of a router: it puts those of `load` behind itself when a request comes to it.

    It answers no request. The router goes on with the routes behind it.
    """

    def __init__(self, routes: list[BaseRoute], load: Load) -> None:
        self._routes = routes
        self._load: Load | None = load

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        self.load()
        return Match.NONE, {}

    def load(self) -> None:
        """Import the modules and add their routes, once."""
        if self._load is not None:
            for part in self._load():
                self._routes.extend(part.routes)
            self._load = None


class Application(FastAPI):
    """An application that has all its routes as soon as somebody looks at `routes`."""

    @property
    def routes(self) -> list[BaseRoute]:
        """All routes; the OpenAPI document is made of them."""
        for route in tuple(self.router.routes):
            if isinstance(route, LateRoutes):
                route.load()
        return [route for route in self.router.routes if not isinstance(route, LateRoutes)]

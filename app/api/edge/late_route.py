"""Routes that FastAPI works out when they are first used, and not when they are declared.

FastAPI works out the parameters, bodies and answers of a route when it is declared. For all of our
routes that takes a fifth of a cold start, and most cold starts then answer one client's poll
(docs/decisions/0033).

The switch is `ON`: where it is false, FastAPI works each route out when it is declared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import compile_path

ON = True


class LateRoute(APIRoute):
    """A route that knows at first only what Starlette needs to match a request.

    The first look at anything else, by a call or by the OpenAPI document, makes the whole route.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not ON:
            super().__init__(path, endpoint, **options)
            return
        self.path = path
        self.endpoint = endpoint
        self.name = endpoint.__name__
        self.methods: set[str] = set(options["methods"])
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self._options = options

    def __getattr__(self, name: str) -> Any:
        """Make the whole route; Python calls this only for an attribute that is missing."""
        options = self.__dict__.pop("_options", None)
        if options is None or name.startswith("__"):
            raise AttributeError(name)
        super().__init__(self.path, self.endpoint, **options)
        return getattr(self, name)

"""Routes that FastAPI works out when they are first used, and not when they are declared.

FastAPI works out the parameters, bodies and answers of a route when it is declared. For all of our
routes that takes a fifth of a cold start, and most cold starts then answer one client's poll
(docs/decisions/0033).

The switch is `ON`: where it is false, FastAPI works each route out when it is declared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import compile_path

ON = True


class LateRoute(APIRoute):
    """A route that knows at first only what Starlette needs to match a request.

    The first look at anything else, by a call or by the OpenAPI document, makes the whole route.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not ON:
            self._make(path, endpoint, options)
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
        self._make(self.path, self.endpoint, options)
        return getattr(self, name)

    def _make(self, path: str, endpoint: Callable[..., Any], options: dict[str, Any]) -> None:
        """Let FastAPI work out the whole route, with its bodies' validators.

        The bodies do not wait any longer. FastAPI wraps each in an annotation and hides pydantic's
        warning of it while it makes the wrapper's validator. A body that waits would delay the
        wrapper's validator until after that.
        """
        for body in get_type_hints(endpoint).values():
            if isinstance(body, type) and issubclass(body, BaseModel):
                body.model_config["defer_build"] = False
        super().__init__(path, endpoint, **options)

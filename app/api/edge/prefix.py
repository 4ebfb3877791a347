"""The base path: a path that a gateway or a proxy puts before the coordinator's own paths."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class BasePath:
    """ASGI middleware that removes the base path (`/federated`) from a request's path.

    A path without the base path stays as it is, because probes often do not pass the gateway. An
    entry that learns the base path with each request puts it into the scope (`base_path`).
    """

    def __init__(self, app: ASGIApp, base: str = "") -> None:
        self.app = app
        self.base = base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        base = scope.get("base_path") or self.base
        if scope["type"] != "http" or not base or (path := strip_base(base, scope["path"])) is None:
            await self.app(scope, receive, send)
            return
        if not path and scope["method"] in ("GET", "HEAD"):
            # The page names its files by relative references, which need the slash.
            await RedirectResponse(f"{base.rpartition('/')[2]}/")(scope, receive, send)
            return
        raw = (scope.get("raw_path") or b"").removeprefix(base.encode())
        within = {**scope, "path": path or "/", "raw_path": raw or b"/"}
        within.pop("base_path", None)
        await self.app(within, receive, send)


def strip_base(base: str, path: str) -> str | None:
    """Give the rest of a path after the base; None if the path does not begin with the base."""
    if path == base or path.startswith(f"{base}/"):
        return path.removeprefix(base)
    return None

"""Gateways and proxies that put a path before the coordinator's own and do not take it off."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class BasePath:
    """Plain ASGI middleware, outermost: takes the base path (`/federated`) off what begins with it.

    Other paths pass as they are: probes often come by another way than callers do. An entry that
    learns the base path with each request puts it into the scope (`base_path`).
    """

    def __init__(self, app: ASGIApp, base: str = "") -> None:
        self.app = app
        self.base = base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        base = scope.get("base_path") or self.base
        if scope["type"] != "http" or not base or (path := without(base, scope["path"])) is None:
            await self.app(scope, receive, send)
            return
        if not path and scope["method"] in ("GET", "HEAD"):
            # The page names its files by references: without the slash they would lie beside it.
            await RedirectResponse(f"{base.rpartition('/')[2]}/")(scope, receive, send)
            return
        raw = (scope.get("raw_path") or b"").removeprefix(base.encode())
        within = {**scope, "path": path or "/", "raw_path": raw or b"/"}
        within.pop("base_path", None)
        await self.app(within, receive, send)


def without(base: str, path: str) -> str | None:
    """What of a path follows the base; None where it does not begin with it."""
    if path == base or path.startswith(f"{base}/"):
        return path.removeprefix(base)
    return None

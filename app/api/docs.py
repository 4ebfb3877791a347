"""The API's documentation to browse at /docs: Swagger UI, with a policy that lets it work."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

_CDN = "https://cdn.jsdelivr.net"
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def install(app: FastAPI) -> None:
    """Serve /docs; made by hand because FastAPI's own page comes without a policy."""

    async def page(request: Request) -> HTMLResponse:
        answer = get_swagger_ui_html(
            openapi_url=f"{request.scope.get('root_path', '').rstrip('/')}{app.openapi_url}",
            title=app.title,
        )
        answer.headers["Content-Security-Policy"] = policy(bytes(answer.body))
        return answer

    app.add_route("/docs", page, include_in_schema=False)


def policy(html: bytes) -> str:
    """Lets Swagger UI's files and exactly the scripts that stand in this page run.

    Swagger UI sets styles inline, and loads itself from a CDN and one icon from FastAPI's site.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE.findall(html)
    )
    return (
        f"default-src 'none'; script-src {_CDN} {hashes}; style-src {_CDN} 'unsafe-inline'; "
        "img-src 'self' data: https://fastapi.tiangolo.com; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

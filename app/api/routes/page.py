"""The dashboard at `/` and the API's documentation at `/docs`: files of this coordinator only."""

from __future__ import annotations

from functools import cache

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from app.api.edge import routing
from app.api.edge.headers import PAGE_POLICY
from app.api.routes.assets import ASK_FIRST, FOR_GOOD, Asset, Assets
from serverless_fl import __version__

router = routing.router(versioned=False, include_in_schema=False)
assets = Assets()
_METHODS = ["GET", "HEAD"]
_PAGE = {"Cache-Control": ASK_FIRST}
# Swagger UI has data: images in its style sheet, and style attributes in its elements.
_SWAGGER = f"{PAGE_POLICY}; img-src 'self' data:; style-src 'self' 'unsafe-inline'"


@cache
def _page(name: str, live: bool) -> Asset:
    return assets.page(
        name, digest=assets.digest, live="on" if live else "off", version=__version__
    )


@router.api_route("/", methods=_METHODS)
async def dashboard(request: Request) -> Response:
    page = _page("index.html", request.app.state.live.enabled)
    return page.response(request, _PAGE)


@router.api_route("/docs", methods=_METHODS)
async def documentation(request: Request) -> Response:
    page = _page("docs.html", live=False)
    return page.response(request, _PAGE | {"Content-Security-Policy": _SWAGGER})


@router.api_route("/static/{digest}/{name:path}", methods=_METHODS)
async def static(request: Request, digest: str, name: str) -> Response:
    """Answers with a file. Under an older digest it is the present file, which must not be kept."""
    asset = assets.files.get(name)
    if asset is None or name.endswith(".html"):
        raise HTTPException(404, "There is no such file")
    kept = FOR_GOOD if digest == assets.digest else ASK_FIRST
    return asset.response(request, {"Cache-Control": kept})

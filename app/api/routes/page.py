"""The dashboard at `/` and the API's documentation at `/docs`: files of this coordinator only."""

from __future__ import annotations

import asyncio
from functools import cache

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from app.api.edge import routing
from app.api.edge.headers import ONNX_POLICY, PAGE_POLICY
from app.api.routes.assets import ASK_FIRST, FOR_GOOD, Asset, Assets, onnx_runtime
from app.config import ONNX_FILES
from serverless_fl import __version__

router = routing.router(versioned=False, include_in_schema=False)
assets = Assets()
_METHODS = ["GET", "HEAD"]
_PAGE = {"Cache-Control": ASK_FIRST}
# Swagger UI has data: images in its style sheet, and style attributes in its elements.
_SWAGGER = f"{PAGE_POLICY}; img-src 'self' data:; style-src 'self' 'unsafe-inline'"


@cache
def _page(name: str, live: bool = False, onnx: bool = False) -> Asset:
    said = {"live": "on" if live else "off", "onnx": "on" if onnx else "off"}
    return assets.page(name, digest=assets.digest, version=__version__, **said)


@router.api_route("/", methods=_METHODS)
async def dashboard(request: Request) -> Response:
    state = request.app.state
    page = _page("index.html", state.live.enabled, state.onnx_dir is not None)
    policy = {"Content-Security-Policy": ONNX_POLICY} if state.onnx_dir is not None else {}
    return page.response(request, _PAGE | policy)


@router.api_route("/docs", methods=_METHODS)
async def documentation(request: Request) -> Response:
    page = _page("docs.html")
    return page.response(request, _PAGE | {"Content-Security-Policy": _SWAGGER})


@router.api_route("/static/onnx/{name}", methods=_METHODS)
async def onnx(request: Request, name: str) -> Response:
    """Answers with a file of ONNX Runtime Web, if the operator has provided it (FL_ONNX_DIR)."""
    folder = request.app.state.onnx_dir
    if folder is None or name not in ONNX_FILES:
        raise HTTPException(404, "There is no such file")
    # In a thread: to compress 14 MB takes a second, once in a process.
    try:
        asset = await asyncio.to_thread(onnx_runtime, folder, name)
    except OSError as error:
        raise HTTPException(404, f"The file cannot be read: {error.strerror}") from error
    return asset.response(request, _PAGE)


@router.api_route("/static/{digest}/{name:path}", methods=_METHODS)
async def static(request: Request, digest: str, name: str) -> Response:
    """Answers with a file. Under an older digest it is the present file, which must not be kept."""
    asset = assets.files.get(name)
    if asset is None or name.endswith(".html"):
        raise HTTPException(404, "There is no such file")
    kept = FOR_GOOD if digest == assets.digest else ASK_FIRST
    return asset.response(request, {"Cache-Control": kept})

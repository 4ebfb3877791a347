"""The dashboard's files: read once, kept plain and gzipped, served under a digest of all of them.

The page names its files below `static/DIGEST/`, so a browser may keep them for ever: a new version
of any file changes the digest. `Mangum` sends gzipped files in base64, and text as text.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from fastapi import Request, Response

FOLDER = Path(__file__).parents[2] / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
}
FOR_GOOD = "public, max-age=31536000, immutable"
ASK_FIRST = "no-cache"


@dataclass(frozen=True)
class Asset:
    """A file as it is sent. Its ETag is a digest of its own bytes."""

    body: bytes
    media_type: str

    @cached_property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    @cached_property
    def zipped(self) -> bytes:
        return gzip.compress(self.body, 6, mtime=0)

    def response(self, request: Request, headers: dict[str, str]) -> Response:
        """The file, gzipped if the browser accepts that, or 304 if it has this version."""
        headers = headers | {
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
        }
        known = request.headers.get("if-none-match", "")
        if self.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        body = self.body
        if "gzip" in request.headers.get("accept-encoding", "") and len(self.zipped) < len(body):
            body = self.zipped
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers, media_type=self.media_type)


class Assets:
    """Every file that a browser may request, by name. The first request reads all of them."""

    @cached_property
    def files(self) -> dict[str, Asset]:
        paths = {
            path.relative_to(FOLDER).as_posix(): path
            for path in sorted(FOLDER.rglob("*"))
            if path.suffix in TYPES
        }
        paths |= {f"swagger/{path.name}": path for path in _swagger_ui()}
        return {name: Asset(path.read_bytes(), TYPES[path.suffix]) for name, path in paths.items()}

    @cached_property
    def digest(self) -> str:
        """A digest of all files, which is part of their addresses."""
        total = hashlib.sha256()
        for name, asset in self.files.items():
            total.update(f"{name} {asset.etag}\n".encode())
        return total.hexdigest()[:16]

    def page(self, name: str, **values: str) -> Asset:
        """An HTML file with its `{{names}}` filled in. No value comes from a caller."""
        text = self.files[name].body.decode()
        for key, value in values.items():
            text = text.replace("{{" + key + "}}", value)
        return Asset(text.encode(), TYPES[".html"])


@cache
def onnx_runtime(folder: Path, name: str) -> Asset:
    """Read a file of ONNX Runtime Web from the operator's folder, and compress it."""
    path = folder / name
    asset = Asset(path.read_bytes(), TYPES[path.suffix])
    _ = asset.zipped
    return asset


def _swagger_ui() -> list[Path]:
    """Swagger UI's two files, found in the package that contains them without importing it."""
    spec = importlib.util.find_spec("fastapi_offline")
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(spec.submodule_search_locations[0]) / "static"
    return [folder / "swagger-ui-bundle.js", folder / "swagger-ui.css"]

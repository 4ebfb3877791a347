"""The security headers of every answer, by path."""

from __future__ import annotations

from starlette.types import Scope

Header = tuple[bytes, bytes]

# For answers to programs: a browser that renders one runs, loads and frames nothing in it.
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
# For the page: its own files only. No inline script, no other host, no frame around it.
PAGE_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)
# For the page that runs exported models: their runtime is WebAssembly.
ONNX_POLICY = f"{PAGE_POLICY}; script-src 'self' 'wasm-unsafe-eval'"
YEAR = 365 * 86400

_ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_HTTPS: tuple[Header, ...] = ((b"strict-transport-security", b"max-age=%d" % YEAR),)
_PAGE: tuple[Header, ...] = ((b"content-security-policy", PAGE_POLICY.encode()),)
# An answer holds keys, tokens or fast-changing facts, so no cache may keep it unless its route says
# so.
_API: tuple[Header, ...] = (
    (b"content-security-policy", API_POLICY.encode()),
    (b"cache-control", b"no-store"),
)
_BY_KIND = {
    (page, https): _ALWAYS + (_PAGE if page else _API) + (_HTTPS if https else ())
    for page in (False, True)
    for https in (False, True)
}


def security_headers(scope: Scope) -> tuple[Header, ...]:
    """Give the headers of the answer to a request; a header that its route sets wins."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    page = path == "/" or path.startswith("/static/")
    return _BY_KIND[page, scope.get("scheme") == "https"]

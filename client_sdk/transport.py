"""How an httpx client of ours reaches the network: aiohttp's pool and parser, as a transport.

httpx's own transport takes a millisecond for each request, most of it in httpcore, whose pool
looks at all connections for each; aiohttp takes a quarter of that (docs/decisions/0024). Errors,
time limits and URLs are httpx's all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import Iterator
from urllib.request import getproxies

import aiohttp
import httpx
from yarl import URL

# The first that fits counts: several of aiohttp's errors are of two kinds at once.
_FAULTS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.SocketTimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (TimeoutError, httpx.WriteTimeout),  # our own clock
    (aiohttp.ClientConnectorError, httpx.ConnectError),  # TLS and names included
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),  # it is no HTTP
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.ClientError, httpx.ReadError),
    (OSError, httpx.ReadError),
    (ValueError, httpx.LocalProtocolError),  # a header that cannot be sent
)
# What httpx has not put into a request is not to be added: a signed URL may cover it.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_LARGE = 1 << 20  # bytes; aiohttp wants more than that in pieces
IDLE_SECONDS = 5.0  # httpx's own; uvicorn closes after as many


class Transport(httpx.AsyncBaseTransport):
    """HTTP/1.1 with kept connections, no more than `connections`; answers are read whole.

    A GET or PUT whose kept connection turns out to be closed is sent again by aiohttp itself.
    Raises httpx.TransportError.
    """

    def __init__(self, connections: int, tls: ssl.SSLContext) -> None:
        tls.set_alpn_protocols(["http/1.1"])
        self._connections, self._tls = connections, tls
        self._session: aiohttp.ClientSession | None = None

    def _opened(self) -> aiohttp.ClientSession:
        """The session; it is made at the first request, for aiohttp needs the loop for that."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, keepalive_timeout=IDLE_SECONDS, ssl=self._tls
                ),
                cookie_jar=aiohttp.DummyCookieJar(),  # httpx has them
                auto_decompress=False,  # and this
                skip_auto_headers=_NOT_ADDED,
            )
        return self._session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        limits = request.extensions.get("timeout", {})
        read, write = limits.get("read"), limits.get("write")
        with _translated(request):
            # aiohttp has no limit for writing. The one for reading starts when all is written.
            late = None if read is None or write is None else read + write
            clock = asyncio.timeout(late if content else None)
            async with (
                clock,
                self._opened().request(
                    request.method,
                    _url(request.url),
                    headers=request.headers.multi_items(),
                    data=_body(content),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        connect=limits.get("pool"),
                        sock_connect=limits.get("connect"),
                        sock_read=read,
                    ),
                ) as answer,
            ):
                clock.reschedule(None)
                body = await answer.read()
        return httpx.Response(
            answer.status,
            headers=answer.raw_headers,
            content=body,
            extensions={
                "http_version": b"HTTP/1.1",
                "reason_phrase": (answer.reason or "").encode("ascii", errors="ignore"),
            },
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


async def exchange(
    client: httpx.AsyncClient, transport: httpx.AsyncBaseTransport | None, request: httpx.Request
) -> httpx.Response:
    """As `client.send`, without what we use none of: redirects, cookies, authentication by URL.
    They take as long as the transport. Where that is httpx's own, the client picks it.
    """
    if transport is None:
        return await client.send(request)
    response = await transport.handle_async_request(request)
    response.request = request
    try:
        await response.aread()
    finally:
        await response.aclose()
    return response


def pick(connections: int, *, trust_env: bool) -> httpx.AsyncBaseTransport | None:
    """The transport for httpx's client; None is its own, which goes through the proxies that the
    environment names. With `trust_env` these count, and so do SSL_CERT_FILE and SSL_CERT_DIR.
    """
    proxies = getproxies() if trust_env else {}
    if any(proxies.get(scheme) for scheme in ("http", "https", "all")):
        return None
    return Transport(connections, httpx.create_ssl_context(trust_env=trust_env))


def _url(url: httpx.URL) -> URL:
    """As it is, byte for byte (it may be signed), but for credentials, which are a header."""
    return URL(f"{url.scheme}://{url.netloc.decode()}{url.raw_path.decode()}", encoded=True)


def _body(content: bytes) -> bytes | aiohttp.BytesIOPayload | None:
    # A payload, not a file: sent again, it starts from its beginning.
    return aiohttp.BytesIOPayload(io.BytesIO(content)) if len(content) > _LARGE else content or None


@contextlib.contextmanager
def _translated(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError, ValueError) as error:
        kind = next(ours for theirs, ours in _FAULTS if isinstance(error, theirs))
        raise kind(str(error), request=request) from error

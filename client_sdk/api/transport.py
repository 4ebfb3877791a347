"""How an httpx client of ours reaches the network: whom it trusts, and through which proxies.

Connections, time limits and TLS are httpx's own transport's. What is ours is the choice of the
proxy: httpx itself stumbles over entries of NO_PROXY that other programs take.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.request import getproxies

import httpx

from client_sdk import hints
from client_sdk.api import address
from client_sdk.errors import BadSettings


class Transport(httpx.AsyncBaseTransport):
    """HTTP/1.1 with kept connections, through the proxy that a URL has, or straight.

    `proxies` are addresses by the scheme of the URLs that they are for, or `all`; `exempt` are
    hosts that no proxy is for. Raises BadSettings at the first request through a proxy that cannot
    be one.
    """

    def __init__(
        self,
        connections: int,
        tls: ssl.SSLContext,
        proxies: Mapping[str, str] | None = None,
        exempt: Sequence[str] = (),
    ) -> None:
        self._tls, self._proxies, self._exempt = tls, proxies or {}, exempt
        self._limits = httpx.Limits(max_connections=connections, max_keepalive_connections=32)
        self._ways: dict[str, httpx.AsyncHTTPTransport] = {}

    @classmethod
    def from_environment(cls, connections: int, base_url: str) -> Transport:
        """As the environment has it, for a coordinator at `base_url`. Raises BadSettings."""
        found = getproxies()
        proxies = {
            scheme: found[scheme] for scheme in ("http", "https", "all") if found.get(scheme)
        }
        made = cls(connections, trusted(base_url), proxies, found.get("no", "").split(","))
        made._way(made.proxy_of(httpx.URL(base_url)))
        return made

    def proxy_of(self, url: httpx.URL) -> str:
        """The proxy's address; empty where there is none. This machine itself is never asked
        through one.
        """
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all") or ""
        if not proxy or address.is_loopback(f"{url.scheme}://{url.netloc.decode()}"):
            return ""
        if any(is_exempt(url.host, url.port, entry) for entry in self._exempt):
            return ""
        return proxy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._way(self.proxy_of(request.url)).handle_async_request(request)

    def _way(self, proxy: str) -> httpx.AsyncHTTPTransport:
        if proxy not in self._ways:
            self._ways[proxy] = self._made(proxy)
        return self._ways[proxy]

    def _made(self, proxy: str) -> httpx.AsyncHTTPTransport:
        if not proxy:
            return httpx.AsyncHTTPTransport(verify=self._tls, limits=self._limits)
        shown = without_login(proxy)
        try:
            url = proxy if "://" in proxy else f"http://{proxy}"
            via = httpx.Proxy(url, ssl_context=self._tls if url.startswith("https:") else None)
            if not via.url.host or not 0 < (via.url.port or 1) < 65_536:
                raise ValueError("it names no host, or no port")
            return httpx.AsyncHTTPTransport(verify=self._tls, limits=self._limits, proxy=via)
        except ImportError as error:
            raise BadSettings(
                f"The environment names the proxy {shown}, and SOCKS needs another package: "
                f"{hints.install('httpx[socks]')}, or name the host in NO_PROXY."
            ) from error
        except (ValueError, httpx.InvalidURL) as error:
            raise BadSettings(
                f"The environment names the proxy {shown}, which cannot be one: {error}. Mend "
                "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY."
            ) from error

    async def aclose(self) -> None:
        for way in self._ways.values():
            await way.aclose()


def without_login(proxy: str) -> str:
    """The proxy's address as it may be shown: it may hold a password."""
    scheme, mark, rest = proxy.rpartition("://")
    return scheme + mark + rest.rpartition("@")[2]


def is_exempt(host: str, port: int | None, entry: str) -> bool:
    """Whether an entry of NO_PROXY is about this host.

    It may be `*`, a name (which is about those below it, too), an address or a network of
    addresses, in brackets or with a port.
    """
    entry = entry.strip().lower().rpartition("://")[2]
    if entry == "*":
        return True
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdigit() and (":" not in name or name.endswith("]")):
        if port != int(digits):
            return False
        entry = name
    entry = entry.strip("[]").lstrip("*").lstrip(".")
    if not entry:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:  # one of them is a name
        return host == entry or host.endswith(f".{entry}")


def trusted(base_url: str) -> ssl.SSLContext:
    """The certificates that SSL_CERT_FILE or SSL_CERT_DIR name, or else Mozilla's.

    Raises BadSettings. What they name may be missing where `base_url` is this machine's and
    without TLS.
    """
    try:
        _require_certificates()
        return httpx.create_ssl_context()
    except BadSettings:
        if base_url.startswith("http://") and address.is_loopback(base_url):
            return httpx.create_ssl_context(trust_env=False)
        raise


def _require_certificates() -> None:
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:  # ssl's own are such
            reason = error.strerror if not isinstance(error, ssl.SSLError) else "no certificates"
            raise BadSettings(
                f"SSL_CERT_FILE names {file}, which cannot be read: {reason}."
            ) from error
    elif folders and not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
        raise BadSettings(f"SSL_CERT_DIR names {folders}, which is no folder.")

"""The way to the network: which certificates to trust, and which proxy to use.

httpx's own transport makes connections and keeps time limits. This module chooses the proxy,
because httpx fails at entries of NO_PROXY that other programs accept.
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
    """HTTP/1.1 with kept connections, through the proxy for a URL, or directly.

    `proxies` has addresses by the scheme of the URLs that they are for, or `all`. `exempt` has the
    entries of NO_PROXY. The first request through an unusable proxy raises BadSettings.
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
        self._routes: dict[str, httpx.AsyncHTTPTransport] = {}

    @classmethod
    def from_environment(
        cls, connections: int, base_url: str, certificate: tuple[Path, Path] | None = None
    ) -> Transport:
        """The transport that the environment describes, for a coordinator at `base_url`.

        `certificate` names the files of a client certificate and its key. Raises BadSettings.
        """
        found = getproxies()
        proxies = {
            scheme: found[scheme] for scheme in ("http", "https", "all") if found.get(scheme)
        }
        tls = trusted(base_url)
        if certificate is not None:
            _show(tls, base_url, *certificate)
        made = cls(connections, tls, proxies, found.get("no", "").split(","))
        made._route(made.proxy_of(httpx.URL(base_url)))
        return made

    def proxy_of(self, url: httpx.URL) -> str:
        """The address of the proxy for a URL; empty where there is none, and for this machine."""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all") or ""
        if not proxy or address.is_loopback(f"{url.scheme}://{url.netloc.decode()}"):
            return ""
        if any(is_exempt(url.host, url.port, entry) for entry in self._exempt):
            return ""
        return proxy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._route(self.proxy_of(request.url)).handle_async_request(request)
        except ssl.SSLError as error:  # httpx knows none that comes after the handshake
            raise httpx.ReadError(str(error), request=request) from error

    def _route(self, proxy: str) -> httpx.AsyncHTTPTransport:
        if proxy not in self._routes:
            self._routes[proxy] = self._make(proxy)
        return self._routes[proxy]

    def _make(self, proxy: str) -> httpx.AsyncHTTPTransport:
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
        for route in self._routes.values():
            await route.aclose()


def without_login(proxy: str) -> str:
    """The proxy's address as it may be shown: it may hold a password."""
    scheme, mark, rest = proxy.rpartition("://")
    return scheme + mark + rest.rpartition("@")[2]


def is_exempt(host: str, port: int | None, entry: str) -> bool:
    """Whether an entry of NO_PROXY covers this host.

    An entry is `*`, a name (it covers the names below it, too), an address or a network of
    addresses, perhaps in brackets or with a port.
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
    except ValueError:  # the host or the entry is a name
        return host == entry or host.endswith(f".{entry}")


def trusted(base_url: str) -> ssl.SSLContext:
    """A context that trusts the certificates of SSL_CERT_FILE or SSL_CERT_DIR, or else Mozilla's.

    Raises BadSettings where the variables name nothing usable, unless `base_url` is this machine's
    and without TLS.
    """
    try:
        _require_certificates()
        return httpx.create_ssl_context()
    except BadSettings:
        if base_url.startswith("http://") and address.is_loopback(base_url):
            return httpx.create_ssl_context(trust_env=False)
        raise


def _show(tls: ssl.SSLContext, base_url: str, certificate: Path, key: Path) -> None:
    """Show a client certificate to whoever asks for one. Raises BadSettings."""
    if not base_url.startswith("https://"):
        raise BadSettings(f"A client certificate needs https://, and {base_url} has no TLS.")
    try:
        tls.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise BadSettings(
            f"{certificate} and {key} are no certificate and its key in PEM."
        ) from error
    except OSError as error:
        file = next((path for path in (certificate, key) if not path.is_file()), certificate)
        raise BadSettings(
            f"The client certificate needs {file}, which cannot be read: {error.strerror}."
        ) from error


def _no_password() -> str:
    """OpenSSL would ask at the terminal."""
    raise BadSettings(
        "The key of the client certificate has a password: take it off, and keep the file to "
        "yourself (`openssl pkey -in KEY -out OPEN.pem`, mode 0600)."
    )


def _require_certificates() -> None:
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:  # an SSLError is one
            reason = error.strerror if not isinstance(error, ssl.SSLError) else "no certificates"
            raise BadSettings(
                f"SSL_CERT_FILE names {file}, which cannot be read: {reason}."
            ) from error
    elif folders and not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
        raise BadSettings(f"SSL_CERT_DIR names {folders}, which is no folder.")

"""Addresses of coordinators: which are valid, and which are the same."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from client_sdk.errors import BadSettings

_PORTS = {"http": 80, "https": 443}


def checked(url: str) -> str:
    """The address without spaces around it and slashes at its end. Raises BadSettings."""
    url = url.strip().rstrip("/")
    _split(url)
    return url


def origin(url: str) -> str:
    """Scheme, host and port (RFC 6454), spelt in one way. Raises BadSettings."""
    parts = _split(url.strip())
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}"


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own. Raises BadSettings."""
    host = _split(url).hostname or ""
    return host == "localhost" or (_is_literal(host) and ipaddress.ip_address(host).is_loopback)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in _PORTS and parts.hostname and parts.port != 0
    except ValueError as error:  # a port of letters, brackets that do not close
        raise BadSettings(f"{url!r} is no address: {error}.") from error
    if not good or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise BadSettings(f"{url!r} is no http:// or https:// address.")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadSettings(
            f"{url!r} is no address of a coordinator: it may have no login, query or fragment."
        )
    return parts

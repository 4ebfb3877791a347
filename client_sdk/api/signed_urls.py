"""Which signed URLs a client follows: anybody may have made them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from client_sdk.errors import BadAnswer

# What S3's signatures cover beside the host, and the checksums of compatible stores.
_HEADERS = frozenset(
    {
        *("if-none-match", "content-type", "content-md5", "x-amz-sdk-checksum-algorithm"),
        *("x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-acl"),
        *("x-amz-storage-class", "x-amz-tagging"),
    }
)
_PREFIXES = ("x-amz-checksum-", "x-amz-server-side-encryption")


def require_signed(url: str, headers: Mapping[str, str], base_url: str) -> None:
    """Raise BadAnswer unless the URL may be followed, with these headers.

    A coordinator at an https address may give only https URLs. No URL may lead to a link-local
    address, where clouds answer with secrets.
    """
    try:
        parts, own = urlsplit(url), urlsplit(base_url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadAnswer(f"The coordinator gives an address that is none: {error}.") from error
    schemes = ("https",) if own.scheme == "https" else ("http", "https")
    if parts.scheme not in schemes or not host or parts.username is not None:
        raise BadAnswer(
            f"The coordinator leads to {parts.scheme[:20]}://{host[:100]}, and only "
            f"{' or '.join(schemes)} addresses are followed."
        )
    if _is_link_local(host) and not _is_link_local(own.hostname or ""):
        raise BadAnswer(f"The coordinator leads to {host}, which is on this machine's own link.")
    for name, value in headers.items():
        known = name.lower() in _HEADERS or name.lower().startswith(_PREFIXES)
        if not known or not value.isascii() or not value.isprintable() or len(value) > 4096:
            raise BadAnswer(f"A signed URL asks for a header {name[:40]!r} that it may not have.")


def _is_link_local(host: str) -> bool:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_link_local

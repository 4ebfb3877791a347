"""Addresses of the web that somebody gives: by the operator's settings, or by a client."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def http_address(url: str) -> SplitResult | None:
    """The parts of an http:// or https:// address without a user's name; None of another text."""
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    known = is_address and parts.scheme in ("http", "https") and "@" not in parts.netloc
    return parts if known else None


def is_one_word(text: str) -> bool:
    """Whether a text is of printable ASCII characters, without a space."""
    return text.isascii() and text.isprintable() and " " not in text

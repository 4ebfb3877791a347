"""The text of pins: a fingerprint and a name in each line, or the certificates of authorities, each
with the list of what it has revoked behind it if there is one.

A line `helper FINGERPRINT NAME` pins a helper. What follows `#` is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from serverless_fl.privacy.secure.authority import PEM, REVOKED_PEM, Authority
from serverless_fl.privacy.secure.identity import FINGERPRINT, Pins

_BLOCK = re.compile(
    rf"{PEM}.*?-----END CERTIFICATE-----|{REVOKED_PEM}.*?-----END X509 CRL-----", re.DOTALL
)
_NAME = 200  # characters
HELPER = "helper"  # the first word of a helper's line


def read(text: str) -> Pins:
    """Read pins. Raises ValueError, whose text follows the name of the file or the setting."""
    names: dict[str, str] = {}
    helpers: dict[str, str] = {}
    for number, line in enumerate(_BLOCK.sub(_blank_lines, text).splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        among = names
        if words[0].lower() == HELPER:
            among, words = helpers, words[1:]
        fingerprint = words[0].lower() if words else ""
        if not FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(
                f", line {number}: a fingerprint has 64 hexadecimal digits. A line has one, and a "
                "name behind it."
            )
        if fingerprint in names or fingerprint in helpers:
            raise ValueError(f", line {number}: this fingerprint stands there twice.")
        name = "".join(c for c in " ".join(words[1:]) if c.isprintable())
        among[fingerprint] = name[:_NAME] or fingerprint
    try:
        authorities = tuple(_authorities(_BLOCK.findall(text)))
    except ValueError as error:
        raise ValueError(f": {error}.") from error
    if not names and not authorities:
        raise ValueError(" pins nobody: it has no party's fingerprint and no certificate.")
    return Pins(names, authorities, helpers)


def _authorities(blocks: Sequence[str]) -> Iterator[Authority]:
    """The authorities of certificates, with what each has revoked. Raises ValueError."""
    lists = [block for block in blocks if block.startswith(REVOKED_PEM)]
    unused = set(lists)
    for block in blocks:
        if block in lists:
            continue
        try:
            found = Authority.read(block)
        except ValueError as error:
            raise ValueError(f"a certificate {error}") from error
        for each in lists:
            with suppress(ValueError):
                found = found.with_revoked(each)
                unused.discard(each)
        yield found
    if unused:
        raise ValueError("a list of revoked certificates is of no authority that stands there")


def _blank_lines(block: re.Match[str]) -> str:
    return "\n" * block[0].count("\n")

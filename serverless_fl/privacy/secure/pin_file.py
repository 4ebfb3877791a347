"""The text of pins: a fingerprint and a name in each line, or the certificates of authorities.

A line `helper FINGERPRINT NAME` pins a helper. What follows `#` is a comment.
"""

from __future__ import annotations

import re

from serverless_fl.privacy.secure.authority import PEM, Authority
from serverless_fl.privacy.secure.identity import FINGERPRINT, Pins

_BLOCK = re.compile(rf"{PEM}.*?-----END CERTIFICATE-----", re.DOTALL)
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
        authorities = tuple(Authority.read(block) for block in _BLOCK.findall(text))
    except ValueError as error:
        raise ValueError(f": a certificate {error}.") from error
    if not names and not authorities:
        raise ValueError(" pins nobody: it has no party's fingerprint and no certificate.")
    return Pins(names, authorities, helpers)


def _blank_lines(block: re.Match[str]) -> str:
    return "\n" * block[0].count("\n")

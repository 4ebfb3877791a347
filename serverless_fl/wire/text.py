"""Text from strangers that people see: names, reasons, errors.

Control characters can move a terminal's cursor, rename its window or turn the text after them into
a link. Bidirectional ones show text in another order (Boucher and Anderson, "Trojan Source", 2021).
The coordinator refuses a name with such characters; both sides remove them from other text.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from serverless_fl.domain.characters import CONTROLS

LONGEST = 2000  # the most characters of a shown text
_SPACES = re.compile(r"[\t\n\v\f\r\u2028\u2029]+")


def clean(text: str, longest: int = LONGEST) -> str:
    """Give the text in one line, without control characters, of at most `longest` characters.

    >>> clean("two" + chr(10) + "lines, " + chr(27) + "[31mred")
    'two lines, [31mred'
    """
    text = text[: 2 * longest]
    if not text.isprintable():  # most text is printable and skips two substitutions
        text = CONTROLS.sub("", _SPACES.sub(" ", text))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def require_plain(text: str) -> str:
    """Give the text unchanged. Raises ValueError if it holds a control character."""
    found = CONTROLS.search(text)
    if found:
        raise ValueError(
            f"must not hold control characters, but character {found.start() + 1} is "
            f"U+{ord(found[0]):04X}"
        )
    return text


Shown = Annotated[str, AfterValidator(clean)]
"""A text in an answer: a client that parses the answer gets the cleaned text."""

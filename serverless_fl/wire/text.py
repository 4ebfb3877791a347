"""Text of strangers that people will see: names, reasons, errors.

Control characters can move a terminal's cursor, rename its window or make a link of what follows;
bidirectional ones show text in another order than it has (Boucher and Anderson, "Trojan Source",
2021). A name that holds any is refused where it comes in. Other text is shown without them.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 2000  # characters of a text that is shown
# C0, DEL and C1; lone surrogates, which no output can encode; Unicode's own line ends; and the
# marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9).
_UNSEEN = "\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROLS = re.compile(f"[{_UNSEEN}]")
_SPACES = re.compile(r"[\t\n\v\f\r\u2028\u2029]+")


def clean(text: str, longest: int = LONGEST) -> str:
    """The text as it may be shown: in one line, without controls, no longer than `longest`.

    >>> clean("two" + chr(10) + "lines, " + chr(27) + "[31mred")
    'two lines, [31mred'
    """
    text = text[: 2 * longest]
    if not text.isprintable():  # nearly all text is
        text = _CONTROLS.sub("", _SPACES.sub(" ", text))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def require_plain(text: str) -> str:
    """The text itself. Raises ValueError where it holds a control character."""
    found = _CONTROLS.search(text)
    if found:
        raise ValueError(
            f"must not hold control characters, but character {found.start() + 1} is "
            f"U+{ord(found[0]):04X}"
        )
    return text


Shown = Annotated[str, AfterValidator(clean)]
"""Text of an answer: whoever reads the answer gets what may be shown."""

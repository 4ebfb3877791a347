"""Reads the cells of a table: nothing, a number, yes or no, a date, or any other word."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from serverless_fl.wire.text import clean

MISSING = frozenset(  # in small letters; the last two are pandas's
    {"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "--", ".", "nat", "<na>"}
)
TRUE, FALSE = frozenset({"true", "yes"}), frozenset({"false", "no"})
MAX_WORD = 200  # characters of a category's or a column's name
LARGEST = 1e30  # of a number: the sum of a billion squares is still a float64
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]\d.*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}(?: \d.*)?"
)
_DOTS = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
_COMMAS = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


def is_missing(word: str) -> bool:
    """Whether the cell says that its value is unknown."""
    return word.strip().lower() in MISSING


def number(word: str, decimal: str = ".") -> float | None:
    """The number that a cell holds: NaN where it is missing, None where it is none.

    Infinite and absurdly large values are none. With decimal commas a dot is none, because it may
    stand between thousands.
    """
    if is_missing(word):
        return math.nan
    if decimal == ",":
        if "." in word:
            return None
        word = word.replace(",", ".", 1)
    try:
        value = float(word)
    except ValueError:
        return None
    return value if abs(value) <= LARGEST and "_" not in word else None


def numbers(words: Sequence[str], decimal: str = ".") -> np.ndarray | None:
    """The numbers of many cells as float64, NaN for missing ones; None where a cell has none."""
    joined = "\n".join(words)
    if "_" in joined:  # Python reads 1_000 as a number
        return None
    if decimal == ",":
        if "." in joined:
            return _one_by_one(words, decimal)
        words = joined.replace(",", ".").split("\n") if "," in joined else words
    try:
        found = np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        return _one_by_one(words, ".")
    with np.errstate(invalid="ignore"):
        return None if (np.abs(found) > LARGEST).any() else found


def _one_by_one(words: Sequence[str], decimal: str) -> np.ndarray | None:
    known = {word: number(word, decimal) for word in set(words)}
    if None in known.values():
        return None
    return np.array([known[word] for word in words], np.float64)


def number_fault(word: str, decimal: str = ".") -> str:
    """Why a cell holds no number, as the end of a sentence about it."""
    if decimal == "," and _DOTS.fullmatch(word.strip()):
        return "has a dot, though the numbers of this file have decimal commas"
    if decimal == "." and _COMMAS.fullmatch(word.strip()):
        return "has a comma, though the numbers of this file have decimal points"
    try:
        float(word)
    except ValueError:
        return "is no number"
    return "is no number" if "_" in word else "is no finite number"


def decimal_sign(words: Sequence[str]) -> str:
    """Give the sign that most cells have before their decimals: a comma or a dot."""
    commas = sum(_COMMAS.fullmatch(word.strip()) is not None for word in words)
    dots = sum(_DOTS.fullmatch(word.strip()) is not None for word in words)
    return "," if commas > dots else "."


def plain(word: str) -> str:
    """A name or a word on one line: NFC, one space between its parts, no control characters."""
    return " ".join(unicodedata.normalize("NFC", clean(word, 2 * MAX_WORD)).split())


def canonical(word: str) -> str:
    """A word as categories and classes have it: plain, and 1.0 as 1.

    A program that has whole numbers and missing ones in a column writes 1 as 1.0.
    """
    found = _WHOLE.fullmatch(word := plain(word))
    return found[1] if found else word


def folded(word: str) -> str:
    """A word without regard to capitals and spaces, to compare it with another one."""
    return " ".join(word.casefold().split())


def truth(word: str) -> bool | None:
    """True for true and yes, False for false and no, in any letters; None for other words."""
    word = word.strip().lower()
    return True if word in TRUE else False if word in FALSE else None


def is_date(word: str) -> bool:
    """Whether the word is a date, perhaps with a time, in one of the usual orders."""
    return _DATE.fullmatch(word.strip()) is not None


def shown(word: str, longest: int = 60) -> str:
    """A word of a file in quotes, for a message."""
    return repr(clean(word, longest))


def listed(words: Sequence[str], most: int = 12, longest: int = 40) -> str:
    """The first words of a list, for a message."""
    text = ", ".join(clean(word, longest) for word in words[:most])
    return f"[{text}{f' and {len(words) - most} more' if len(words) > most else ''}]"

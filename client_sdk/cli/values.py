"""Readers of single arguments of the command line; each raises argparse.ArgumentTypeError."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

from client_sdk import errors
from client_sdk.api import address
from client_sdk.data.preparation import parse_size


def server(text: str) -> str:
    """A coordinator's URL."""
    try:
        return address.checked(text)
    except errors.BadSettings as error:
        raise ArgumentTypeError(str(error)) from error


def key(text: str) -> str:
    """A key, without the line end that a file or a variable leaves behind it."""
    found = text.strip()
    if not (found.isascii() and found.isprintable() and " " not in found):
        # The key itself is not shown.
        raise ArgumentTypeError("a key has letters, digits and signs of ASCII only, and no spaces")
    return found


def identifier(text: str) -> str:
    """An experiment's id."""
    found = text.strip()
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", found) or not found.strip("."):
        raise ArgumentTypeError(f"{text!r} is no experiment's id")
    return found


def name(text: str) -> str:
    """A name for people."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentTypeError(
            f"{text!r} is not text in this machine's encoding (set LC_ALL to a UTF-8 locale)"
        ) from error
    return text


def text(word: str) -> str:
    """A word, which is not empty."""
    if not word.strip():
        raise ArgumentTypeError("must not be empty")
    return word


def path(word: str) -> Path:
    """A file or a folder."""
    return Path(text(word))


def size(word: str) -> str:
    """A picture's width and height, as a word."""
    try:
        parse_size(word)
    except errors.DataError as error:
        raise ArgumentTypeError(
            f"must be a width and height such as 64 or 64x48, not {word[:40]!r}"
        ) from error
    return word


def natural(text: str) -> int:
    """A whole number from 0 on."""
    value = _whole(text)
    if value < 0:
        raise ArgumentTypeError("must not be negative")
    return value


def positive(text: str) -> int:
    """A whole number from 1 on."""
    value = _whole(text)
    if value < 1:
        raise ArgumentTypeError("must be at least 1")
    return value


def positive_number(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text[:40]!r} is no number") from error
    if not 0 < value < math.inf:
        raise ArgumentTypeError("must be a number above 0")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text[:40]!r} is no whole number") from error


def experiment_place(text: str) -> tuple[str, int | None]:
    """Read ID or ID:VERSION. Raises ArgumentTypeError."""
    name, version = _cut(text)
    return identifier(name), version


def run_place(text: str) -> tuple[Path, int | None]:
    """Read FOLDER or FOLDER:VERSION."""
    name, version = _cut(text)
    return Path(name), version


def _cut(text: str) -> tuple[str, int | None]:
    name, colon, version = text.rpartition(":")
    if colon and version.isascii() and version.isdigit():
        return name, natural(version)
    return text, None


def one_of(*choices: str) -> Callable[[str], str]:
    """Makes a reader of one of these words."""

    def read(text: str) -> str:
        if text not in choices:
            hint = suggestion(text, choices)
            raise ArgumentTypeError(f"must be one of {', '.join(choices)}, not {text[:40]!r}{hint}")
        return text

    return read


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where one of the known words is near; empty otherwise."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def option_like(word: str, options: Iterable[str]) -> str:
    """As `suggestion`, for an option. Dashes do not count: all options have them."""
    near = get_close_matches(word.lstrip("-"), [o.removeprefix("--") for o in options], n=1)
    return f"; did you mean --{near[0]}?" if near else ""

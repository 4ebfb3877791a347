"""Changes that no test should notice, by rule. Single ones are judged in equivalent.toml.

A rule looks at the changed lines, of which each begins with - or +.
"""

from __future__ import annotations

import re

_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_SQL = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|PRAGMA|BEGIN|COMMIT|ROLLBACK|FROM|WHERE|VALUES|ON)\b",
)
_STRICT = re.compile(r",\s*(strict=(True|False|None))?(?=\))")


def harmless(change: str) -> bool:
    """Whether one of the rules says that the change alters nothing that a test should hold."""
    lines = change.splitlines()
    if len(lines) != 2:
        return False
    old, new = (line[2:] for line in lines)
    return _letters_of_a_sentence(old, new) or _case_of_sql(old, new) or _zip_that_checks(old, new)


def _differing(old: str, new: str) -> list[tuple[str, str]]:
    """The string literals that differ, if nothing else does."""
    pairs = list(zip(_LITERAL.findall(old), _LITERAL.findall(new), strict=False))
    if _LITERAL.sub('""', old) != _LITERAL.sub('""', new):
        return []
    return [(a[1:-1], b[1:-1]) for a, b in pairs if a != b]


def _letters_of_a_sentence(old: str, new: str) -> bool:
    """Only people read a sentence, here one of three words or more.

    A test that repeats it word by word finds a typing error and hinders whoever writes a better
    one. Codes, keys, names of headers and events are shorter. That a sentence is missing
    altogether is not excused.
    """
    found = _differing(old, new)
    return bool(found) and all(
        a.strip().count(" ") >= 2
        and not _SQL.match(a)
        and b.removeprefix("XX").removesuffix("XX").casefold() == a.casefold()
        for a, b in found
    )


def _case_of_sql(old: str, new: str) -> bool:
    """SQLite reads keywords and names of tables and columns in any case."""
    found = _differing(old, new)
    return bool(found) and all(_SQL.match(a) and a.casefold() == b.casefold() for a, b in found)


def _zip_that_checks(old: str, new: str) -> bool:
    """`strict=True` raises an error in code that is wrong, and what calls it here is right."""
    return "zip(" in old and old != new and _STRICT.sub("", old) == _STRICT.sub("", new)

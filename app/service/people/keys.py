"""The keys of people beside the admin key, as the operator lists them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.service.people.roles import Person, read_roles
from serverless_fl.domain.records import slot_named

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TAKEN = frozenset({"admin", "central", "coordinator"})  # records give them to others


@dataclass(frozen=True)
class PersonKey:
    """The SHA-256 of a person's key. Keys are random and long, so the hash needs no salt."""

    person: Person
    sha256: str = field(repr=False)


def read_keys(entries: Iterable[str]) -> list[PersonKey]:
    """Read entries such as `alice:owner+reader:SHA256`. Raises ValueError.

    A person may have two keys, as while one is being replaced.
    """
    found: list[PersonKey] = []
    for entry in entries:
        name, _, rest = entry.partition(":")
        roles, _, digest = rest.partition(":")
        if not _NAME.fullmatch(name):
            raise ValueError(
                "each must be NAME:ROLES:SHA256, and a name has up to 60 letters, digits and ._@-"
            )
        if name in _TAKEN or slot_named(name) is not None:
            raise ValueError(f"must not name anybody {name}: records give that name to others")
        if not _SHA256.fullmatch(digest):
            raise ValueError(
                f"must have the SHA-256 of {name}'s key, in 64 hexadecimal digits: make both with "
                "`python -m app.entry.new_key`"
            )
        if any(key.sha256 == digest for key in found):
            raise ValueError(f"must not give {name} a key that is there already")
        found.append(PersonKey(Person(name, read_roles(roles)), digest))
    return found

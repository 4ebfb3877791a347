"""Make a person's key, and the entry of FL_KEYS that goes with it.

    python -m app.entry.new_key alice owner+reader

The key is shown once; the coordinator is told its SHA-256 alone.
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys
from collections.abc import Sequence

from app.service.people.keys import read_keys
from app.service.people.roles import ROLES

USAGE_FAULT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a new key and its entry. Gives the exit code: 2 for a name or roles that cannot be."""
    given = argparse.ArgumentParser(
        prog="python -m app.entry.new_key",
        description="Make a key for a person. The key is printed once; the entry for FL_KEYS "
        "holds its SHA-256 alone.",
    )
    given.add_argument("name", help="stands in records and in the audit log")
    given.add_argument("roles", help=f"{', '.join(ROLES)}; several are joined by +")
    found = given.parse_args(arguments)
    key = f"key_{secrets.token_urlsafe(32)}"
    entry = f"{found.name}:{found.roles}:{hashlib.sha256(key.encode()).hexdigest()}"
    try:
        read_keys([entry])
    except ValueError as error:
        print(f"error: {found.name}:{found.roles} {error}.", file=sys.stderr)
        return USAGE_FAULT
    print(f"The key, for {found.name} alone: {key}\nAdd to FL_KEYS: {entry}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

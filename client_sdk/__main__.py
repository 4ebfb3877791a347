"""`python -m client_sdk`."""

from __future__ import annotations

import sys


def main() -> None:
    """The command's entry: hands over to the CLI and exits with its code."""
    # Imported here: worker processes import this module too, and need none of it.
    from client_sdk.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

"""`python -m client_sdk`."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """The command's entry: hands over to the CLI and exits with its code."""
    if sys.version_info < (3, 11):  # noqa: UP036  (the other modules would not even compile)
        print("error: Python 3.11 is needed, or a newer one.", file=sys.stderr)
        sys.exit(2)
    _leave_out_the_working_folder()
    # Imported here: worker processes import this module too, and need none of it.
    from client_sdk import interrupts
    from client_sdk.errors import MISSING

    interrupts.leave_at_once()
    try:
        from client_sdk.cli import run
    except ModuleNotFoundError as error:
        print(f"error: {MISSING.format(error.name)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


def _leave_out_the_working_folder() -> None:
    """`python -m` imports from the working folder first, where a user's own app.py may lie.

    A checkout that is not installed is left as it is: there our own packages are in that folder.
    """
    here = str(Path.cwd())
    if sys.path and sys.path[0] in ("", here) and Path(__file__).parents[1] != Path(here):
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"  # for the processes that we start


if __name__ == "__main__":
    main()

"""`python -m client_sdk`."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.version_info < (3, 11):  # noqa: UP036  (the other modules would not even compile)
        print("error: Python 3.11 is needed, or a newer one.", file=sys.stderr)
        sys.exit(2)
    _leave_out_the_working_folder()
    # Imported here: worker processes import this module, too, and need neither.
    from client_sdk import hints, interrupts

    interrupts.leave_at_once()
    try:
        from client_sdk.cli.command_line import run
    except ModuleNotFoundError as error:
        print(f"error: {hints.missing(error.name)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


def _leave_out_the_working_folder() -> None:
    """Keep the working folder out of the imports: a user's own app.py or random.py may lie there.

    `python -m` puts it first. In a checkout that is not installed it stays, because this package
    lies there.
    """
    here = str(Path.cwd())
    if sys.path and sys.path[0] in ("", here) and Path(__file__).parents[1] != Path(here):
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"  # child processes do the same


if __name__ == "__main__":
    main()

"""Starts a coordinator on this machine: `python -m app`."""

import sys

from app.entry.server.command import main

if __name__ == "__main__":
    sys.exit(main())

"""The coordinator that a simulation starts: `python -m app.entry.server.embedded DESCRIPTOR`.

It serves the socket with this descriptor, which the simulation has bound and keeps open. So no
other process can take the port and receive the admin key, not even while the coordinator restarts.
The coordinator stops when its standard input ends, because then the simulation has ended, too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from app.entry.server import command

_STOP_SECONDS = 10.0


def main() -> int:
    """Serve until SIGTERM, or until the process at the other end of stdin ends."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    return command.main(["--fd", sys.argv[1], "--log-level", "warning"])


def _stop_with_parent() -> None:
    # Not sys.stdin.read: it would hold a lock that the interpreter needs at its end.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())

"""The coordinator that a run starts for itself: `python -m app.entry.server.embedded DESCRIPTOR`.

It serves the socket that it inherits under that number, which the run bound and keeps: no other
process can take the port, and be sent the admin key, not even while the coordinator is started
again. It stops when its standard input ends, because then the run is gone, however it ended.
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
    """Serve until SIGTERM, or until the process that holds the other end of stdin is gone."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    return command.main(["--fd", sys.argv[1], "--log-level", "warning"])


def _stop_with_parent() -> None:
    # Not sys.stdin.read: it would keep a lock that the interpreter wants at its end.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())

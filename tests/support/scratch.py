"""Where tests write: in memory, on a machine that has room there.

A store waits for the disk at each write: in memory its tests take a bit over half as long.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
ROOM = 6 * 2**30  # bytes; a run writes one gigabyte


def to_memory() -> Path | None:
    """Make a new folder in memory the place of pytest's files, and of those of all that it starts.

    Gives the folder. A TMPDIR that is set stays, and so does the disk where memory has less room or
    may hold no code. This process's own temporary files stay on the disk too: it deletes some of
    them at its very end, after the folder.
    """
    if "TMPDIR" in os.environ or not _has_room():
        return None
    tempfile.gettempdir()  # is remembered
    folder = tempfile.mkdtemp(prefix="serverless-fl-tests-", dir=SHARED_MEMORY)
    os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
    return Path(folder)


def _has_room() -> bool:
    try:
        state = os.statvfs(SHARED_MEMORY)
        memory = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:  # not Linux
        return False
    available = int(memory.partition("MemAvailable:")[2].split()[0]) * 1024
    holds_code = not state.f_flag & os.ST_NOEXEC
    free = min(state.f_bavail * state.f_frsize, available)
    return holds_code and os.access(SHARED_MEMORY, os.W_OK) and free >= ROOM

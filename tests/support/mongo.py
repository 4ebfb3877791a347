"""A MongoDB of one's own, which can be stopped and started again."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from examples.containers import free_port, wait_for_port


class MongoServer:
    """nx-27017, which speaks MongoDB's protocol, as a process of its own over a folder.

    It keeps each database in a file of its own there, and holds these open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "nx-27017"),
                *("--data-dir", str(self.folder / "db"), "-p", str(self.port)),
                *("--pid-file", str(self.folder / "pid")),
                *("--log-file", str(self.folder / "log")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if sys.platform == "linux":  # files of databases that were dropped stay open
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (most, most))
        try:
            wait_for_port(self.port, 20)
        except RuntimeError:
            self.stop()
            raise

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            (self.folder / "pid").unlink(missing_ok=True)

"""A coordinator of one's own: `uvicorn app.main:app` as a child process, restarted if it dies."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess  # nosec B404
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx

from client_sdk.errors import CoordinatorUnreachable

START_SECONDS = 60.0


class EmbeddedCoordinator:
    """Runs on a free loopback port with its state in `data_dir` for as long as it is entered.

    Raises CoordinatorUnreachable where it does not come up; the message ends with what it printed.
    """

    def __init__(
        self, data_dir: Path, admin_key: str, *, on_restart: Callable[[str], None] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.admin_key = admin_key
        self.url = ""
        self._on_restart = on_restart or (lambda message: None)
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._start()
        try:
            await self._wait_until_up()
        except BaseException:
            self._stop()
            raise
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper:
            self._keeper.cancel()
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in _SERVER_VARIABLES}
        environment |= {"FL_DATA_DIR": str(self.data_dir), "FL_ADMIN_KEY": self.admin_key}
        environment.setdefault("FL_LOG_LEVEL", "warning")  # a line a poll is of no use here
        with (self.data_dir / "coordinator.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)  # nosec B603
                [
                    *(sys.executable, "-m", "uvicorn", "app.main:app"),
                    *("--host", "127.0.0.1", "--port", str(self._port)),
                    *("--log-level", "warning", "--no-access-log"),
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; it stops when we say so
            )

    async def _wait_until_up(self) -> None:
        assert self._process is not None  # noqa: S101
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:
            while self._process.poll() is None and asyncio.get_running_loop().time() < deadline:
                try:
                    (await http.get("/health")).raise_for_status()
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)
                else:
                    return
        log = (self.data_dir / "coordinator.log").read_text(errors="replace")
        raise CoordinatorUnreachable(f"The embedded coordinator did not start:\n{log[-2000:]}")

    async def _keep(self) -> None:
        """Restart it whenever it dies; clients retry meanwhile, and nothing is lost."""
        while True:
            await asyncio.sleep(0.2)
            if self._process is not None and (code := self._process.poll()) is not None:
                self._on_restart(f"The coordinator died (exit code {code}); starting it again.")
                self._start()
                await asyncio.sleep(1.0)

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


# What is set for another coordinator on this machine is not meant for this one.
_SERVER_VARIABLES = frozenset(
    {
        *("MONGODB_URL", "FL_MONGODB_URL", "FL_S3_BUCKET", "FL_DATA_DIR"),
        *("FL_ADMIN_KEY", "FL_ADMIN_KEY_PREVIOUS"),
    }
)


def free_port() -> int:
    """A loopback port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""A coordinator, or a helper, in a child process (`app.entry.server.embedded`), which this one
restarts if it dies.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess  # nosec B404
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

import httpx

from client_sdk import interrupts
from client_sdk.errors import CoordinatorUnreachable

START_SECONDS = 60.0


class EmbeddedServer:
    """Runs on a free loopback port, with its state in `data_dir`, while the context is entered.

    This process binds the port and gives the socket to the child, so that nobody else can take the
    port while the child restarts. The child ends by itself once this process is gone.

    Entering raises CoordinatorUnreachable where the child does not start; the message says why.
    """

    role: ClassVar[str]

    def __init__(
        self, data_dir: Path, admin_key: str, *, on_restart: Callable[[str], None] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.admin_key = admin_key
        self.url = ""
        self._on_restart = on_restart or (lambda message: None)
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts: asyncio.Task[None] | None = None
        self._socket = socket.socket()

    async def __aenter__(self) -> Self:
        if sys.platform == "win32":
            raise CoordinatorUnreachable(
                "No coordinator can be started on Windows: start one elsewhere, give its --server."
            )
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._start()
        try:
            await self._wait_until_up()
        except BaseException:
            self._stop()
            raise
        self._restarts = asyncio.create_task(self._restart_when_dead())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._restarts:
            self._restarts.cancel()
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def _settings(self) -> dict[str, str]:
        """Settings that this server alone has."""
        return {}

    @property
    def _log(self) -> Path:
        return self.data_dir / f"{self.role}.log"

    def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in _SERVER_VARIABLES}
        environment |= {"FL_DATA_DIR": str(self.data_dir), "FL_ADMIN_KEY": self.admin_key}
        environment |= {"FL_ROLE": self.role, **self._settings()}
        environment.setdefault("FL_LOG_LEVEL", "warning")  # `info` writes a line a poll
        environment["PYTHONPATH"] = os.pathsep.join(_search_path())
        handle = self._socket.fileno()
        with self._log.open("ab") as log, interrupts.kept_from_children():
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)  # nosec B603
                [sys.executable, "-P", "-m", "app.entry.server.embedded", str(handle)],
                env=environment,
                stdin=subprocess.PIPE,  # its end tells the child that this process is gone
                stdout=log,
                stderr=log,
                pass_fds=[handle],
                start_new_session=True,  # Ctrl-C reaches this process alone, which stops the child
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
        raise CoordinatorUnreachable(
            f"The embedded {self.role} did not start: {_reason(self._log)} (its log is {self._log})"
        )

    async def _restart_when_dead(self) -> None:
        """Restart the child whenever it dies. Clients retry meanwhile, and nothing is lost."""
        while True:
            await asyncio.sleep(0.2)
            if self._process is not None and (code := self._process.poll()) is not None:
                self._on_restart(f"The {self.role} died (exit code {code}); starting it again.")
                self._close_input()
                self._start()
                await asyncio.sleep(1.0)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._close_input()
        self._socket.close()

    def _close_input(self) -> None:
        """Close the pipe to an ended child."""
        assert self._process is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()


class EmbeddedHelper(EmbeddedServer):
    """A helper of secure aggregation, on a port of its own, over a store of its own.

    Beside its coordinator on one machine it shows how the two work, and protects nobody: who has
    the machine has both halves of each update.
    """

    role = "helper"

    async def fingerprint(self) -> str:
        """Its public key, which an experiment's `helper_key` names. Raises
        CoordinatorUnreachable.
        """
        try:
            async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:
                answer = (await http.get("/v1/helper")).raise_for_status()
        except httpx.HTTPError as error:
            raise CoordinatorUnreachable(f"The embedded helper does not answer: {error}") from error
        return str(answer.json()["key"])


class EmbeddedCoordinator(EmbeddedServer):
    """A coordinator. It asks `helper`, which is entered before, for sums of masks."""

    role = "coordinator"

    def __init__(
        self,
        data_dir: Path,
        admin_key: str,
        *,
        on_restart: Callable[[str], None] | None = None,
        helper: EmbeddedHelper | None = None,
    ) -> None:
        super().__init__(data_dir, admin_key, on_restart=on_restart)
        self._helper = helper

    def _settings(self) -> dict[str, str]:
        if self._helper is None:
            return {}
        return {"FL_HELPER_URL": self._helper.url, "FL_HELPER_KEY": self._helper.admin_key}


# Variables of another coordinator on this machine do not reach this one.
_SERVER_VARIABLES = frozenset(
    {
        *("MONGODB_URL", "FL_MONGODB_URL", "FL_S3_BUCKET", "FL_DATA_DIR"),
        *("FL_ADMIN_KEY", "FL_ADMIN_KEY_PREVIOUS", "FL_ROLE", "FL_HELPER_URL", "FL_HELPER_KEY"),
        *("FL_HELPER_FEWEST", "FL_HELPER_PINS"),
    }
)


def _search_path() -> list[str]:
    """The folders from which the child imports: this process's, without those of a foreign `app`.

    The coordinator's `app` lies beside `client_sdk`. The folder of a user's script comes before
    that in this process's path, and may hold an app.py or a package app/ of the user's own.
    """
    home = str(Path(__file__).parents[2])
    others = [folder for folder in sys.path if folder and folder != home]
    return [folder for folder in others if not _holds_app(Path(folder))] + [home]


def _holds_app(folder: Path) -> bool:
    return (folder / "app.py").exists() or (folder / "app").exists()


def _reason(log: Path) -> str:
    """The last line of a server's log that gives a reason."""
    lines = [
        line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    reasons = [line for line in lines if line and "Application startup failed" not in line]
    last = reasons[-1] if reasons else "it said nothing."
    return last.removeprefix("error:").removeprefix("ERROR:").strip()[:500]

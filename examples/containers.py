"""Processes that play a platform's containers, and a function that serves a pool of them."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Self

import httpx
from starlette.applications import Starlette

from client_sdk import hints


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 60.0) -> None:
    """Wait until a process listens on the port. Raises RuntimeError after `seconds` seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"No process listens on port {port} after {seconds:g} s.")


# On Linux the kernel can send a process a signal when its parent ends (prctl(2)).
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Container(ABC):
    """A process that answers at `url`, on a port of this machine. Use it as a context manager.

    It gets this process's environment without the names in `hidden`, and `environment`. It writes
    its output to `log`.
    """

    hidden: tuple[str, ...] = ()  # prefixes of variables' names

    def __init__(self, environment: Mapping[str, str], log: IO[bytes] | None = None) -> None:
        self.environment = dict(environment)
        self.log = log
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Give the words of the command whose process listens on `port`."""

    def __enter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(self.hidden)}
        self._process = subprocess.Popen(
            self.command(port),
            env=inherited | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,  # Ctrl-C reaches only this process, which ends the container
            preexec_fn=_end_with_parent if _LIBC else None,  # noqa: PLW1509  (one system call)
        )
        try:
            wait_for_port(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def peak_memory(self) -> int:
        """Give the peak resident memory of its largest process, in bytes. Linux only."""
        assert self._process is not None
        peaks, found, statuses = [0], {self._process.pid}, dict(_statuses())
        while family := {pid for pid in statuses if pid in found}:
            peaks += [_number(statuses.pop(pid).get("VmHWM")) * 1024 for pid in family]
            found = {pid for pid, status in statuses.items() if _number(status["PPid"]) in family}
        return max(peaks)


def _statuses() -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the id and the fields of /proc/PID/status of every process."""
    for path in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # the process may have ended meanwhile
            fields = (line.partition(":") for line in path.read_text().splitlines())
            yield int(path.parent.name), {name: value for name, _, value in fields}


def _number(value: str | None) -> int:
    return int(value.split()[0]) if value else 0


class LocalMongo(Container):
    """nx-27017, a database that speaks MongoDB's protocol, in a temporary folder."""

    def __init__(self) -> None:
        super().__init__({})
        self._folder = tempfile.TemporaryDirectory()

    def command(self, port: int) -> list[str]:
        at = Path(self._folder.name)
        return [
            *(str(Path(sys.executable).parent / "nx-27017"), "--db", str(at / "db")),
            *("-p", str(port), "--pid-file", str(at / "pid"), "--log-file", str(at / "log")),
        ]

    def __enter__(self) -> Self:
        self.log = Path(self._folder.name, "output").open("wb")
        super().__enter__()
        self.url = self.url.replace("http:", "mongodb:")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()  # its data is not needed, and a normal end takes long
        self._process.wait()
        assert self.log is not None
        self.log.close()
        self._folder.cleanup()


def serve(
    platform: str,
    arguments: argparse.Namespace,
    make_container: Callable[[dict[str, str], IO[bytes]], Container],
    make_gateway: Callable[[Sequence[str], dict[str, str]], Starlette],
) -> None:
    """Serve a pool of containers behind a gateway until interrupted, and print how to use it.

    `make_container` gets the coordinator's settings and a file for its log; `make_gateway` gets the
    containers' URLs and the settings. The state is in the database MONGODB_URL; without it, in an
    nx-27017 that this function starts.
    """
    # Without a handler SIGTERM would end this process at once and leave the containers running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = {k: v for k, v in os.environ.items() if k.startswith("FL_") and v}
    settings.setdefault("FL_ADMIN_KEY", secrets.token_urlsafe(32))
    try:
        with ExitStack() as stack:
            _serve(stack, platform, arguments, settings, make_container, make_gateway)
    except KeyboardInterrupt:
        sys.exit(130)
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")


def _serve(
    stack: ExitStack,
    platform: str,
    arguments: argparse.Namespace,
    settings: dict[str, str],
    make_container: Callable[[dict[str, str], IO[bytes]], Container],
    make_gateway: Callable[[Sequence[str], dict[str, str]], Starlette],
) -> None:
    """Start and serve all. Raises RuntimeError and OSError with a sentence."""
    listener = stack.enter_context(_listener(arguments.port))  # first, as it fails most often
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings["MONGODB_URL"] = os.environ.get("MONGODB_URL") or stack.enter_context(LocalMongo()).url
    log = stack.enter_context(
        tempfile.NamedTemporaryFile(prefix="containers-", suffix=".log", delete=False)
    )
    started = [
        stack.enter_context(make_container(settings, log.file)) for _ in range(arguments.containers)
    ]
    app = make_gateway([container.url for container in started], settings)
    asyncio.run(
        _gateway(
            app,
            listener,
            log.name,
            f"{platform} behind {url} (API docs: /docs)\n"
            f"FL_ADMIN_KEY={settings['FL_ADMIN_KEY']} "
            f"{hints.command('--clients', '20', '--server', url)}\n"
            f"(the containers write their output to {log.name})",
        )
    )


def _listener(port: int) -> socket.socket:
    """Listen on a port of this machine. Raises OSError with a sentence."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
        found.listen()
    except OSError as error:
        found.close()
        raise OSError(f"Cannot listen on port {port}: {error.strerror}.") from error
    return found


async def _gateway(app: Starlette, listener: socket.socket, log: str, ready: str) -> None:
    """Serve, and print `ready` after a container has answered a request."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve([listener]))
    port = listener.getsockname()[1]
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        try:
            (await http.get(f"http://127.0.0.1:{port}/health")).raise_for_status()
        except httpx.HTTPError as error:
            server.should_exit = True
            await serving
            raise RuntimeError(f"The coordinator does not start; see {log}.") from error
    print(ready, flush=True)
    await serving


def parser(description: str) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--port", type=_port, default=8000, help="0: a free port; default: 8000")
    found.add_argument("--containers", type=positive, default=2, help="default: 2")
    return found


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: it must be 0 to 65535")
    return int(text)


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)

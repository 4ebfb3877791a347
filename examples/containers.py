"""Processes that stand in for a platform's containers, and what starts a pool of them."""

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
    """Raises RuntimeError where nothing listens in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"nothing listens on port {port}")


# Linux: a signal for a process whose parent is gone, however that ended (prctl(2)).
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Container:
    """A process that answers on a port of this machine, at `url`. Use it as a context manager.

    It gets this process's environment, less `hidden`, and `environment`; `log` takes what it says.
    """

    hidden: tuple[str, ...] = ()  # prefixes of names

    def __init__(self, environment: Mapping[str, str], log: IO[bytes] | None = None) -> None:
        self.environment = dict(environment)
        self.log = log
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, port: int) -> list[str]:
        raise NotImplementedError

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
            start_new_session=True,  # Ctrl-C is for us; it stops when we say so
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
        """The most bytes that its largest process has had resident. Linux only."""
        assert self._process is not None
        peaks, found, statuses = [0], {self._process.pid}, dict(_statuses())
        while family := {pid for pid in statuses if pid in found}:
            peaks += [_number(statuses.pop(pid).get("VmHWM")) * 1024 for pid in family]
            found = {pid for pid, status in statuses.items() if _number(status["PPid"]) in family}
        return max(peaks)


def _statuses() -> Iterator[tuple[int, dict[str, str]]]:
    """Every process's /proc/PID/status."""
    for path in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # it may just have ended
            fields = (line.partition(":") for line in path.read_text().splitlines())
            yield int(path.parent.name), {name: value for name, _, value in fields}


def _number(value: str | None) -> int:
    return int(value.split()[0]) if value else 0


class LocalMongo(Container):
    """nx-27017, which speaks MongoDB's protocol, over a temporary folder; entering gives it."""

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
        self._process.kill()  # it has nothing to keep, and takes its time to end by itself
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
    """Serve a pool of containers behind a gateway until interrupted, and say how to use it.

    Both makers get the coordinator's settings; a container also where to write its log. State is
    in MongoDB: MONGODB_URL, or an nx-27017 of its own where that is not set.
    """
    # SIGTERM would end this process at once and leave the containers and the database behind.
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
    """Raises RuntimeError, OSError: a sentence each."""
    listener = stack.enter_context(_listener(arguments.port))  # before anything is started
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
            f"(what the containers say goes to {log.name})",
        )
    )


def _listener(port: int) -> socket.socket:
    """Raises OSError, whose message is a sentence."""
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
    """Serve, and print `ready` once a request has come back from a container."""
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
            raise RuntimeError(f"The coordinator does not start; {log} says why.") from error
    print(ready, flush=True)
    await serving


def parser(description: str) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--port", type=_port, default=8000, help="0: a free one; default: 8000")
    found.add_argument("--containers", type=positive, default=2, help="default: 2")
    return found


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: it must be 0 to 65535")
    return int(text)


def positive(text: str) -> int:
    """An argument that is a whole number from 1 on."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)

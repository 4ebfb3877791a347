"""The commands as processes of their own, as people start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx

from examples.containers import free_port
from tests.support import warm

SMALL = [
    *("--dataset", "digits", "--clients", "6", "--clients-per-round", "4", "--rounds", "3"),
    *("--local-epochs", "100"),  # a round must last long enough to be caught in its middle
    *("--workers", "1"),  # each more takes seconds to start, and gives the same bytes
]
QUICK = [*SMALL, "--local-epochs", "2"]  # where nothing is caught in the middle
KEY = "an-admin-key-for-e2e"
MODULE = [sys.executable, "-m", "client_sdk"]


def environment(**more: str) -> dict[str, str]:
    return os.environ | more


def run_module(module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`python -m` some module to its end, with these settings in its environment."""
    return warm.run([sys.executable, "-m", module, *arguments], env=environment(**settings))


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command of the SDK, to its end."""
    return run_module("client_sdk", *arguments, **settings)


def start(*arguments: str, anew: bool = False, **settings: str) -> subprocess.Popen[str]:
    """A command of the SDK in a process group of its own, to which Ctrl-C can go.

    What it writes to either stream comes out of `stdout`. `anew`: for a test that looks at the
    processes which the command has started.
    """
    how = subprocess.Popen if anew else warm.Popen
    return how(
        [*MODULE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(**settings),
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def join(
    server: str, experiment: str, key: str, name: str, key_file: Path
) -> subprocess.Popen[str]:
    """One participant, started as a party starts it."""
    return start(
        *("join", "--server", server, "--experiment", experiment),
        *("--name", name, "--key-file", str(key_file)),
        FL_ENROL_KEY=key,
    )


def read_until(process: subprocess.Popen[str], beginning: str) -> list[str]:
    """What a process says, up to the first line that begins so, which is the last."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"no line began with {beginning!r}: {''.join(lines)}")


def wait_for(condition, seconds: float = 60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come about in time")


def descendants(pid: int) -> set[int]:
    """The processes that this one has started, and those that they have. Linux only."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may just have ended
            # The name, in brackets, may hold anything.
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.parent.name)] = int(parent)
    found, family = set(), {pid}
    while family := {child for child, parent in parents.items() if parent in family} - found:
        found |= family
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if _state(pid) not in ("", "Z")}


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    return ""


def listening_on(port: int) -> set[int]:
    """The processes that hold the socket which listens on a port of this machine. Linux only."""
    lines = [
        line.split() for line in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]
    ]
    here = f"0100007F:{port:04X}"
    inodes = {f"socket:[{line[9]}]" for line in lines if line[1] == here and line[3] == "0A"}
    found = set()
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(path.readlink()) in inodes:
                found.add(int(path.parts[2]))
    return found


class Server:
    """`python -m app` as an operator starts it."""

    program = ("-m", "app")

    def __init__(self, *options: str, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.options, self.settings = options, {"FL_ADMIN_KEY": KEY} | settings
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = warm.Popen(
            [
                *(sys.executable, *self.program, "--port", str(self.port)),
                *("--log-level", "warning", *self.options),
            ],
            env=environment(**self.settings),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for(self.is_up)

    def as_admin(self) -> httpx.Client:
        """Plain HTTP, below /v1, with the admin's key."""
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=f"{self.url}/v1", headers=headers, trust_env=False)

    def is_up(self) -> bool:
        try:
            # To read the certificates of all authorities takes longer than the request.
            return httpx.get(f"{self.url}/health", trust_env=False, verify=False).is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL, workers included."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.communicate(timeout=20)


def model_of(out: Path) -> bytes:
    return (out / "global.safetensors").read_bytes()

"""The coordinator as AWS runs it, on this machine: `make lambda-local`.

    python -m examples.lambda_local --port 8000 --containers 2

Starts Lambda's own runtime interface emulator (it ships in the aws-sam-cli package) with the real
runtime client (awslambdaric), once a container, and a gateway in front of them. State is in
MongoDB: MONGODB_URL, or an nx-27017 of its own where that is not set.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

HANDLER = "app.entry.aws_lambda.handler"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 20.0) -> None:
    """Raises RuntimeError where nothing listens in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing listens on port {port}")


def emulator_path() -> Path:
    """Lambda's runtime interface emulator. Raises RuntimeError where it is not installed."""
    spec = importlib.util.find_spec("samcli")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("The emulator is missing: pip install --no-deps aws-sam-cli")
    arch = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    path = Path(spec.submodule_search_locations[0], "local", "rapid", f"aws-lambda-rie-{arch}")
    if not os.access(path, os.X_OK):
        path.chmod(0o755)
    return path


class LambdaContainer:
    """One emulated container; `url` takes invocations. Use it as a context manager."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.url = ""

    def __enter__(self) -> LambdaContainer:
        port, runtime_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [
                *(str(emulator_path()), "--log-level", "error"),
                *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
                *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
                *(sys.executable, "-m", "awslambdaric", HANDLER),
            ],
            env=os.environ | {"AWS_LAMBDA_FUNCTION_TIMEOUT": "60"} | self.environment,
            start_new_session=True,
        )
        wait_for_port(port)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()


class LocalMongo:
    """nx-27017 over a temporary folder. Use it as a context manager."""

    def __enter__(self) -> str:
        port, self._folder = free_port(), tempfile.TemporaryDirectory()
        at = Path(self._folder.name)
        self._process = subprocess.Popen(
            [
                *(str(Path(sys.executable).parent / "nx-27017"), "--db", str(at / "db")),
                *("-p", str(port), "--pid-file", str(at / "pid"), "--log-file", str(at / "log")),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(port)
        return f"mongodb://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def serve(mongodb_url: str, admin_key: str, port: int, containers: int) -> None:
    """Serve until interrupted."""
    import uvicorn

    environment = {"MONGODB_URL": mongodb_url, "FL_ADMIN_KEY": admin_key}
    started = [LambdaContainer(environment).__enter__() for _ in range(containers)]
    os.environ["EMULATORS"] = ",".join(container.url for container in started)
    try:
        uvicorn.run("examples.lambda_gateway:app", port=port, log_level="warning")
    finally:
        for container in started:
            container.__exit__()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--containers", type=int, default=2)
    arguments = parser.parse_args()
    # SIGTERM would end this process at once and leave the emulators and the database behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    key = os.environ.get("FL_ADMIN_KEY") or secrets.token_urlsafe(32)
    print(
        f"Lambda emulators behind http://127.0.0.1:{arguments.port} (API docs: /docs)\n"
        f"FL_ADMIN_KEY={key} python -m client_sdk --clients 20 "
        f"--server http://127.0.0.1:{arguments.port}",
        flush=True,
    )
    if url := os.environ.get("MONGODB_URL"):
        serve(url, key, arguments.port, arguments.containers)
    else:
        with LocalMongo() as url:
            serve(url, key, arguments.port, arguments.containers)


if __name__ == "__main__":
    main()

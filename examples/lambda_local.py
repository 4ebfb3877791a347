"""The coordinator as AWS runs it, on this machine: `make lambda-local`.

    python -m examples.lambda_local --port 8000 --containers 2

It starts containers with a gateway in front. Each container is Lambda's own runtime interface
emulator (from the package aws-sam-cli) with the real runtime client (awslambdaric). The state is in
the database MONGODB_URL; without it, in an nx-27017 that this command starts.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from examples import lambda_gateway
from examples.containers import Container, free_port, parser, serve

HANDLER = "app.entry.aws_lambda.handler"


def emulator_path() -> Path:
    """Find Lambda's runtime interface emulator. Raises RuntimeError if it is not installed."""
    spec = importlib.util.find_spec("samcli")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(
            f"The emulator is missing: {sys.executable} -m pip install --no-deps aws-sam-cli"
        )
    arch = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    path = Path(spec.submodule_search_locations[0], "local", "rapid", f"aws-lambda-rie-{arch}")
    if not os.access(path, os.X_OK):
        path.chmod(0o755)
    return path


class LambdaContainer(Container):
    """One emulated container; it takes events at `url` + INVOKE."""

    handler, seconds = HANDLER, lambda_gateway.SECONDS

    def __init__(self, environment: Mapping[str, str], log: IO[bytes] | None = None) -> None:
        timeout = {"AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.seconds)}
        super().__init__(timeout | dict(environment), log)

    def command(self, port: int) -> list[str]:
        return [
            *(str(emulator_path()), "--log-level", "error"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
            *("--runtime-api-address", f"127.0.0.1:{free_port()}"),
            *(sys.executable, "-m", "awslambdaric", self.handler),
        ]


class ClientContainer(LambdaContainer):
    """A container of a party's client, which takes one turn an event."""

    handler, seconds = "client_sdk.entry.function.handler", 900


def main() -> None:
    serve(
        "Lambda emulators",
        parser(str(__doc__).splitlines()[0]).parse_args(),
        LambdaContainer,
        lambda urls, settings: lambda_gateway.create_app(urls),
    )


if __name__ == "__main__":
    main()

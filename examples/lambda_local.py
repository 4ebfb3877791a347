"""The coordinator as AWS runs it, on this machine: `make lambda-local`.

    python -m examples.lambda_local --port 8000 --containers 2

Starts Lambda's own runtime interface emulator (it ships in the aws-sam-cli package) with the real
runtime client (awslambdaric), once a container, and a gateway in front of them. State is in
MongoDB: MONGODB_URL, or an nx-27017 of its own where that is not set.
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
    """Lambda's runtime interface emulator. Raises RuntimeError where it is not installed."""
    spec = importlib.util.find_spec("samcli")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("The emulator is missing: pip install --no-deps aws-sam-cli")
    arch = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    path = Path(spec.submodule_search_locations[0], "local", "rapid", f"aws-lambda-rie-{arch}")
    if not os.access(path, os.X_OK):
        path.chmod(0o755)
    return path


class LambdaContainer(Container):
    """One emulated container; `url` + INVOKE takes events."""

    def __init__(self, environment: Mapping[str, str], log: IO[bytes] | None = None) -> None:
        timeout = {"AWS_LAMBDA_FUNCTION_TIMEOUT": str(lambda_gateway.SECONDS)}
        super().__init__(timeout | dict(environment), log)

    def command(self, port: int) -> list[str]:
        return [
            *(str(emulator_path()), "--log-level", "error"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
            *("--runtime-api-address", f"127.0.0.1:{free_port()}"),
            *(sys.executable, "-m", "awslambdaric", HANDLER),
        ]


def main() -> None:
    serve(
        "Lambda emulators",
        parser(str(__doc__).splitlines()[0]).parse_args(),
        LambdaContainer,
        lambda urls, settings: lambda_gateway.create_app(urls),
    )


if __name__ == "__main__":
    main()

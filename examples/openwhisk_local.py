"""The coordinator as Apache OpenWhisk runs it, on this machine: `make openwhisk-local`.

    python -m examples.openwhisk_local --port 8000 --containers 2 --per-minute 600

Starts the Docker action's server once a container, and a controller of the same limits in front of
them. State is in MongoDB: MONGODB_URL, or an nx-27017 of its own where that is not set.
"""

from __future__ import annotations

import sys
from typing import Self

import httpx

from examples.containers import Container, parser, positive, serve
from examples.openwhisk_gateway import RateLimit, create_app

INIT = {"value": {"name": "coordinator", "main": "main", "binary": False, "code": ""}}


class OpenWhiskContainer(Container):
    """One action server, initialised; `url` + "/run" takes activations.

    Its settings are not in its environment: they are parameters bound to the action, which the
    controller sends with each activation.
    """

    hidden = ("FL_", "MONGODB")

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "uvicorn", "app.entry.openwhisk:action"),
            *("--port", str(port), "--log-level", "warning", "--no-access-log"),
        ]

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            answer = httpx.post(f"{self.url}/init", json=INIT, timeout=60, trust_env=False)
            answer.raise_for_status()
        except BaseException:
            self.__exit__()
            raise
        return self


def main() -> None:
    options = parser(str(__doc__).splitlines()[0])
    options.add_argument(
        "--per-minute", type=positive, help="invocations let through; default: all"
    )
    given = options.parse_args()
    rate = RateLimit(given.per_minute) if given.per_minute else None
    serve(
        "OpenWhisk actions",
        given,
        lambda settings, log: OpenWhiskContainer({}, log),
        lambda urls, settings: create_app(urls, settings, rate),
    )


if __name__ == "__main__":
    main()

"""The coordinator as Apache OpenWhisk runs it, on this machine: `make openwhisk-local`.

    python -m examples.openwhisk_local --port 8000 --containers 2 --per-minute 600

It starts containers with a gateway in front. Each container is the Docker action's server, and the
gateway has the limits of OpenWhisk's controller. The state is in the database MONGODB_URL; without
it, in an nx-27017 that this command starts.
"""

from __future__ import annotations

import sys
from typing import Self

import httpx

from examples.containers import Container, parser, positive, serve
from examples.openwhisk_gateway import RateLimit, create_app

INIT = {"value": {"name": "coordinator", "main": "main", "binary": False, "code": ""}}


class OpenWhiskContainer(Container):
    """One initialised action server; it takes activations at `url` + "/run".

    Its settings are not in its environment. They are parameters bound to the action, and the
    gateway sends them with each activation.
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
        "--per-minute", type=positive, help="the most invocations a minute; default: no limit"
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

"""`python -m app`: a coordinator on this machine, under uvicorn, with bounded connections.

    python -m app --host 0.0.0.0 --port 8000 --workers 4

An installation has it as the command `serverless-fl-coordinator`, too, which does not look for
`app` in the working folder: an app.py of the user's own may lie there.
`uvicorn app.main:app` works too, but without the bounds of `app.entry.server.connections`, and
uvicorn then believes the headers of any proxy on this machine.
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess

from app.config import BadSettings, Settings, read_settings

APPLICATION = "app.main:app"  # a name, because each worker imports the application itself
PROTOCOL = "app.entry.server.connections:BoundedProtocol"
MOST_FILES = 65_536
USAGE_FAULT = 2
SCRIPT = "serverless-fl-coordinator"  # as pyproject.toml names this command


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command's options, which have uvicorn's names."""
    given = argparse.ArgumentParser(
        prog=SCRIPT if Path(sys.argv[0]).stem == SCRIPT else "python -m app",
        description="A coordinator: the page is at /, the API's documentation at /docs. "
        "Its settings come from the environment (FL_...), see docs/coordinator.md.",
    )
    given.add_argument("--host", default="127.0.0.1", help="the address to listen on; 0.0.0.0: all")
    given.add_argument("--port", type=_port, default=8000, help="0: a free one (default: 8000)")
    given.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    given.add_argument("--fd", type=int, metavar="N", help="listen on this inherited socket")
    given.add_argument("--workers", type=_workers, default=1, help="processes (default: 1)")
    given.add_argument("--log-level", default="info", choices=uvicorn.config.LOG_LEVELS)
    given.add_argument("--ssl-certfile", metavar="FILE", help="answer HTTPS with this certificate")
    given.add_argument("--ssl-keyfile", metavar="FILE")
    return given.parse_args(arguments)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: it must be 0 to 65535")
    return int(text)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of processes: it must be 1 to 1024"
        )
    return int(text)


def uvicorn_config(given: argparse.Namespace, settings: Settings) -> uvicorn.Config:
    """Configure uvicorn: with bounded connections, and with the proxies of the settings only."""
    return uvicorn.Config(
        APPLICATION,
        host=given.host,
        port=given.port,
        uds=given.uds,
        http=PROTOCOL,
        ws="none",
        workers=given.workers,
        log_level=given.log_level,
        access_log=False,  # the application logs every request itself
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies,
        ssl_certfile=given.ssl_certfile,
        ssl_keyfile=given.ssl_keyfile,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Gives the exit code: 2 for wrong settings or options."""
    given = options(arguments)
    try:
        settings = read_settings()
    except BadSettings as error:
        return _refuse(f"error: {error}")
    _raise_file_limit()
    try:
        listening = _listen(given)
        config = uvicorn_config(given, settings)
    except OSError as error:
        where = given.uds or (f"descriptor {given.fd}" if given.fd is not None else None)
        where = where or f"{given.host}:{given.port}"
        return _refuse(f"error: cannot listen on {where}: {error.strerror or error}.")
    server = uvicorn.Server(config)
    try:
        if given.workers > 1:
            Multiprocess(config, sockets=[listening]).run()
            return 0
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    return 0 if server.started else 1


def _listen(given: argparse.Namespace) -> socket.socket:
    """Bind the socket. Raises OSError."""
    if given.fd is not None:
        return socket.socket(fileno=given.fd)
    if given.uds:
        found = socket.socket(socket.AF_UNIX)
        found.bind(given.uds)
    else:
        family, *_, address = socket.getaddrinfo(given.host, given.port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        shown = f"[{given.host}]" if ":" in given.host else given.host
        scheme = "https" if given.ssl_certfile else "http"
        print(f"Listening on {scheme}://{shown}:{found.getsockname()[1]}", file=sys.stderr)
    found.set_inheritable(True)
    return found


def _raise_file_limit() -> None:
    """Raise this process's limit of open files, because each connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return USAGE_FAULT

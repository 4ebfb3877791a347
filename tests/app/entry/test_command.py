"""`python -m app`: what it takes, what it refuses, and how it starts uvicorn."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from app.config import Settings
from app.entry.server import command
from app.entry.server.connections import BoundedProtocol
from tests.support.processes import run_module

KEY = "a-key-for-the-command"


def config(*arguments, **settings):
    return command.uvicorn_config(
        command.options(arguments), Settings(**{"admin_key": KEY} | settings)
    )


def test_no_proxy_is_believed_that_no_setting_names():
    assert config().proxy_headers is False
    named = config(trusted_proxies="10.0.0.1, 192.168.0.0/16")
    assert named.proxy_headers is True
    assert named.forwarded_allow_ips == ["10.0.0.1", "192.168.0.0/16"]


def test_connections_are_bounded_and_websockets_are_not_spoken():
    found = config()
    found.load()
    assert found.http_protocol_class is BoundedProtocol
    assert found.ws_protocol_class is None
    assert found.access_log is False


def run(*arguments, **settings):
    return run_module("app", *arguments, **{"FL_ADMIN_KEY": KEY} | settings)


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["--port", "99999"], {}, "'99999' is no port"),
        (["--workers", "0"], {}, "'0' is no number of processes"),
        (
            ["--host", "no.such.host.invalid"],
            {},
            "error: cannot listen on no.such.host.invalid:8000",
        ),
        (["--fd", "999"], {}, "error: cannot listen on descriptor 999"),
        ([], {"FL_ADMIN_KEY": "hunter2"}, "error: FL_ADMIN_KEY: must have at least 16"),
        ([], {"FL_TRUSTED_PROXIES": "0.0.0.0/0"}, "error: FL_TRUSTED_PROXIES: "),
        ([], {"FL_TRUSTED_PROXIES": "*"}, "error: FL_TRUSTED_PROXIES: "),
        ([], {"FL_BASE_PATH": "a b"}, "error: FL_BASE_PATH: "),
    ],
)
def test_what_cannot_be_started_is_said_in_a_sentence(arguments, settings, said):
    done = run(*arguments, **settings)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_a_port_in_use_is_said_in_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", str(port))
    assert done.returncode == 2
    assert done.stderr == f"error: cannot listen on 127.0.0.1:{port}: Address already in use.\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_on_a_socket_that_it_was_given(tmp_path, workers):
    """Nobody else can take a port that is bound already."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "app", "--fd", str(listening.fileno())),
                *("--workers", workers, "--log-level", "warning"),
            ],
            pass_fds=[listening.fileno()],
            env=os.environ | {"FL_ADMIN_KEY": KEY, "FL_DATA_DIR": str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            # The socket listens already: the request waits until somebody takes it.
            assert http.get("/health", timeout=60).status_code == 200
            long = http.get("/health", headers={"X": "x" * 40_000})
            assert (long.status_code, long.json()["code"]) == (431, "head-too-large")
            lie = http.get("/health", headers={"X-Forwarded-For": "192.0.2.1"})
            assert lie.status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert "Traceback" not in said

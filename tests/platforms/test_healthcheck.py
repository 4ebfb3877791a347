"""The image's health check: it must not call a container healthy in which nothing listens."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from examples.containers import free_port
from tests.support.local_server import QuietHandler, serving

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "docker" / "healthcheck.py"


def healthy(server_port, action_port):
    command = [sys.executable, str(CHECK), str(server_port), str(action_port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode == 0


@pytest.mark.parametrize("status", [200, 503, 404])
def test_a_server_is_healthy_while_it_says_that_it_is_ready(status):
    asked = []

    class Ready(QuietHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

    with serving(Ready) as server, socket.create_server(("127.0.0.1", 0)) as other:
        assert healthy(server.server_port, other.getsockname()[1]) == (status == 200)
    assert asked == ["/ready"]


def test_what_listens_where_an_action_does_is_healthy():
    with socket.create_server(("127.0.0.1", 0)) as action:
        assert healthy(free_port(), action.getsockname()[1])


def test_where_nothing_listens_nothing_is_healthy():
    assert not healthy(free_port(), free_port())


def test_the_image_asks_it():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert 'CMD ["python3", "/healthcheck.py"]' in text
    assert f"docker/{CHECK.name} /" in text

"""Garbage is searched for in a server, and in a container once its application is open."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "searched"),
    [
        ("app.main", True),
        ("app.entry.server.command", True),
        ("app.entry.server.connections", True),
        ("app.entry.server.embedded", True),
        ("app.entry.openwhisk", False),
    ],
)
def test_only_a_serverless_container_starts_without_the_search(module, searched):
    script = f"import gc, {module}; print(gc.isenabled())"
    told = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert told.strip() == str(searched)

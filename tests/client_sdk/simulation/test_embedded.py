"""The coordinator that a run starts for itself."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest

from client_sdk.api.client import CoordinatorClient
from client_sdk.simulation.embedded import EmbeddedCoordinator
from tests.support import warm
from tests.support.federation import ADMIN_KEY, config, weights


async def test_what_is_set_for_another_coordinator_is_not_for_this_one(tmp_path, monkeypatch):
    """Else a run on this machine would write into the other one's database or bucket."""
    elsewhere = {
        "MONGODB_URL": "mongodb://127.0.0.1:9/",
        "FL_MONGODB_URL": "mongodb://127.0.0.1:9/",
        "FL_S3_BUCKET": "the-other-ones-bucket",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "FL_ADMIN_KEY": "the-other-ones-admin-key",
        "FL_DATA_DIR": str(tmp_path / "other"),
    }
    for name, value in elsewhere.items():
        monkeypatch.setenv(name, value)
    async with (
        EmbeddedCoordinator(tmp_path / "own", ADMIN_KEY) as own,
        CoordinatorClient(own.url, ADMIN_KEY) as api,
    ):
        made = await api.create_experiment("toy", config(), "embedded-store")
        assert not made.direct
        await api.upload_initial_model(made.id, weights(0), made.part_bytes)
        assert await api.download_model(made.id, 0) == weights(0)
    assert not (tmp_path / "other").exists()


async def test_its_port_stays_taken_while_it_is_started_again(tmp_path):
    """Else whoever takes it meanwhile is sent the admin key."""
    died = asyncio.Event()
    async with EmbeddedCoordinator(
        tmp_path, ADMIN_KEY, on_restart=lambda message: died.set()
    ) as own:
        before, address = own.pid, ("127.0.0.1", int(own.url.rpartition(":")[2]))
        os.kill(before, signal.SIGKILL)
        await died.wait()
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(address)
        async with CoordinatorClient(own.url, ADMIN_KEY) as api:
            await api.create_experiment("toy", config(), "after the restart")
        assert own.pid != before


async def test_a_users_own_app_does_not_matter(tmp_path, monkeypatch):
    """In the working folder, beside the script that starts the coordinator, or in PYTHONPATH."""
    for folder, name in (("here", "app.py"), ("script", "app.py"), ("path", "app/__init__.py")):
        (tmp_path / folder / name).parent.mkdir(parents=True)
        (tmp_path / folder / name).write_text("raise SystemExit('the wrong app')")
    monkeypatch.chdir(tmp_path / "here")
    found = [str(tmp_path / "script"), str(tmp_path / "path"), *sys.path]
    monkeypatch.setattr(sys, "path", found)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setattr(subprocess, "Popen", warm.ANEW)
    async with (
        EmbeddedCoordinator(tmp_path / "data", ADMIN_KEY) as own,
        CoordinatorClient(own.url, ADMIN_KEY) as api,
    ):
        await api.create_experiment("toy", config(), "beside an app.py")

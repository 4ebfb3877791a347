"""`make lambda-local` and `make openwhisk-local`, as people use them, to the last byte."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from examples.containers import free_port
from tests.support.here import run_here
from tests.support.processes import QUICK, alive, model_of, run_module, wait_for


@pytest.mark.timeout(400)  # two whole runs, on a machine that others may use
@pytest.mark.parametrize("platform", ["lambda", "openwhisk"])
def test_the_command_that_it_prints_trains_the_same_model(
    platform, quick_run, tmp_path, mongodb_url
):
    port = free_port()
    local = subprocess.Popen(
        [sys.executable, "-m", f"examples.{platform}_local", "--port", str(port)],
        env=os.environ | {"MONGODB_URL": mongodb_url, "FL_MONGODB_DATABASE": f"local_{platform}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert f"http://127.0.0.1:{port}" in local.stdout.readline()
        setting, *command = local.stdout.readline().split()
        assert command[1:5] == ["-m", "client_sdk", "--clients", "20"]
        name, _, key = setting.partition("=")
        done = run_here(*command[5:], *QUICK, "--out", str(tmp_path), **{name: key})
        assert done.returncode == 0, done.stderr
        assert model_of(tmp_path) == model_of(quick_run[0])
    finally:
        local.send_signal(signal.SIGTERM)
        assert local.wait(20) == 143
        local.stdout.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)


@pytest.mark.parametrize("platform", ["lambda", "openwhisk"])
def test_on_a_busy_port_it_points_at_no_other_server(platform):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run_module(f"examples.{platform}_local", "--port", str(port))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: Cannot listen on port {port}: Address already in use.\n"


@pytest.mark.parametrize(
    ("option", "value"), [("--port", "70000"), ("--port", "http"), ("--containers", "0")]
)
def test_impossible_arguments_are_told_of(option, value):
    done = run_module("examples.lambda_local", option, value)
    assert done.returncode == 2
    assert f"argument {option}" in done.stderr


@pytest.mark.timeout(400)
def test_a_coordinator_that_cannot_start_is_no_ready_command(mongodb_url):
    done = run_module(
        *("examples.openwhisk_local", "--port", "0"), MONGODB_URL=mongodb_url, FL_ADMIN_KEY="short"
    )
    assert done.returncode == 1
    assert "FL_ADMIN_KEY" not in done.stdout
    assert done.stderr.startswith("error: The coordinator does not start; ")


PARENT = """
import sys, time
from examples.containers import Container
class Served(Container):
    def command(self, port):
        return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
with open("/dev/null", "wb") as log, Served({}, log) as served:
    print(served._process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of it")
def test_containers_end_with_a_parent_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert alive({child})
    parent.kill()
    parent.communicate()
    wait_for(lambda: not alive({child}))

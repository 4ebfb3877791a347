"""SIGKILL, SIGTERM and Ctrl-C in the middle of a run: the end is the same, byte for byte."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.support.here import run_here
from tests.support.processes import (
    KEY,
    SMALL,
    Server,
    listening_on,
    model_of,
    read_until,
    start,
)


def test_a_coordinator_killed_in_mid_round_and_restarted_changes_nothing(quiet_run, tmp_path):
    server = Server(FL_DATA_DIR=str(tmp_path / "data"))
    server.start()

    def shown():
        found = httpx.get(f"{server.url}/v1/experiments", trust_env=False).json()
        if not found:
            return None
        path = f"{server.url}/v1/experiments/{found[0]['id']}"
        return httpx.get(path, trust_env=False).json()

    killed, over = set(), threading.Event()

    def kill_it_in_every_round():
        while not over.wait(0.02):
            seen = shown()
            if not seen or seen["round"] in killed or seen["state"] != "running":
                continue
            current = seen["current_round"]
            if current["state"] == "collecting" and current["missing"]:
                server.kill()
                killed.add(seen["round"])
                time.sleep(0.5)  # the clients are refused meanwhile
                server.start()

    with ThreadPoolExecutor(1) as beside:
        killing = beside.submit(kill_it_in_every_round)
        to = ("--server", server.url, "--out", str(tmp_path / "out"))
        done = run_here(*SMALL, *to, FL_ADMIN_KEY=KEY)
        over.set()
        killing.result()
    server.kill()
    assert killed  # the first one, at least, takes longer than a look at it
    assert done.returncode == 0, done.stderr
    assert "trying again" in done.stdout
    assert model_of(tmp_path / "out") == model_of(quiet_run[0])


def test_the_embedded_coordinator_is_started_again_when_it_dies(quiet_run, tmp_path):
    client = start(*SMALL, "--out", str(tmp_path))
    lines = read_until(client, "round 1/3")
    port = re.search(r"127\.0\.0\.1:(\d+)", "".join(lines))[1]
    (pid,) = listening_on(int(port)) - {client.pid}
    os.kill(pid, signal.SIGKILL)
    rest = client.communicate(timeout=120)[0]
    assert client.returncode == 0, rest
    assert "The coordinator died (exit code -9); starting it again." in rest
    assert model_of(tmp_path) == model_of(quiet_run[0])


def test_interrupted_it_stops_cleanly_and_resumes_where_it_was(quiet_run, tmp_path):
    client = start(*SMALL, "--out", str(tmp_path))
    lines = read_until(client, "round 1/3")
    os.killpg(client.pid, signal.SIGINT)  # as Ctrl-C does; tests/e2e/test_encodings.py: SIGTERM
    rest = client.communicate(timeout=60)[0]
    assert client.returncode == 130, rest
    assert "Traceback" not in rest
    assert "--resume" in rest
    port = int(re.search(r"127\.0\.0\.1:(\d+)", "".join(lines))[1])
    assert not listening_on(port)
    refused = run_here(*SMALL, "--out", str(tmp_path))
    assert refused.returncode == 2
    assert "add --resume" in refused.stderr
    done = run_here(*SMALL, "--out", str(tmp_path), "--resume", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["experiment"] in "".join(lines)
    assert [row["round"] for row in report["rounds"]] == [1, 2, 3]
    assert model_of(tmp_path) == model_of(quiet_run[0])

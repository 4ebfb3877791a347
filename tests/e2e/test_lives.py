"""The lives of processes: what a command started ends with it, and Ctrl-C is one sentence."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.digits import create_digits_experiment
from tests.support.processes import Server, alive, descendants, join, read_until, start, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

LONG = ("--dataset", "digits", "--clients", "4", "--rounds", "1000", "--workers", "1")


def test_what_a_killed_run_started_ends(tmp_path):
    run = start("run", *LONG, "--out", str(tmp_path / "out"), anew=True)
    read_until(run, "round 1/")
    family = descendants(run.pid)
    assert len(family) >= 3  # the coordinator, a training process and what cleans up after it
    run.kill()
    run.communicate()
    wait_for(lambda: not alive(family))


def test_what_a_killed_join_started_ends(tmp_path):
    with (
        Server(FL_DATA_DIR=str(tmp_path / "data")) as server,
        server.as_admin() as http,
    ):
        experiment, key = create_digits_experiment(http, clients=2)
        party = join(server.url, experiment, key, "one", tmp_path / "one.key")
        read_until(party, "client-")  # it is enrolled
        family = descendants(party.pid)
        assert family
        party.kill()
        party.communicate()
        wait_for(lambda: not alive(family))


def heeds_signals(pid: int) -> bool:
    """Has it taken SIGTERM into its own hands?"""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def has_children(process: subprocess.Popen[str], count: int) -> None:
    wait_for(lambda: len(descendants(process.pid)) >= count)


# By what has happened, not by seconds: these are the same on every machine.
MOMENTS = {
    "imports": lambda process: None,
    "data": lambda process: read_until(process, "digits: "),
    # A training process, what cleans up after it, and the coordinator.
    "coordinator": lambda process: has_children(process, 3),
    "enrolment": lambda process: read_until(process, "experiment "),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_is_one_sentence_at_any_moment(tmp_path, moment):
    run = start("run", *LONG, "--out", str(tmp_path / "out"), anew=True)
    wait_for(lambda: heeds_signals(run.pid))
    MOMENTS[moment](run)
    family = descendants(run.pid)
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 130, output
    usual = re.compile(r"digits: |open http|experiment |\d of 4 clients enrolled|round \d")
    rest = [line for line in output.splitlines() if not usual.match(line)]
    assert len(rest) == 1, output
    assert rest[0].startswith("error: Interrupted."), output
    wait_for(lambda: not alive(family))


def test_the_page_of_a_run_is_there_after_its_end_and_again_with_open(tmp_path):
    out = tmp_path / "out"
    settings = ("--dataset", "digits", "--clients", "2", "--rounds", "1", "--workers", "1")
    run = start("run", *settings, "--out", str(out), "--keep-serving")
    told = read_until(run, "The page asks for a key")
    watch, look = (line.split() for line in told if line.startswith("open http"))
    assert watch[2:] == ["to", "watch"]
    assert watch[1] == look[1]
    serves_until_ctrl_c(run, told, out)
    again = start("open", str(out))
    serves_until_ctrl_c(again, read_until(again, "The page asks for a key"), out)


def serves_until_ctrl_c(command: subprocess.Popen[str], told: list[str], out: Path) -> None:
    """The page and the run's experiment are there, the key is in no output, and the end is good."""
    page = next(line for line in told if line.startswith("open http")).split()[1]
    server, _, experiment = page.partition("/#/experiments/")
    assert httpx.get(server, trust_env=False).status_code == 200
    found = httpx.get(f"{server}/v1/experiments/{experiment}", trust_env=False).json()
    assert (found["id"], found["state"]) == (experiment, "completed")
    key = json.loads((out / "run.json").read_bytes())["admin_key"]
    os.killpg(command.pid, signal.SIGINT)
    rest, _ = command.communicate(timeout=60)
    assert (command.returncode, rest) == (0, "")
    assert key not in "".join(told)


def test_sigterm_while_a_coordinator_is_asked_is_one_sentence(tmp_path):
    """`join` waits for a coordinator that is away."""
    party = join("http://127.0.0.1:9", "x", "k" * 20, "one", tmp_path / "one.key")
    read_until(party, "http://127.0.0.1:9 did not answer")
    party.terminate()
    output, _ = party.communicate(timeout=60)
    assert party.returncode == 130, output
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith("error: Interrupted.")

"""What a log says: one line a request, one a change of state, each with its ids, none forgeable."""

import json
import logging
import os
import subprocess
import sys
import time

import httpx
import pytest

from app.telemetry import ids, logs
from client_sdk.errors import RequestRefused
from tests.support.federation import ADMIN_KEY
from tests.support.plain_http import bearer
from tests.support.processes import KEY


def events(found):
    return [line["event"] for line in found if line["event"] != "request"]


async def test_a_run_is_told_step_by_step(federation, lines):
    experiment, members = await federation.start(rounds=1)
    one, two = await federation.cohort(experiment)
    with pytest.raises(RequestRefused):
        await members[one].upload_bytes(1, b"no weights")
    await members[two].upload(1, 2.0)
    found = lines()
    assert events(found) == [
        "experiment created",
        "enrolment opened",
        *["client enrolled"] * 4,
        "experiment started",
        "round opened",
        "update refused",
        "update accepted",
        "round sealed",
        "aggregation step",
        "round closed",
        "experiment ended",
    ]
    told = {line["event"]: line for line in found}
    assert all(line["experiment"] == experiment for line in found if line["event"] != "request")
    assert (
        told["update refused"].items()
        >= {
            "client": one,
            "round": 1,
            "code": "malformed-weights",
            "level": "warning",
        }.items()
    )
    assert told["update accepted"].items() >= {"client": two, "round": 1, "examples": 10}.items()
    assert told["aggregation step"].items() >= {"cells": 1, "bytes": 24}.items()
    assert told["aggregation step"]["seconds"] >= 0
    assert told["experiment ended"].items() >= {"state": "completed", "by": "coordinator"}.items()
    # What one request set off carries that request's id, down to the last of it.
    commit = told["update accepted"]["request_id"]
    assert {told[e]["request_id"] for e in ("round sealed", "round closed")} == {commit}


async def test_a_request_is_one_line_with_its_ids_and_its_route(federation, lines):
    experiment, members = await federation.start(rounds=1)
    (one, *_) = await federation.cohort(experiment)
    already = len(lines())
    await members[one].upload(1, 1.0)
    await federation.http.get("/health")
    *requests, probe = [line for line in lines()[already:] if line["event"] == "request"]
    assert [line["method"] for line in requests] in (["PUT"], ["PUT", "POST"])
    assert (
        requests[-1].items()
        >= {
            "route": "/v1/experiments/{experiment_id}/rounds/{number}/update",
            "status": 200,
            "experiment": experiment,
            "round": 1,
            "client": one,
            "level": "info",
        }.items()
    )
    assert requests[-1]["milliseconds"] > 0
    assert requests[0]["bytes_in"] > 24
    assert requests[-1]["bytes_out"] > 0
    assert (probe["level"], probe["route"]) == ("debug", "/health")  # all day long


async def test_an_attempt_without_a_quorum_is_told_and_so_is_the_end(federation, lines):
    experiment, _ = await federation.start(rounds=1, max_attempts=2)
    for _ in range(2):
        federation.clock.now += 100
        await federation.admin.experiment(experiment)
        await federation.app.state.coordinator.tick()
    told = {line["event"]: line for line in lines()}
    assert told["round tried again"].items() >= {"attempt": 2, "reported": 0, "needed": 1}.items()
    assert told["experiment ended"].items() >= {"state": "failed", "level": "warning"}.items()
    assert "0 of the 1 updates" in told["experiment ended"]["reason"]
    assert told["tick"]["level"] in ("debug", "info")


async def test_ids_are_what_was_found_not_what_was_sent(federation, lines):
    for path in ("/v1/experiments/made-up", "/v1/experiments/made-up/rounds/7"):
        await federation.http.get(path)
    await federation.http.get("/v1/experiments/made-up/status", headers={"Authorization": "Bearer"})
    found = lines()
    assert len(found) == 3
    assert "made-up" not in json.dumps(found)
    assert [line["code"] for line in found] == ["not-found", "not-found", "unauthenticated"]


async def test_an_admins_own_words_stay_in_the_store(federation, lines):
    made, _ = await federation.create()
    await federation.http.post(
        f"/v1/experiments/{made}/stop",
        json={"reason": "Dr. Who withdrew consent"},
        headers=bearer(ADMIN_KEY),
    )
    (end,) = [line for line in lines() if line["event"] == "experiment ended"]
    assert (end["state"], end["by"]) == ("stopped", "admin")
    assert "Who" not in json.dumps(lines())


def record(message, *arguments, **more):
    found = logging.LogRecord("other", logging.INFO, "f", 1, message, arguments, None)
    found.__dict__.update(more)
    return found


def test_a_line_of_another_library_has_the_ids_and_its_own_name():
    with ids.belonging_to("abc"):
        ids.note(experiment="e-1", client="client-03", round=0)
        line = json.loads(logs.JsonFormatter().format(record("took %d s\nfaked", 3)))
    assert line["event"] == "took 3 s\nfaked"
    assert (
        line.items()
        >= {
            "request_id": "abc",
            "experiment": "e-1",
            "client": "client-03",
            "round": 0,
            "logger": "other",
            "level": "info",
        }.items()
    )
    assert ids.current() is None
    assert "request_id" not in json.loads(logs.JsonFormatter().format(record("later")))


def test_nothing_ends_its_line_on_a_terminal_either():
    shown = logs.ConsoleFormatter().format(record("a\n12:00:00 INFO all is well\x1b[31m"))
    assert "\n" not in shown
    assert "\x1b" not in shown


def test_an_error_is_logged_with_its_traceback_in_one_line(lines):
    try:
        raise ValueError("no\nluck")
    except ValueError as error:
        logs.log_event("broke", logs.ERROR, error=error)
    (line,) = lines()
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback")
    assert "ValueError: no\nluck" in line["exception"]


def test_handlers_that_an_operator_set_up_stand():
    """In a process of its own: logging is one a process."""
    script = """
import logging, sys
from app.telemetry import logs
logging.basicConfig(format="MINE %(message)s", stream=sys.stdout)
logs.configure("json", "info")
logs.log_event("one", n=1)
logs.configure("json", "info", alone=True)
logs.configure("json", "info", alone=True)
logs.log_event("two", n=2)
logs.log_event("too quiet", logs.DEBUG)
logging.getLogger("third.party").warning("three")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    mine, *rest = done.stdout.splitlines()
    assert mine == "MINE one n=1"
    assert [json.loads(line)["event"] for line in rest] == ["two", "three"]
    assert done.stderr == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_server_logs_each_request_once_and_in_one_form(tmp_path, form):
    """`uvicorn app.main:app` as it is, its access log not switched off by hand."""
    out = tmp_path / "out"
    with out.open("wb") as stream:
        script = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0"]
        settings = {"FL_ADMIN_KEY": KEY, "FL_DATA_DIR": str(tmp_path), "FL_LOG_FORMAT": form}
        process = subprocess.Popen(
            script, env=os.environ | settings, stdout=stream, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 60
        while "running on http" not in (text := out.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline, text
            assert process.poll() is None, text
            time.sleep(0.05)
        address = next(w for w in text.replace('"', " ").split() if w.startswith("http://127"))
        for _ in range(3):
            assert httpx.get(f"{address}/v1/experiments", trust_env=False).is_success
        process.terminate()
        process.wait(30)
    text = out.read_text(encoding="utf-8")
    assert len([n for n in text.splitlines() if "/v1/experiments" in n]) == 3, text
    assert text.count("coordinator started") == text.count("coordinator stopped") == 1
    if form == "json":
        started = [n for n in text.splitlines() if "coordinator started" in n]
        first = text.splitlines().index(started[0])
        parsed = [json.loads(line) for line in text.splitlines()[first:]]
        assert {line["level"] for line in parsed} == {"info"}
        assert any(line.get("logger") == "uvicorn.error" for line in parsed)

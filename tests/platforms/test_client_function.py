"""A party's client in Lambda's emulator: each event is one turn."""

from __future__ import annotations

import json
import sys
import time

import pytest

from examples.lambda_local import ClientContainer
from serverless_fl.domain.signed_messages import sign
from serverless_fl.domain.wake_ups import DUE, wake_key
from tests.support.digits import create_digits_experiment
from tests.support.processes import Server
from tests.support.ways import invoke

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the emulator is a Linux program")


def test_a_function_trains_every_round_of_an_experiment(tmp_path):
    with Server(FL_DATA_DIR=str(tmp_path / "db")) as server, server.as_admin() as admin:
        experiment, key = create_digits_experiment(admin, clients=1)
        settings = {
            "FL_JOIN": f"--server {server.url} --experiment {experiment} --kernel torch",
            "FL_ENROL_KEY": key,
            "FL_CLIENT_KEY": "c" * 40,
            "TMPDIR": str(tmp_path),
        }
        with ClientContainer(settings) as container:
            # The schedule's event, a message of the coordinator by SNS, the schedule's again.
            events = [{}, woken(wake_key("c" * 40, experiment), experiment), {}]
            said = [
                line
                for event in events
                for line in invoke(container, event, ClientContainer.seconds)["said"]
            ]
            forged = invoke(container, woken(b"another", experiment), ClientContainer.seconds)
            lost = invoke(container, {"FL_JOIN": "--experiment another"}, ClientContainer.seconds)
        assert admin.get(f"/experiments/{experiment}").json()["state"] == "completed"
    assert sum("uploaded" in line for line in said) == 2
    assert "signed with another key" in forged["errorMessage"]
    assert lost["exit_code"] == 0  # what an event says does not count


def woken(key, experiment):
    """What a function that subscribes to a topic of SNS gets of a wake-up."""
    body = json.dumps({"type": DUE, "data": {"experiment": experiment}}).encode()
    headers = sign(key, f"{experiment}/wake.0.1.1.collecting", body, time.time())
    attributes = {name: {"Type": "String", "Value": value} for name, value in headers.items()}
    sns = {"Type": "Notification", "Message": body.decode(), "MessageAttributes": attributes}
    return {"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": sns}]}

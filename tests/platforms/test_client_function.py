"""A party's client in Lambda's emulator: each event is one turn."""

from __future__ import annotations

import sys

import pytest

from examples.lambda_local import ClientContainer
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
            said = [
                line
                for _ in range(3)
                for line in invoke(container, {}, ClientContainer.seconds)["said"]
            ]
            lost = invoke(container, {"FL_JOIN": "--experiment another"}, ClientContainer.seconds)
        assert admin.get(f"/experiments/{experiment}").json()["state"] == "completed"
    assert sum("uploaded" in line for line in said) == 2
    assert lost["exit_code"] == 0  # what an event says does not count

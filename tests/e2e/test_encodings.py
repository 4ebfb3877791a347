"""Whole runs in fewer bytes: nearly as right, and the same ones however they are disturbed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from client_sdk.data import datasets
from client_sdk.engines.in_line import InLine
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.simulation.simulate import Simulation
from client_sdk.task.pictures import picture_task
from serverless_fl.wire.config import ExperimentConfig
from tests.support.here import run_here
from tests.support.processes import KEY, SMALL, Server, model_of, read_until, start

NARROW = ("--update-encoding", "delta-int8", "--download-encoding", "int8")


@pytest.fixture(scope="module")
def narrow_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("narrow") / "out"
    done = run_here(*SMALL, *NARROW, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_int8_both_ways_takes_a_quarter_and_learns_the_same(quiet_run, narrow_run):
    plain, narrow = json.loads(quiet_run[1].stdout)["totals"], narrow_run[1]["totals"]
    assert narrow["bytes_up"] <= 0.27 * plain["bytes_up"]
    assert narrow["bytes_down"] <= 0.28 * plain["bytes_down"]  # a small model's header counts
    assert abs(narrow["final_accuracy"] - plain["final_accuracy"]) < 0.05
    assert narrow_run[1]["config"]["update_encoding"] == "delta-int8"
    assert narrow_run[1]["cost"]["bytes_in"] < narrow["bytes_up"] + 20_000  # gzip and JSON


@pytest.mark.parametrize(("encoding", "most"), [("delta-float32", 1.01), ("delta-float16", 0.52)])
async def test_the_other_encodings_learn_the_same_too(quiet_run, federation, encoding, most):
    digits = datasets.load("digits", Path("nowhere"))
    task = picture_task(digits)
    plain = json.loads(quiet_run[1].stdout)
    config = ExperimentConfig(**(plain["config"] | {"update_encoding": encoding}))
    with LocalTrainer(task, digits.train, InLine()) as trainer:
        simulation = Simulation(
            *(federation.admin, task, config, trainer),
            test=digits.test,
            secret=f"of {encoding}",
        )
        await simulation.create()
        outcome = await simulation.run()
    assert outcome.experiment.state == "completed"
    moved = sum(row.bytes_up for row in outcome.rows)
    assert moved <= most * plain["totals"]["bytes_up"]
    assert abs(outcome.rows[-1].accuracy - plain["totals"]["final_accuracy"]) < 0.05


def test_interrupted_and_resumed_it_gives_the_same_bytes(narrow_run, tmp_path):
    client = start(*SMALL, *NARROW, "--out", str(tmp_path))
    read_until(client, "round 1/3")
    os.kill(client.pid, signal.SIGTERM)
    client.communicate(timeout=60)
    assert client.returncode == 130
    done = run_here(*SMALL, *NARROW, "--out", str(tmp_path), "--resume")
    assert done.returncode == 0, done.stderr
    assert model_of(tmp_path) == model_of(narrow_run[0])


def test_through_s3_it_gives_the_same_bytes(narrow_run, bucket, tmp_path):
    """Past the coordinator nothing is packed, and the same files are stored."""
    with Server(FL_DATA_DIR=str(tmp_path / "data"), FL_S3_BUCKET=bucket) as server:
        out = str(tmp_path / "out")
        done = run_here(*SMALL, *NARROW, "--server", server.url, "--out", out, FL_ADMIN_KEY=KEY)
        assert done.returncode == 0, done.stderr
    assert model_of(tmp_path / "out") == model_of(narrow_run[0])

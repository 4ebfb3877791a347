"""What Weights & Biases is told, read back with its own reader: `make wandb-test`.

Its program has 60 MB: it has an environment of its own, and the test a run of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from client_sdk.cli import command_line
from client_sdk.results.trackers import Tracking
from tests.support.tracked import CONFIG, FIRST, a_run, files_of

pytestmark = [
    pytest.mark.wandb,
    pytest.mark.filterwarnings("default"),  # its packages have their own
]


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path, monkeypatch):
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    for variable in ("API_KEY", "PROJECT", "ERROR_REPORTING", "SILENT"):
        monkeypatch.delenv(f"WANDB_{variable}", raising=False)
    import wandb

    yield
    wandb.teardown()  # the next test has other variables


def test_wandb_reads_back_what_it_was_told(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "offline")
    files = files_of(tmp_path / "files")
    said = []
    a_run(Tracking(["wandb"], tmp_path, said.append), [], rows=[FIRST])  # interrupted
    (interrupted,) = tmp_path.glob("wandb/offline-run-*")
    assert records_of(interrupted)["exit"][0]["exit_code"] == 1
    a_run(Tracking(["wandb"], tmp_path, said.append), files)  # and resumed
    assert said == []
    (folder,) = tmp_path.glob("wandb/offline-run-*")  # a sync sends each round once
    found = records_of(folder)
    run = found["run"][0]
    assert (run["run_id"], run["project"]) == ("experiment-1", "serverless-fl")
    config = run["config"]["update"]
    assert {name: config[name] for name in CONFIG} == CONFIG
    rows = [record["item"] for record in found["history"]]

    def history(name, axis="round"):
        return [(row[axis], row[name]) for row in rows if name in row]

    assert history("test/accuracy") == [(1, 0.5), (2, 0.75)]
    assert history("round/bytes_down") == [(1, 1200.0), (2, 1200.0)]
    assert history("federated/loss", "version") == [(1, 1.0)]
    assert found["exit"][0].get("exit_code", 0) == 0
    summary = {k: v for record in found["summary"] for k, v in record["update"].items()}
    assert (summary["state"], summary["reason"]) == ("completed", "All 2 rounds are closed.")
    kept = {file.name for file in (folder / "files").iterdir()}
    assert kept == {"report.json", "global.safetensors", "evaluation.png"}
    assert capfd.readouterr() == ("", "")
    # Neither the machine, its packages, the output nor the source goes to W&B.
    assert not {"environment", "output", "output_raw", "stats"} & set(found)
    assert not run.get("host")


def test_the_figures_of_a_run_that_goes_on_are_not_repeated(tmp_path, monkeypatch):
    """W&B gives a resumed run the last values of its axes."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracking = Tracking(["wandb"], tmp_path, print)
    tracker = tracking._trackers["wandb"]
    tracker.begin("experiment-1", CONFIG)
    tracker._recorded = {"round": 2, "version": 1}
    for step in (1, 2, 3):
        tracker.metrics({"test/accuracy": step / 10}, step)
    tracker.metrics({"federated/loss": 1.0}, 1)
    tracker.metrics({"federated/loss": 2.0}, 2)
    tracker.close()
    tracking.__exit__()
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    rows = [record["item"] for record in records_of(folder)["history"]]
    assert [row["round"] for row in rows if "test/accuracy" in row] == [3]
    assert [row["version"] for row in rows if "federated/loss" in row] == [2]


def test_who_is_not_logged_in_hears_so_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "online")
    out = tmp_path / "out"
    assert command_line.run(["--dataset", "digits", "--track", "wandb", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "--track wandb needs a login" in said
    assert "WANDB_MODE=offline" in said
    assert not out.exists()


def test_wandb_reports_nothing_to_its_makers():
    code = (
        "from client_sdk.results.trackers import TRACKERS; TRACKERS['wandb'].require();"
        "from wandb.env import error_reporting_enabled; print(error_reporting_enabled())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=offline(), check=True
    )
    assert done.stdout.strip() == "False"


def offline():
    return {**os.environ, "WANDB_MODE": "offline"}


def records_of(folder):
    """The records of a run's file by kind, as W&B's own program reads them."""
    done = subprocess.run(
        [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", folder],
        capture_output=True,
        text=True,
        env=offline(),
        timeout=60,
        check=True,
    )
    found = {}
    for line in done.stdout.splitlines():
        record = json.loads(line)
        found.setdefault(record["type"], []).append(record.get(record["type"], {}))
    return found

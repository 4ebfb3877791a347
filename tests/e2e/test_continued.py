"""A run continues its own rounds, or the model of another run, and says so."""

from __future__ import annotations

import hashlib
import json
import shutil

from client_sdk.task import weights_file
from tests.support.here import run_here
from tests.support.processes import SMALL

FEW = [*SMALL, "--local-epochs", "1"]


def model_of(out, name="global"):
    return (out / f"{name}.safetensors").read_bytes()


def test_more_rounds_after_the_last_one_give_the_bytes_of_a_run_that_had_them_all_along(tmp_path):
    straight, out = tmp_path / "straight", tmp_path / "out"
    assert run_here(*FEW, "--rounds", "3", "--out", str(straight)).returncode == 0
    assert run_here(*FEW, "--rounds", "1", "--out", str(out)).returncode == 0
    assert model_of(out) != model_of(straight)
    again = run_here(*FEW, "--rounds", "3", "--out", str(out), "--resume")
    assert again.returncode == 0, again.stderr
    assert model_of(out) == model_of(straight)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [row["round"] for row in report["rounds"]] == [1, 2, 3]
    fewer = run_here(*FEW, "--rounds", "2", "--out", str(out), "--resume")
    assert (fewer.returncode, "has 3 rounds by now" in fewer.stderr) == (2, True)
    assert run_here(*FEW, "--rounds", "3", "--out", str(out), "--resume").returncode == 0


def test_a_run_that_was_interrupted_gets_more_rounds_too(quiet_run, tmp_path):
    """The coordinator has the raise, but the run's folder has not written it down."""
    out = tmp_path / "out"
    assert run_here(*FEW, "--rounds", "1", "--out", str(out)).returncode == 0
    written = (out / "config.toml").read_bytes()
    assert run_here(*FEW, "--rounds", "2", "--out", str(out), "--resume").returncode == 0
    (out / "config.toml").write_bytes(written)
    again = run_here(*FEW, "--rounds", "2", "--out", str(out), "--resume")
    assert again.returncode == 0, again.stderr


def test_a_run_begins_from_a_model_of_an_earlier_one(quiet_run, tmp_path):
    earlier, out = tmp_path / "earlier", tmp_path / "out"
    shutil.copytree(quiet_run[0], earlier)
    told = ["--from-run", f"{earlier}:2", "--rounds", "1", "--out", str(out)]
    done = run_here(*FEW, *told, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    before = json.loads((earlier / "report.json").read_text(encoding="utf-8"))
    assert report["origin"] == {
        "experiment": before["experiment"],
        "version": 2,
        "sha256": before["rounds"][1]["sha256"],
    }
    assert hashlib.sha256(model_of(out, "initial")).hexdigest() == report["origin"]["sha256"]
    assert report["rounds"][0]["accuracy"] > 0.5  # after one epoch of one round
    shutil.rmtree(earlier)  # the run's folder has all that it needs
    again = run_here(*FEW, *told, "--resume")
    assert again.returncode == 0, again.stderr
    assert f"It begins from {out / 'initial.safetensors'}" in again.stdout


def test_a_run_begins_from_a_file(quiet_run, tmp_path):
    best = quiet_run[0] / "best.safetensors"
    out, other = tmp_path / "out", tmp_path / "other"
    done = run_here(*FEW, "--rounds", "1", "--initial-model", str(best), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert f"It begins from {best}." in done.stdout
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["origin"] is None
    plain = tmp_path / "plain.safetensors"  # the same weights, without a description
    plain.write_bytes(weights_file.write(weights_file.read(best.read_bytes())))
    done = run_here(*FEW, "--rounds", "1", "--initial-model", str(plain), "--out", str(other))
    assert done.returncode == 0, done.stderr
    assert model_of(out) == model_of(other)

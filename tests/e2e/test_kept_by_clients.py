"""Runs of a strategy that makes its clients remember: killed and resumed, nothing is forgotten."""

from __future__ import annotations

import json

from tests.support.here import run_here
from tests.support.processes import SMALL, read_until, start

SCAFFOLD = [*SMALL, "--local-epochs", "5", "--strategy", "scaffold", "--momentum", "0"]


def kept(out):
    return {file.name: file.read_bytes() for file in (out / "clients").iterdir()}


def test_killed_and_resumed_it_gives_the_same_bytes(tmp_path):
    """Of the models, and of what each client keeps."""
    quiet, out = tmp_path / "quiet", tmp_path / "out"
    done = run_here(*SCAFFOLD, "--out", str(quiet), "--json")
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout)["totals"]
    # Of each client and round: weights and control up; a model down, and a control after round 1.
    assert abs(totals["bytes_up"] / totals["bytes_down"] - (2 + 2 + 2) / (1 + 2 + 2)) < 0.05
    client = start(*SCAFFOLD, "--out", str(out))
    read_until(client, "round 1/3")
    client.kill()
    client.communicate(timeout=60)
    again = run_here(*SCAFFOLD, "--out", str(out), "--resume")
    assert again.returncode == 0, again.stderr
    models = [(folder / "global.safetensors").read_bytes() for folder in (quiet, out)]
    assert models[0] == models[1]
    assert kept(out) == kept(quiet)
    assert set(kept(out)) <= {f"{n}.memory" for n in range(6)}

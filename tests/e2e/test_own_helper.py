"""`run --secure-aggregation helper`: a helper of the run's own, also at `--resume` and `open`."""

from __future__ import annotations

import json
import os
import signal

from tests.support.here import run_here
from tests.support.processes import read_until, start

HELPED = [
    *("--dataset", "digits", "--clients", "3", "--clients-per-round", "3", "--keep-updates", "2"),
    *("--local-epochs", "1", "--workers", "1", "--secure-aggregation", "helper"),
]


def test_a_run_resumes_with_its_helper_and_open_verifies_it(tmp_path):
    out = tmp_path / "out"
    helpers = []
    for more in (["--rounds", "1"], ["--rounds", "2", "--resume"]):
        done = run_here(*HELPED, *more, "--out", str(out))
        assert done.returncode == 0, done.stderr
        (said,) = (line for line in done.stdout.splitlines() if line.startswith("helper "))
        assert said.endswith("it shows how the two work, and protects nobody")
        helpers.append(said.split()[1])
    assert helpers[0] == helpers[1]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [row["updates"] for row in report["rounds"]] == [3, 3]
    assert "helper_key" not in (out / "config.toml").read_text(encoding="utf-8")
    opened = start("open", str(out))
    page = read_until(opened, "The page asks for a key")[0].split()[1]
    server, _, experiment = page.partition("/#/experiments/")
    key = json.loads((out / "run.json").read_bytes())["admin_key"]
    asked = ("--server", server, "--experiment", experiment)
    try:
        found = run_here("verify", *asked, FL_ADMIN_KEY=key)
    finally:
        os.killpg(opened.pid, signal.SIGINT)
        opened.communicate(timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("3 masked updates, none of which it shows") == 2


def test_another_operators_helper_is_one_of_a_server(tmp_path):
    done = run_here(*HELPED, "--helper-key", "ab" * 32, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "--helper-key names another operator's helper" in done.stderr
    assert not (tmp_path / "out").exists()

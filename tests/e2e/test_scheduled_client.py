"""docs/scheduled-client.md, run as cron would run it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.digits import create_digits_experiment
from tests.support.processes import Server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scheduled-client.md").read_text(encoding="utf-8")


@pytest.fixture
def script():
    (found,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return found


@pytest.mark.timeout(600)  # it trains
def test_two_parties_that_are_run_now_and_then_finish_an_experiment(
    script, tmp_path, monkeypatch, capsys
):
    (tmp_path / "one_turn.py").write_text(script, encoding="utf-8")
    function = ModuleType("one_turn")
    exec(compile(script, "one_turn.py", "exec"), vars(function))
    monkeypatch.chdir(tmp_path)
    with Server(FL_DATA_DIR=str(tmp_path / "db")) as server, server.as_admin() as admin:
        experiment, key = create_digits_experiment(admin, clients=2)
        monkeypatch.setenv("FL_SERVER", server.url)
        monkeypatch.setenv("FL_EXPERIMENT", experiment)
        monkeypatch.setenv("FL_ENROLMENT_KEY", key)
        parties = ["a" * 32, "b" * 32]

        monkeypatch.setenv("FL_CLIENT_KEY", parties[0])
        cron = subprocess.run(
            [sys.executable, "one_turn.py"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert cron.returncode == 0, cron.stderr
        assert "Nothing to do; next turn in" in cron.stdout

        left = set(parties)
        for _ in range(10):
            for party in sorted(left):
                monkeypatch.setenv("FL_CLIENT_KEY", party)
                if asyncio.run(function.take_turn()) is None:
                    left.remove(party)
        assert not left
        shown = admin.get(f"/experiments/{experiment}").json()
        assert (shown["state"], shown["enrolled"]) == ("completed", 2)
    told = capsys.readouterr().out
    assert told.count("The experiment is completed.") == 2
    assert told.count("Trained; next turn in") == 3  # the fourth update ends the experiment

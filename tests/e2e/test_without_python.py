"""The lines of docs/without-python.md take part in an experiment, word by word."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.federation import weights
from tests.support.plain_http import create
from tests.support.processes import Server

PAGE = Path(__file__).parents[2] / "docs" / "without-python.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there (apt-get install curl)")
def test_the_recipe_takes_part_until_the_experiment_ends(tmp_path):
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 4
    with Server(FL_DATA_DIR=str(tmp_path / "db")) as server, server.as_admin() as admin:
        experiment, key = create(admin, "curl", clients=1, clients_per_round=1)
        where = {"FL_SERVER": server.url, "FL_EXPERIMENT": experiment, "FL_ENROL_KEY": key}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "".join(blocks)],
            **{"cwd": tmp_path, "env": {"PATH": "/usr/bin:/bin", "no_proxy": "127.0.0.1"} | where},
            capture_output=True,
            text=True,
            check=False,
        )
        rounds = [admin.get(f"/experiments/{experiment}/rounds/{n}").json() for n in (1, 2)]
        model = admin.get(f"/experiments/{experiment}/models/latest").content
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said[0] == "I am client-00, with 40 examples."
    assert [line[:17] for line in said[1:3]] == ["Round 1: uploaded", "Round 2: uploaded"]
    assert said[-1] == "The experiment is completed."
    assert [found["metrics"]["train_loss"] for found in rounds] == [0.5, 0.5]
    assert model == weights(0)  # this client trains nothing

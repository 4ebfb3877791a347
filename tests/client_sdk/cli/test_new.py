"""`new` writes a project that runs at once; it writes over nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from client_sdk import exit_codes
from client_sdk.cli import command_line
from tests.support import warm

ROOT = Path(__file__).parents[3]


def run(folder, *command):
    # No plugins: those of this project take seconds to import, and the new one has none.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = warm.run([sys.executable, *command], cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(400)  # two runs
def test_the_project_runs_its_tests_pass_and_the_command_line_trains_it(tmp_path, capsys):
    folder = tmp_path / "my_project"
    assert command_line.run(["new", str(folder)]) == 0
    assert "python train.py" in capsys.readouterr().out
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("# my_project\n")

    told = run(folder, "train.py").splitlines()
    assert told[9].startswith("round 10: accuracy ")
    assert float(told[9].split()[-1].rstrip("%")) > 90
    assert (folder / "model.safetensors").is_file()
    assert (folder / "rounds.png").is_file()
    assert "2 passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")

    place = ("--task", "task:task", "--dataset", "data:load")
    run(folder, "-m", "client_sdk", "run", *place, "--clients", "2", "--rounds", "1")
    assert list(folder.glob("runs/*/global.safetensors"))


@pytest.mark.parametrize(
    ("name", "message"), [("here", "is there already"), ("no/where", "There is no folder")]
)
def test_nothing_is_written_where_it_should_not_be(tmp_path, capsys, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert command_line.run(["new", name]) == exit_codes.USAGE
    assert message in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]

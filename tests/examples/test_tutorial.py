"""The five minutes of docs/tutorial.md and the private run after them, word by word."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.here import run_here, run_together
from tests.support.processes import KEY

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "tutorial.md").read_text(encoding="utf-8")
PRIVATE = (DOCS / "private-run.md").read_text(encoding="utf-8")
TOOL = ".venv/bin/serverless-fl "


def commands_of(page, url):
    commands = [line for line in page.splitlines() if line.startswith(TOOL)]
    return [
        shlex.split(command.removeprefix(TOOL).replace("http://127.0.0.1:8000", url))
        for command in commands
    ]


def write_tables():
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(code, "clinics.py", "exec"), {})


def train(create, joins):
    made = run_here(*create, FL_ADMIN_KEY=KEY)
    assert made.returncode == 0, made.stderr
    [experiment] = re.findall(r"--experiment (\S+)", made.stdout)[:1]
    [key] = re.findall(r"enrol_[\w-]+", made.stdout)[:1]
    assert [join[join.index("--experiment") + 1] for join in joins] == ["ID"] * 3
    joins = [[experiment if word == "ID" else word for word in join] for join in joins]
    for party in run_together(*joins, FL_ENROL_KEY=key):
        assert party.returncode == 0, party.stderr


@pytest.mark.timeout(300)
def test_three_clinics_train_one_model(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tables()
    create, *joins, predict = commands_of(PAGE, server.url)
    train(create, joins)
    done = run_here(*predict)
    assert done.returncode == 0, done.stderr
    truth = [line.rpartition(",")[2] for line in Path("new.csv").read_text().splitlines()[1:]]
    found = re.findall(r"\b(benign|malignant)\b", done.stdout)
    right = sum(one == other for one, other in zip(truth, found, strict=True))
    assert right > 0.85 * len(truth)


@pytest.mark.timeout(300)
def test_three_clinics_open_nothing_but_sums(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tables()
    *identities, create, north, south, west, _, _ = commands_of(PRIVATE, server.url)
    lines = [run_here(*command).stdout.splitlines()[-1] for command in identities]
    Path("parties.txt").write_text("\n".join(lines))
    train(create, [north, south, west])

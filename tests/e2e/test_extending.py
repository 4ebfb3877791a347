"""docs/extending.md, done word by word in a copy of the packages."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tomllib
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from client_sdk.data.seeds import derive_seed
from client_sdk.task.models import build, spec_for
from tests.support import warm
from tests.support.plain_http import create
from tests.support.processes import Server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def add_line(folder, registry, line):
    """Add the line to a registry, `folder/package/__init__.py:NAME`, which it must change alone."""
    place, name = registry.split(":")
    file = folder / place
    text = file.read_text(encoding="utf-8")
    opening = re.search(rf"\b{name} = .*?__name__,\n", text, re.DOTALL)
    assert opening and line.count("\n") == 1
    indent = re.search(r"^ *", text[opening.end() :])[0]
    added = f"{indent}{line.strip()}\n"
    file.write_text(text[: opening.end()] + added + text[opening.end() :], encoding="utf-8")


def section(title):
    """The code blocks of a section: `(language, lines)`."""
    text = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def copy(tmp_path):
    """A copy of the packages, and a way to run commands in it."""
    for package in ("serverless_fl", "app", "client_sdk"):
        shutil.copytree(ROOT / package, tmp_path / package)  # with the bytecode that there is
    (tmp_path / "docs").mkdir()

    def run(command):
        words, _, file = command.partition(" > ")
        words = [sys.executable, *shlex.split(words.removeprefix(".venv/bin/python"))]
        found = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = warm.run(words, cwd=tmp_path, env=found)
        assert done.returncode == 0, done.stderr
        if file:
            (tmp_path / file).write_text(done.stdout, encoding="utf-8")
        return done.stdout

    return tmp_path, run


@pytest.mark.timeout(600)  # three runs
def test_add_a_setting(copy):
    folder, run = copy
    (_, declaration), (_, reading), (_, commands) = section("Add a setting")
    settings = folder / "serverless_fl" / "wire" / "config.py"
    before, after = settings.read_text(encoding="utf-8").split("\n    def to_config(")
    settings.write_text(f"{before}{declaration}\n    def to_config({after}", encoding="utf-8")
    loop = folder / "client_sdk" / "task" / "train.py"
    found, lines = re.subn(
        r"^ *loss = F\.cross_entropy\(model\(.*\n",
        lambda _: reading,
        loop.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert lines == 1
    loop.write_text(found, encoding="utf-8")
    for command in commands.splitlines():
        run(command)

    assert "| `--label-smoothing` | `label_smoothing` | 0 | at least 0, below 1 |" in (
        folder / "docs" / "settings.md"
    ).read_text(encoding="utf-8")
    smooth, again = folder / "runs" / "smooth", folder / "runs" / "again"
    written = tomllib.loads((smooth / "config.toml").read_text(encoding="utf-8"))
    assert written["training"]["label_smoothing"] == 0.1
    for out in (smooth, again):  # as the coordinator shows the experiment
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        assert report["config"]["label_smoothing"] == 0.1
    models = [(out / "global.safetensors").read_bytes() for out in (smooth, again)]
    assert models[0] == models[1]
    run("-m client_sdk run --config runs/smooth/config.toml --label-smoothing 0 --out runs/plain")
    plain = (folder / "runs" / "plain" / "global.safetensors").read_bytes()
    assert plain != models[0]  # the clients were told, and their loop has read it

    script = "import json, app.main; print(json.dumps(app.main.app.openapi()))"
    described = json.loads(run(f'-c "{script}"'))["components"]["schemas"]
    for body in ("ExperimentConfig", "Training"):
        assert described[body]["properties"]["label_smoothing"]["exclusiveMaximum"] == 1


@pytest.mark.timeout(600)
def test_add_a_selection(copy):
    folder, run = copy
    (_, file), (_, line), (_, commands) = section("Add a selection")
    room = folder / "serverless_fl" / "schedule" / "selection"
    (room / "round_robin.py").write_text(file, encoding="utf-8")
    add_line(folder, "serverless_fl/schedule/selection/__init__.py:SELECTIONS", line)
    for command in commands.splitlines():
        run(command)

    page = (folder / "docs" / "settings.md").read_text(encoding="utf-8")
    assert "### selection = round-robin" in page
    assert "| `--stride` | `stride` | 1 | 1 to 1,000 |" in page
    report = json.loads((folder / "runs" / "turns" / "report.json").read_text(encoding="utf-8"))
    assert report["config"]["selection"] == {"name": "round-robin", "stride": 2}
    rounds = json.dumps(report)
    assert report["state"] == "completed", rounds


@pytest.mark.timeout(600)  # a run
def test_add_a_privacy_mechanism(copy):
    folder, run = copy
    (_, file), (_, line), (_, commands) = section("Add a privacy mechanism")
    room = folder / "serverless_fl" / "privacy"
    (room / "coarse.py").write_text(file, encoding="utf-8")
    add_line(folder, "serverless_fl/privacy/__init__.py:MECHANISMS", line)
    for command in commands.splitlines():
        run(command)

    page = (folder / "docs" / "settings.md").read_text(encoding="utf-8")
    assert "### privacy = coarse" in page
    report = json.loads((folder / "runs/coarse/report.json").read_text(encoding="utf-8"))
    assert report["config"]["privacy"] == {"name": "coarse", "grain": 0.015625}
    found = safetensors.numpy.load_file(folder / "runs/coarse/global.safetensors")
    network = build(spec_for("digits-cnn", (1, 8, 8), 10), derive_seed(0, "initial weights"))
    initial = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    grains = [(found[name].astype(float) - initial[name]) / 0.015625 for name in found]
    assert any(change.round().any() for change in grains)
    assert all(np.allclose(change, change.round(), atol=1e-5) for change in grains)


@pytest.mark.timeout(300)  # a run
def test_add_a_split(copy):
    folder, run = copy
    (_, module), (_, line), (_, commands) = section("Add a split")
    splits = folder / "client_sdk" / "data" / "splits"
    (splits / "every_nth.py").write_text(module, encoding="utf-8")
    add_line(folder, "client_sdk/data/splits/__init__.py:SPLITS", line)
    shown, _ = [run(command) for command in commands.splitlines()]
    assert json.loads(shown)["examples"] == [480, 480, 478]
    written = tomllib.loads((folder / "runs/dealt/config.toml").read_text(encoding="utf-8"))
    assert written["data"]["split"] == "every-nth"
    assert written["data"]["dealt_at_once"] == 5
    report = json.loads((folder / "runs/dealt/report.json").read_text(encoding="utf-8"))
    assert [site["examples"] for site in report["sites"]["sites"]] == [480, 480, 478]


ROWS = '{"age": 61.5, "smokes": "yes", "sick": 1}\n{"age": 40, "smokes": "no", "sick": 0}\n'
READ = """
from client_sdk.data.tables.reading import read_table
table = read_table("patients.jsonl", "sick")
print([(c.name, c.kind, c.values.tolist()) for c in table.columns], table.label.categories)
"""
EXPORT = """
import sys, numpy as np
from client_sdk import initial_model
from client_sdk.__main__ import main
from line import Line
open("line.safetensors", "wb").write(initial_model(Line(), 0))
sys.argv[1:] = "export --model line.safetensors --task line:Line --out model.npz".split()
try:
    main()
except SystemExit as end:
    assert not end.code
print(np.load("model.npz")["line"].tolist())
"""


def test_add_a_reader_and_an_exporter(copy):
    folder, run = copy
    (_, reader), (_, read_line) = section("Add a reader of tables")
    (_, exporter), (_, export_line), _ = section("Add an exporter")
    (folder / "client_sdk/data/tables/readers/jsonl.py").write_text(reader, encoding="utf-8")
    add_line(folder, "client_sdk/data/tables/readers/__init__.py:READERS", read_line)
    (folder / "client_sdk/tools/exporters/npz.py").write_text(exporter, encoding="utf-8")
    add_line(folder, "client_sdk/tools/exporters/__init__.py:EXPORTERS", export_line)
    (folder / "patients.jsonl").write_text(ROWS, encoding="utf-8")
    (folder / "line.py").write_text(section("Add a task")[0][1], encoding="utf-8")
    (folder / "try.py").write_text(READ + EXPORT, encoding="utf-8")
    *_, table, _, weights = run("try.py").splitlines()
    assert table == (
        "[('age', 'number', [61.5, 40.0]), ('smokes', 'boolean', [1.0, 0.0])] ('0', '1')"
    )
    assert weights == "[0.0, 0.0]"


def test_add_an_engine(tmp_path, monkeypatch):
    """In this process: the contract's suite (tests/client_sdk/engines) runs the same engine."""
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(section("Add a task")[0][1], found)
    line = types.ModuleType("line")
    line.Line, line.points = found["Line"], found["points"]
    (_, engine), (_, script) = section("Add an engine")
    threads = types.ModuleType("threads")
    exec(engine, vars(threads))
    monkeypatch.setitem(sys.modules, "line", line)
    monkeypatch.setitem(sys.modules, "threads", threads)
    exec(script, {})


@pytest.mark.timeout(600)
def test_add_a_task(tmp_path):
    (_, file), (_, command), (_, script), (_, initial), (_, join) = section("Add a task")
    (tmp_path / "line.py").write_text(file, encoding="utf-8")

    def run(*words, code=0, **settings):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
        done = warm.run([sys.executable, *words], cwd=tmp_path, env=environment)
        assert done.returncode == code, done.stderr
        return done

    run(*command.split()[1:], "--workers", "1")
    report = json.loads((tmp_path / "runs" / "line" / "report.json").read_text(encoding="utf-8"))
    assert report["state"] == "completed"
    found = report["totals"]["final_metrics"]
    assert found["loss"] < 0.1 < report["rounds"][0]["metrics"]["loss"]
    assert 0.8 < found["offset"] < 1.2

    told = run("-c", script)
    assert told.stdout.strip() == str(found)  # the same run
    assert (tmp_path / "line.png").exists()

    run("-c", initial)
    settings = {"dataset": "points", "dataset_size": 100, "model": "line", "clients": 2}
    settings |= {"clients_per_round": 2, "rounds": 2, "learning_rate": 0.1}
    with Server(FL_DATA_DIR=str(tmp_path / "coordinator")) as server, server.as_admin() as admin:
        data = (tmp_path / "initial.safetensors").read_bytes()
        experiment, key = create(admin, "line", initial=data, **settings)
        words = join.replace("URL", server.url).replace("ID", experiment).split()[1:]
        other = "from line import *\nclass Steep(Line): terms = lambda self: {'loss': 'another'}"
        (tmp_path / "steep.py").write_text(other, encoding="utf-8")
        steep = ["steep:Steep" if word == "line:Line" else word for word in words]
        refused = run(*steep, code=2, FL_ENROL_KEY=key)
        assert "loss is mean squared error there and another here" in refused.stderr
        with ThreadPoolExecutor(2) as parties:
            named = [[*words, "--name", f"site {n}"] for n in range(2)]
            done = [parties.submit(run, *one, FL_ENROL_KEY=key) for one in named]
            ends = [one.result() for one in done]
        assert all("All 2 rounds are closed" in end.stdout + end.stderr for end in ends)
        shown = admin.get(f"/experiments/{experiment}").json()
    assert shown["state"] == "completed"
    assert (
        shown["history"][1]["metrics"]["loss_before"]
        < shown["history"][0]["metrics"]["loss_before"]
    )
    assert shown["history"][1]["metrics"]["offset_after"] > 0

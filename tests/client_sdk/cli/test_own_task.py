"""Where `--task package.module:name` finds a task and its data."""

import json
from pathlib import Path

import numpy as np
import pytest

from client_sdk.cli import command_line
from client_sdk.cli.own_task import load_data, load_task, names_an_object
from client_sdk.errors import DataError, UsageError
from tests.support import toy
from tests.support.here import run_here

MODULE = """
import numpy as np
from tests.support.toy import Line
task = Line()
x, y = np.zeros(3), np.ones(3)
pair = (x, y), (x[:1], y[:1])
number = 7
def broken(): raise ZeroDivisionError("of nothing")
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_module.py").write_text(MODULE)
    (tmp_path / "needy.py").write_text("import a_module_that_is_not_there")
    (tmp_path / "wrong.py").write_text("1 / 0")


def test_a_task_a_class_or_a_function_will_do():
    for name in ("task", "Line"):
        assert isinstance(load_task(f"own_module:{name}"), toy.Line)


def test_data_are_one_set_or_a_pair_to_train_and_to_test():
    train, test = load_data("--dataset", "own_module:pair")
    assert (len(train), len(test)) == (3, 1)
    assert load_data("--dataset", "tests.support.toy:POINTS") == (toy.POINTS, None)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("own_module", "must be package.module:name"),
        ("nowhere:task", "there is no module nowhere in"),
        ("needy:task", "needy needs the module a_module_that_is_not_there"),
        ("wrong:task", "wrong raises ZeroDivisionError"),
        ("own_module:tusk", r"own_module has no tusk.*task"),
        ("own_module:number", "is a int: it must be a Task"),
        ("own_module:broken", r"own_module:broken\(\) raises ZeroDivisionError: of nothing"),
    ],
)
def test_what_is_no_task_is_named(place, message):
    with pytest.raises(UsageError, match=message):
        load_task(place)


def test_what_is_no_data_is_named():
    with pytest.raises(DataError, match="A int is no data set"):
        load_data("--data", "own_module:number")
    assert np.array_equal(load_data("--data", "own_module:pair")[0].y, np.ones(3))


@pytest.mark.parametrize("text", ["digits", "data/set.csv", "C:\\data", None, "a b:c", "x.csv:"])
def test_other_words_name_no_object(text):
    assert not names_an_object(text)


HOSPITALS = """
import numpy as np
x = np.arange(12.0)
def both():
    return sites(), {"oslo": (x[:2], 2 * x[:2]), "bern": (x, x)}
def sites():
    return {"oslo": (x[:4], 2 * x[:4]), "bern": (x[4:], 2 * x[4:])}
"""


@pytest.fixture
def hospitals(tmp_path):
    (tmp_path / "hospitals.py").write_text(HOSPITALS)
    return ["--task", "tests.support.toy:Line", "--dataset"]


def test_a_dict_of_sites_is_a_client_each_with_a_figure_each(hospitals):
    words = [*hospitals, "hospitals:both", "--rounds", "1", "--local-epochs", "1", "--out", "run"]
    done = run_here("run", *words)
    assert done.returncode == 0, done.stderr
    report = json.loads(Path("run/report.json").read_text())
    assert {s["site"]: s["examples"] for s in report["sites"]["sites"]} == {"oslo": 4, "bern": 8}
    tested = {s["site"]: (s["held_out"], s["value"]) for s in report["test_sites"]["sites"]}
    assert {site: count for site, (count, _) in tested.items()} == {"oslo": 2, "bern": 12}
    assert report["test_sites"]["worst"] == max(value for _, value in tested.values())


def test_without_a_test_part_each_site_of_a_dict_holds_a_fifth_out(hospitals, capsys):
    words = ["split", *hospitals, "hospitals:sites", "--json", "--out", "s.svg"]
    assert command_line.run(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert dict(zip(found["clients"], found["examples"], strict=True)) == {"oslo": 3, "bern": 6}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "quantity"], "--split quantity: the data are those of sites, one for each"),
        (["--clients", "5"], "--clients (5) is not the number of sites, which is 2."),
    ],
)
def test_what_contradicts_a_dict_of_sites_is_refused(hospitals, capsys, more, message):
    assert command_line.run(["split", *hospitals, "hospitals:both", *more, "--out", "s.svg"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())

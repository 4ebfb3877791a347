"""Where `--task package.module:name` finds a task and its data."""

import numpy as np
import pytest

from client_sdk.cli.own_task import load_data, load_task, names_an_object
from client_sdk.errors import DataError, UsageError
from tests.support import toy

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

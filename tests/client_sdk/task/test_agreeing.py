"""A party's task beside the experiment's, in both sides' words."""

import json

import numpy as np
import pytest

from client_sdk.errors import DataError
from client_sdk.simulation.simulate import initial_model
from client_sdk.task import weights_file
from client_sdk.task.agreeing import facts_of, require_same
from client_sdk.task.task import fingerprint
from tests.support import toy


class Other(toy.Line):
    """Another name, other words and a tensor of another form."""

    name = "curve"

    def initial(self, seed):
        return {"line": np.zeros(3), "bend": np.zeros(1, np.float32)}

    def terms(self):
        return {"loss": "absolute error", "units": "mm"}


def test_the_same_task_with_other_weights_fits():
    require_same(toy.Line(), initial_model(toy.Line(), 5))
    assert facts_of(toy.Line()) == {
        "task": "line",
        "fingerprint": fingerprint(toy.Line()),
        "loss": "mean squared error",
    }


def test_another_task_is_refused_in_both_sides_words():
    with pytest.raises(DataError) as refusal:
        require_same(Other(), initial_model(toy.Line(), 0))
    assert str(refusal.value) == (
        "The task here is not the experiment's: task is line there and curve here; loss is mean "
        "squared error there and absolute error here; units is nothing there and mm here "
        "(and 2 more)."
    )


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "task is none there and line here"),
        ({"task": "line", "terms": "{"}, "terms that cannot be read"),
        ({"task": "line", "terms": "[]"}, "terms that cannot be read"),
        ({"task": "\x1b[2Jline"}, "task is .*line there"),
    ],
)
def test_a_strangers_file_is_refused(metadata, message):
    data = weights_file.write(toy.Line().initial(0), metadata)
    with pytest.raises(DataError, match=message) as refusal:
        require_same(toy.Line(), data)
    assert "\x1b" not in str(refusal.value)


def test_what_is_no_file_of_weights_is_refused():
    with pytest.raises(DataError, match="The experiment's model is no file of weights"):
        require_same(toy.Line(), b"noise")


def test_the_form_counts_also_where_the_fingerprint_is_copied():
    about = toy.Line().metadata()
    data = weights_file.write({"line": np.zeros(3)}, about)
    with pytest.raises(DataError, match=r"tensor line is F64 \[3\] there and F64 \[2\] here"):
        require_same(toy.Line(), data)
    lying = weights_file.write({"line": np.zeros(2)}, about | {"fingerprint": "0" * 64})
    with pytest.raises(DataError, match="the fingerprint"):
        require_same(toy.Line(), lying)
    assert json.loads(about["terms"]) == {"loss": "mean squared error"}

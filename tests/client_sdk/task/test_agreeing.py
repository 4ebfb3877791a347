"""A party's task beside the experiment's, in both sides' words."""

import asyncio
import json

import numpy as np
import pytest

from client_sdk.data.preparation import Preparation
from client_sdk.data.tables.schema import ColumnSchema, Schema
from client_sdk.engines.in_line import InLine
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import DataError
from client_sdk.simulation.simulate import initial_model
from client_sdk.task import weights_file
from client_sdk.task.agreeing import facts_of, require_no_other, require_same
from client_sdk.task.model_file import Description
from client_sdk.task.models import spec_for
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.task.pictures import PictureTask
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
    with pytest.raises(DataError, match=r"fingerprint is 0+ there and 7c03"):
        require_same(toy.Line(), lying)
    assert json.loads(about["terms"]) == {"loss": "mean squared error"}


PICTURES = Description(
    *(spec_for("digits-cnn", (1, 8, 8), 2), "mine", ("a", "b"), (0.5,), (0.25,)),
    Preparation(1, 8, 8),
)
TABLE = Schema((ColumnSchema("age", "number"),), "sick", ("no", "yes"))
TASKS = [toy.Line(), PictureTask(PICTURES), TableTask(TABLE)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_file_of_each_kind_of_task_carries_its_name_and_its_fingerprint(task):
    data = initial_model(task, 0)
    about = weights_file.read_layout(data).metadata
    assert (about["task"], about["fingerprint"]) == (task.name, fingerprint(task))
    assert json.loads(about["terms"]) == task.terms()
    require_same(task, data)
    for other in TASKS:
        if other is not task:
            with pytest.raises(DataError, match=f"task is {task.name} there and {other.name}"):
                require_no_other(other, data)


def test_a_trainer_refuses_the_model_of_another_task():
    with LocalTrainer(Other(), toy.POINTS, InLine()) as trainer:
        model = initial_model(toy.Line(), 0)
        for asked in (
            trainer.train("c-1", range(9), model, None),
            trainer.evaluate("c-1", range(9), model, 0),
        ):
            with pytest.raises(DataError, match="task is line there and curve here"):
                asyncio.run(asked)


def test_a_file_without_a_fingerprint_may_be_of_any_task():
    for about in ({}, {"task": "somebody's", "terms": "{}"}, PICTURES.metadata()):
        require_no_other(Other(), weights_file.write(toy.Line().initial(0), about))

"""Three functions as a task."""

import numpy as np
import pytest

from client_sdk.data.data import as_data
from client_sdk.errors import TrainingFailed
from client_sdk.task.function_task import FunctionTask
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Result, fingerprint


def a_task(train, **more):
    return FunctionTask(
        initial=lambda seed: {"w": np.full(2, float(seed))},
        train=train,
        evaluate=lambda weights, data: {"loss": float(weights["w"].sum())},
        **more,
    )


DATA = as_data((np.zeros(5),))
SETTINGS = TrainSettings(1, 1, 0.1)


def test_functions_are_called_with_what_a_tasks_methods_get():
    task = a_task(lambda *arguments: Result(arguments[0], 3, {"seed": arguments[3]}))
    found = task.train(task.initial(2), DATA, SETTINGS, 9)
    assert (found.num_examples, found.metrics) == (3, {"seed": 9})
    assert task.evaluate(found.weights, DATA) == {"loss": 4.0}


def test_new_weights_alone_count_for_all_examples():
    found = a_task(lambda weights, *_: {"w": weights["w"] + 1}).train(
        {"w": np.zeros(2)}, DATA, SETTINGS, 0
    )
    assert found.num_examples == 5
    assert found.weights["w"].tolist() == [1.0, 1.0]


def test_what_is_neither_is_refused():
    with pytest.raises(TrainingFailed, match="Result or the new weights, not a float"):
        a_task(lambda *_: 1.0).train({"w": np.zeros(2)}, DATA, SETTINGS, 0)


def test_words_and_name_are_in_the_fingerprint():
    one, other = (a_task(None, name="it", terms={"units": unit}) for unit in ("mm", "cm"))
    assert fingerprint(one) != fingerprint(other) != fingerprint(a_task(None, name="it"))

"""Training processes that die, and what cannot be sent to them."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest

from client_sdk.data.data import Items
from client_sdk.engines.in_line import InLine
from client_sdk.engines.processes import Processes
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import BadSettings, TrainingFailed
from client_sdk.task import weights_file
from serverless_fl.wire.turns import Train, Training
from tests.support import toy

BASE = weights_file.write({"line": np.array([1.0, 2.0])})


def one_update(task, engine, data=toy.POINTS, indices=range(20)):
    training = Training(local_epochs=1, batch_size=10, learning_rate=0.1, momentum=0, seed=11)
    order = Train.model_construct(round=3, training=training)
    with LocalTrainer(task, data, engine) as trainer:
        return asyncio.run(trainer.train("c-1", indices, BASE, order))


def test_a_process_that_dies_is_an_error_in_words():
    with pytest.raises(TrainingFailed, match="A training process died"):
        one_update(toy.Failing(), Processes(1))


class Unpicklable(toy.Line):
    def __init__(self):
        self.loss = lambda x: x


def test_what_cannot_be_pickled_is_refused_by_name_and_trains_in_line():
    with pytest.raises(BadSettings, match=r"task cannot be sent.*<lambda>.*engine=InLine\(\)"):
        one_update(Unpicklable(), Processes(1))
    unpicklable = Items([lambda: 1])
    with pytest.raises(BadSettings, match="data set cannot be sent"):
        one_update(toy.Line(), Processes(1), unpicklable, range(1))
    assert one_update(Unpicklable(), InLine()).num_examples == 18


SCRIPT = """
import numpy as np
from client_sdk import BadSettings, InLine, LocalTrainer, Processes
from tests.support import toy
class Own(toy.Line): pass
try:
    LocalTrainer(Own(), toy.POINTS, Processes(1)).prepare()
except BadSettings as error:
    print(error)
print("torch" in __import__("sys").modules)
"""


def test_a_class_of_a_notebook_is_refused_and_numpy_alone_does_without_pytorch():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    refusal, has_torch = done.stdout.splitlines()
    assert "a class or function of a notebook" in refusal
    assert "engine=InLine()" in refusal
    assert has_torch == "False"

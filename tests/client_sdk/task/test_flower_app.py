"""A ClientApp of Flower's message API as a task.

Its messages are Flower's own, so these tests need the environment that benchmarks/peers makes.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from client_sdk.data.data import as_data
from client_sdk.errors import BadSettings
from client_sdk.task.flower_task import FlowerAppTask

ROOT = Path(__file__).parents[3]
FLOWER = list(ROOT.glob(".venv-peers/flower/lib/python3*/site-packages"))

APP = """
import sys
sys.path.append(sys.argv[1])  # behind our own packages
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

from client_sdk import FlowerAppTask, FlowerTask, TrainSettings, TrainingFailed, as_data

app = ClientApp()


@app.train()
def train(msg, context):
    config, arrays = msg.content["config"], msg.content["arrays"]
    assert (config["lr"], config["local_epochs"], config["seed"]) == (0.5, 3, 9)
    assert dict(context.run_config) == {"local-epochs": 3, "batch-size": 2, "own": "word"}
    step = int(context.node_config["partition-id"])
    moved = {name: one.numpy() for name, one in arrays.items()}
    moved = {name: Array(np.asarray(one + one.dtype.type(step))) for name, one in moved.items()}
    metrics = MetricRecord({"train_loss": 0.25, "num-examples": 5})
    content = RecordDict({"arrays": ArrayRecord(array_dict=moved), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg, context):
    assert context.run_config["batch-size"] == 32
    mean = float(msg.content["arrays"]["w"].numpy().mean())
    metrics = MetricRecord({"eval_loss": mean, "num-examples": 5})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)


task = FlowerAppTask(
    app,
    initial=lambda: {"w": np.zeros((2, 3), np.float32), "count": np.array(0)},
    node_config=lambda data: {"partition-id": data[0]},
    run_config={"local-epochs": 1, "batch-size": 32, "own": "word"},
)
data = as_data([7] * 6)
found = task.train(task.initial(0), data, TrainSettings(3, 2, 0.5), 9)
assert found.weights["w"].tolist() == [[7.0] * 3] * 2 and found.weights["w"].dtype == np.float32
assert found.weights["count"].tolist() == 7 and found.weights["count"].dtype == np.int64
assert (found.num_examples, found.metrics) == (5, {"train_loss": 0.25})
assert task.evaluate(found.weights, data) == {"eval_loss": 7.0}


class Client(NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}

    def evaluate(self, parameters, config):
        return 0.5, 1, {}


of_numpy = FlowerTask(lambda data: Client().to_client(), initial=lambda: [np.zeros(2)])
assert of_numpy.train(of_numpy.initial(0), data, TrainSettings(1, 1, 0.1), 0).num_examples == 1
assert of_numpy.evaluate(of_numpy.initial(0), data) == {"loss": 0.5}
print("done")
"""


@pytest.mark.skipif(not FLOWER, reason="Flower's environment of benchmarks/peers is not there")
def test_flowers_own_messages_and_clients_are_understood():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", APP, str(FLOWER[0])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")


@pytest.mark.skipif(find_spec("flwr") is not None, reason="Flower is installed")
def test_without_flower_a_sentence_says_what_is_missing():
    task = FlowerAppTask(lambda message, context: None, initial=lambda: {"w": np.zeros(2)})
    with pytest.raises(BadSettings, match=r"flower-app needs Flower's messages: .*pip install"):
        task.evaluate(task.initial(0), as_data([0]))

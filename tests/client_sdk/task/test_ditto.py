"""Ditto: a model of each client's own, near the global one."""

import numpy as np
import pytest
import torch
from torch import nn

from client_sdk.data.data import as_data
from client_sdk.errors import BadSettings
from client_sdk.task.ditto import ditto
from client_sdk.task.settings import TrainSettings
from client_sdk.task.torch_task import TorchTask
from tests.support import toy
from tests.support.learners import CLIENTS, TASK, learn

pytestmark = pytest.mark.usefixtures("one_thread")
ONE = as_data((np.zeros((1, 1)), np.array([10.0])))


class Distance(nn.Module):
    """One weight, whose loss is (w - target)^2 / 2: the gradient is w - target."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))

    def forward(self, x):
        return self.w.expand(len(x))


QUADRATIC = TorchTask(
    Distance, loss=lambda outputs, targets: ((outputs - targets) ** 2).mean() / 2, metrics={}
)


def test_two_rounds_by_hand(tmp_path):
    """Rate 0.5, lambda 0.5, two steps a round to 10; the global model is 4, then 0.

    v: 4, 4 + 0.5 * 6 = 7, 7 + 0.5 * (3 - 0.5 * 3) = 7.75;
    then 7.75 + 0.5 * (2.25 - 0.5 * 7.75) = 6.9375, and 6.9375 + 0.5 * (3.0625 - 0.5 * 6.9375).
    """
    task = ditto(QUADRATIC, tmp_path, attachment=0.5).for_client("client-00")
    training = TrainSettings(2, 1, 0.5)
    first = task.train({"w": np.array([4.0])}, ONE, training, 1)
    assert first.weights.keys() == {"w"}
    assert first.weights["w"] == pytest.approx([8.5])  # of the global model, as without Ditto
    assert task.evaluate({"w": np.array([0.0])}, ONE) == {
        "loss": pytest.approx(50),
        "personal_loss": pytest.approx(2.25**2 / 2),
    }
    for _ in range(2):  # a training that is done again begins from the same model
        task.train({"w": np.array([0.0])}, ONE, training, 2)
        found = task.evaluate({"w": np.array([0.0])}, ONE)["personal_loss"]
        assert found == pytest.approx((10 - 6.734375) ** 2 / 2)


def test_a_client_that_has_not_trained_has_the_global_model(tmp_path):
    found = ditto(QUADRATIC, tmp_path).for_client("client-01").evaluate({"w": np.array([4.0])}, ONE)
    assert found["personal_loss"] == found["loss"]


def test_a_task_that_corrects_no_gradients_is_refused(tmp_path):
    with pytest.raises(BadSettings, match="Ditto corrects gradients, which the task line does not"):
        ditto(toy.Line(), tmp_path)


async def test_a_whole_run_makes_the_global_models_of_a_run_without_it(quick, tmp_path):
    plain = await learn(quick)
    found = await learn(quick, ditto(TASK, tmp_path))
    models = [await quick.admin.download_model(one.experiment) for one in (plain, found)]
    assert body(models[0]) == body(models[1])
    (*_, last) = await quick.admin.models(found.experiment)
    assert len(last.evaluations) == CLIENTS
    for report in last.evaluations:
        assert report.metrics.keys() == {"accuracy", "loss", "personal_accuracy", "personal_loss"}


def body(data):
    """A file's tensors, without its header, which names the task's terms."""
    return data[8 + int.from_bytes(data[:8], "little") :]

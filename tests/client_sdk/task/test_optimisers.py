"""PyTorch's optimisers without the import of its compiler."""

import sys

import pytest
import torch
from torch import nn

from client_sdk.task.optimisers import without_compiler
from client_sdk.task.together import OPTIMISERS
from tests.support import warm


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda one: one.__name__)
def test_steps_are_the_same_to_the_bit(optimiser):
    """Three steps; the second parameter has no gradient in one of them."""
    options = {"lr": 0.1, "weight_decay": 0.1} | (
        {"momentum": 0.9} if optimiser in (torch.optim.SGD, torch.optim.RMSprop) else {}
    )
    found = []
    for kind in (optimiser, without_compiler(optimiser)):
        values = [nn.Parameter(torch.arange(1.0, 4)), nn.Parameter(torch.ones(2, 2))]
        made = kind(values, **options)
        for step in range(3):
            made.zero_grad()
            loss = (values[0] ** 2).sum() + (values[1].exp().sum() if step != 1 else 0)
            loss.backward()
            made.step()
        found.append([value.detach().numpy().tobytes() for value in values])
    assert found[0] == found[1]


def test_it_is_still_an_optimiser_of_its_class():
    made = without_compiler(torch.optim.SGD)
    assert issubclass(made, torch.optim.SGD)
    assert (made.__name__, without_compiler(torch.optim.SGD)) == ("SGD", made)
    with pytest.raises(ValueError, match="empty parameter list"):
        made([])


def test_a_class_from_elsewhere_stays_as_it_is():
    class Own(torch.optim.SGD):
        pass

    assert without_compiler(Own) is Own


TRAINING = """
import sys, numpy as np, torch
from client_sdk.data.data import Arrays
from client_sdk.task.models import build, spec_for
from client_sdk.task.settings import TrainSettings
from client_sdk.task.torch_task import TorchTask
from client_sdk.task.train import train, train_fused

once = TrainSettings(1, 2, 0.1, 0.5)
spec = spec_for("digits-cnn", (1, 8, 8), 10)
for loop in (train, train_fused):
    loop(build(spec, 0), torch.ones(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64), once, 0)
for optimiser in (torch.optim.SGD, torch.optim.Adam):
    task = TorchTask(lambda: torch.nn.Linear(2, 2), optimiser=optimiser)
    task.train(task.initial(0), Arrays(np.ones((3, 2), "f"), np.zeros(3, int)), once, 0)
print("torch._dynamo" in sys.modules)
torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
print("torch._dynamo" in sys.modules)
"""


def test_training_does_not_import_the_compiler():
    """Its import takes as long as that of PyTorch, and would stand before the first step.

    A process that has not imported it yet trains, and then makes a plain optimiser.
    """
    done = warm.run([sys.executable, "-c", TRAINING])
    assert done.stdout.split() == ["False", "True"], done.stderr

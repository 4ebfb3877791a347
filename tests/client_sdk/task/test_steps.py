"""What a step changes in a gradient: by hand on a quadratic, and beside plain loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from client_sdk.data import datasets
from client_sdk.data.data import as_data
from client_sdk.data.seeds import SeededRandom
from client_sdk.errors import BadSettings, DataError
from client_sdk.task.function_task import FunctionTask
from client_sdk.task.local import local_update
from client_sdk.task.pictures import picture_task
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Result
from client_sdk.task.torch_task import TorchTask

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = TrainSettings(3, 4, 0.1)


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
ONE = as_data((np.zeros((1, 1)), np.array([10.0])))  # one example a step, and so one step an epoch


def walk(**settings):
    """The weight after two steps from 2 with a rate of 0.5 towards 10."""
    training = replace(TrainSettings(2, 1, 0.5), **settings)
    return QUADRATIC.train({"w": np.array([2.0])}, ONE, training, 0)


def test_plain_steps_by_hand():
    """2, 2 + 0.5 * 8 = 6, 6 + 0.5 * 4 = 8."""
    assert walk().weights["w"] == pytest.approx([8.0])


def test_the_proximal_term_by_hand():
    """Gradients: -8 + 0; then -4 + 0.5 * (6 - 2) = -2."""
    assert walk(proximal_mu=0.5).weights["w"] == pytest.approx([7.0])


def test_a_clipped_gradient_by_hand():
    """Gradients of 8 and then 7.25 are shortened to 1.5."""
    assert walk(max_gradient_norm=1.5).weights["w"] == pytest.approx([3.5], rel=1e-6)


def test_an_offset_by_hand():
    """Gradients: -8 + 2 = -6; at 5, -5 + 2 = -3."""
    assert walk(offset={"w": np.array([2.0])}).weights["w"] == pytest.approx([6.5])


def test_what_is_added_is_not_clipped():
    """Gradients: -8 is shortened to -1; + 2 = 1."""
    found = walk(epochs=1, max_gradient_norm=1.0, offset={"w": np.array([2.0])})
    assert found.weights["w"] == pytest.approx([1.5])


@pytest.mark.parametrize(("momentum", "steps"), [(0.0, 2), (0.5, 1 + 1.5)])
def test_effective_steps(momentum, steps):
    assert walk(momentum=momentum).effective_steps == pytest.approx(steps)


def test_an_optimiser_without_momentum_has_as_many_effective_steps_as_steps():
    task = TorchTask(Distance, loss=QUADRATIC.loss, metrics={}, optimiser=torch.optim.Adam)
    found = task.train({"w": np.array([2.0])}, ONE, replace(PLAIN, momentum=0.9), 0)
    assert found.effective_steps == 3


@pytest.mark.parametrize(
    "optimiser", [torch.optim.Adam, lambda p, training: torch.optim.SGD(p, lr=0.3)]
)
def test_an_offset_is_for_sgd_with_the_experiment_s_rate(optimiser):
    """SCAFFOLD divides the change by the number of steps and this rate."""
    task = TorchTask(Distance, loss=QUADRATIC.loss, metrics={}, optimiser=optimiser)
    training = replace(PLAIN, offset={"w": np.array([2.0])})
    with pytest.raises(BadSettings, match=r"corrects gradients of SGD, .*learning rate .* 0\.1"):
        task.train({"w": np.array([2.0])}, ONE, training, 0)


X = np.random.default_rng(3).normal(size=(22, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def network():
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))


def plainly(model, x, y, training, seed):
    """A loop in the words of the papers: the gradient of the whole objective, by autograd."""
    start = [p.detach().clone() for p in model.parameters()]
    offset = [torch.as_tensor(training.offset[n]) for n, _ in model.named_parameters()]
    speed = [torch.zeros_like(p) for p in model.parameters()]
    draws = SeededRandom(seed)
    for _ in range(training.epochs):
        order = torch.from_numpy(draws.permutation(len(y)))
        for batch in order.split(training.batch_size):
            parameters = list(model.parameters())
            gradients = torch.autograd.grad(F.cross_entropy(model(x[batch]), y[batch]), parameters)
            length = torch.cat([g.flatten() for g in gradients]).norm()
            share = min(1.0, training.max_gradient_norm / float(length))
            with torch.no_grad():
                for p, g, x0, c, v in zip(parameters, gradients, start, offset, speed, strict=True):
                    whole = share * g + training.proximal_mu * (p - x0) + c
                    v.mul_(training.momentum).add_(whole + training.weight_decay * p)
                    p.sub_(training.learning_rate * v)


def corrected(model):
    draw = np.random.default_rng(8)
    offset = {
        n: 0.1 * draw.normal(size=p.shape).astype(np.float32) for n, p in model.named_parameters()
    }
    return TrainSettings(3, 4, 0.1, 0.5, 0.01, 0.7, 0.4, offset)


def test_a_network_beside_a_plain_loop():
    task = TorchTask(network)
    base = task.initial(1)
    model = task.model(base)
    training = corrected(model)
    found = task.train(base, as_data((X, Y)), training, 5)
    plainly(model, torch.from_numpy(X), torch.from_numpy(Y), training, 5)
    for name, tensor in model.state_dict().items():
        np.testing.assert_allclose(found.weights[name], tensor.numpy(), atol=1e-6)
        assert not np.allclose(found.weights[name], base[name])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return datasets.load("digits", tmp_path_factory.mktemp("none"))


@pytest.mark.parametrize("kernel", ["auto", "torch"])
def test_the_picture_task_beside_a_plain_loop(digits, kernel):
    task = picture_task(digits, kernel=kernel)
    task.prepare()
    base, data = task.initial(1), digits.train.subset(range(30))
    model = task._network(base)
    training = corrected(model)
    found = task.train(base, data, training, 5)
    plainly(model, task._scaled(data.x), data.y, training, 5)
    for name, tensor in model.state_dict().items():
        np.testing.assert_allclose(found.weights[name], tensor.numpy(), atol=2e-6)


def test_machine_code_alone_refuses_what_it_does_not_know(digits):
    task = picture_task(digits, kernel="native")
    try:
        task.prepare()
    except BadSettings:
        pytest.skip("this machine cannot compile the loop")
    with pytest.raises(BadSettings, match="Machine code knows no proximal_mu"):
        task.train(
            task.initial(0), digits.train.subset(range(4)), replace(PLAIN, proximal_mu=0.5), 0
        )


ASKED = [
    ({"proximal_mu": 0.1}, "proximal_mu 0.1"),
    ({"max_gradient_norm": 2.0}, "max_gradient_norm 2"),
    ({"offset": {"w": np.zeros(1)}}, "the strategy corrects"),
]


@pytest.mark.parametrize(("settings", "words"), ASKED)
def test_a_task_that_does_not_correct_gradients_refuses(settings, words):
    """It would train without the correction, and nobody would know."""
    task = FunctionTask(
        initial=lambda seed: {"w": np.zeros(1)},
        train=lambda weights, data, training, seed: Result(weights, len(data)),
        evaluate=lambda weights, data: {},
    )
    model = b"unread"
    with pytest.raises(BadSettings, match=f"The task function does not train with .*{words}"):
        local_update(task, model, ONE, None, replace(PLAIN, **settings), 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("proximal_mu", -1.0), ("proximal_mu", float("nan")), ("max_gradient_norm", 0.0)],
)
def test_a_stranger_s_settings_are_checked_here_too(name, value):
    with pytest.raises(DataError, match=name):
        replace(PLAIN, **{name: value})

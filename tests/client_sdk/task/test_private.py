"""DP-SGD by hand on networks of a few weights, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from client_sdk.data.data import Arrays
from client_sdk.errors import BadSettings, DataError
from client_sdk.task import private
from client_sdk.task.function_task import FunctionTask
from client_sdk.task.local import require_taken
from client_sdk.task.settings import TrainSettings
from client_sdk.task.torch_task import TorchTask
from serverless_fl.privacy.examples import ExampleNoise, NoisySteps

NO_NOISE = 1e-12


def settings(batch_size, *, epochs=1, noise=NO_NOISE, clip=1.0, rate=1.0, **others):
    told = ExampleNoise(noise_multiplier=noise, clip_norm=clip)
    return TrainSettings(epochs, batch_size, rate, example_noise=told, **others)


def squared(outputs, targets):
    """Half of the squared error: its gradient by an output is the difference."""
    return ((outputs - targets) ** 2).sum() / 2 / len(outputs)


def line():
    """y = w x, with w = 0."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    return network


def task(network=line, **options):
    pytest.importorskip("opacus", reason="the extra dp is not installed")
    return TorchTask(network, loss=squared, metrics={}, name="line", **options)


def data(x, y):
    return Arrays(np.array(x, np.float32)[:, None], np.array(y, np.float32)[:, None])


def trained(made, columns, training, seed=0):
    return made.train(made.initial(0), columns, training, seed)


def test_the_gradient_of_each_example_is_clipped_by_itself():
    """Gradients -x y are -0.5, -6 and 4; clipped to 1 they sum to -0.5, not to -1."""
    found = trained(task(), data([1, 2, 2], [0.5, 3, -2]), settings(3))
    np.testing.assert_allclose(found.weights["weight"], [[0.5 / 3]], rtol=1e-5)
    assert found.spent == NoisySteps(rate=1.0, noise_multiplier=NO_NOISE, steps=1)
    assert found.num_examples == 3
    assert found.metrics["train_loss"] == pytest.approx((0.25 + 9 + 4) / 2 / 3)


def test_the_norm_is_that_of_all_weights_together():
    """The gradient of (w, b) is (-3, -4) x ... = -5 long; clipped to 1 it is (-0.6, -0.8)."""

    def network():
        made = nn.Linear(1, 1)
        nn.init.zeros_(made.weight)
        nn.init.zeros_(made.bias)
        return made

    found = trained(task(network), data([0.75], [4]), settings(1))
    np.testing.assert_allclose(found.weights["weight"], [[0.6]], rtol=1e-5)
    np.testing.assert_allclose(found.weights["bias"], [0.8], rtol=1e-5)


def test_corrections_come_after_the_noise():
    """The clipped mean is -1; the proximal term is 0 at first, the offset adds 0.25."""
    offset = {"weight": np.array([[0.25]], np.float32)}
    found = trained(task(), data([1], [9]), settings(1, proximal_mu=0.5, offset=offset))
    np.testing.assert_allclose(found.weights["weight"], [[0.75]], rtol=1e-5)


def test_examples_in_pieces_give_the_same_step(monkeypatch):
    monkeypatch.setattr(private, "VALUES_AT_ONCE", 2)
    found = trained(task(), data([1, 2, 2, 1, 1], [0.5, 3, -2, 0.25, 0]), settings(5))
    np.testing.assert_allclose(found.weights["weight"], [[0.75 / 5]], rtol=1e-5)


def test_the_noise_has_the_deviation_of_the_settings(monkeypatch):
    """A gradient of 0: the step is noise alone, over the size of a batch."""

    def network():
        made = nn.Linear(20_000, 1, bias=False)
        nn.init.zeros_(made.weight)
        return made

    columns = Arrays(np.zeros((4, 20_000), np.float32), np.zeros((4, 1), np.float32))
    first, second = (
        trained(task(network), columns, settings(4, noise=3.0, clip=2.0)).weights["weight"]
        for _ in range(2)
    )
    assert first.std() == pytest.approx(3.0 * 2.0 / 4, rel=0.05)
    assert abs(first.mean()) < 5 * 1.5 / math.sqrt(20_000)
    assert abs(np.corrcoef(first[0], second[0])[0, 1]) < 0.05  # though the seed is the same


def test_the_noise_comes_from_the_operating_system(monkeypatch):
    asked = []

    def urandom(size):
        asked.append(size)
        return bytes(range(1, 9)) * (size // 8)

    made = task()
    monkeypatch.setattr(private.os, "urandom", urandom)
    trained(made, data([1, 2], [0, 0]), settings(2))
    assert asked == [8]  # the noise of one weight; a batch of all examples draws nothing


def test_a_step_takes_each_example_by_chance():
    drawn = [len(private.sampled(1000, 0.1)) for _ in range(100)]
    assert np.mean(drawn) == pytest.approx(100, abs=5)
    assert np.std(drawn) == pytest.approx(math.sqrt(90), rel=0.4)
    assert private.sampled(3, 1.0) == [0, 1, 2]


def test_a_step_without_examples_is_noise(monkeypatch):
    made = task()
    monkeypatch.setattr(private, "sampled", lambda examples, rate: [])
    found = trained(made, data([1, 2, 3], [5, 5, 5]), settings(1, noise=1.0))
    assert found.spent.steps == 3
    assert found.weights["weight"] != 0
    assert found.metrics["train_loss"] == 0


def test_parameters_that_the_loss_does_not_reach_have_noise_alone():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = line(), line()

        def forward(self, x):
            return self.used(x)

    found = trained(task(Two), data([1], [9]), settings(1))
    np.testing.assert_allclose(found.weights["used.weight"], [[1]], rtol=1e-5)
    np.testing.assert_allclose(found.weights["idle.weight"], [[0]], atol=1e-9)


def test_layers_that_overwrite_their_input_are_trained():
    found = trained(
        task(lambda: nn.Sequential(nn.Linear(1, 3), nn.ReLU(inplace=True), nn.Linear(3, 1))),
        data([1, 2, 3, 4], [1, 2, 3, 4]),
        settings(2, noise=1.0, clip=0.5, rate=0.1),
    )
    assert found.spent == NoisySteps(rate=0.5, noise_multiplier=1.0, steps=2)


def test_batch_normalisation_is_refused_by_its_name():
    made = task(lambda: nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)))
    with pytest.raises(BadSettings, match=r"The layer 1 \(BatchNorm1d\) mixes .* take GroupNorm"):
        trained(made, data([1, 2], [0, 0]), settings(2))


def test_a_network_that_mixes_its_batch_is_refused():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(1, 1)

        def forward(self, x):
            return self.line(x - x.mean(0))

    with pytest.raises(BadSettings, match="depends on the others of its batch"):
        trained(task(Centred), data([1, 2], [0, 0]), settings(2))


def test_several_outputs_are_refused():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(1, 1)

        def forward(self, x):
            return self.line(x), x

    made = TorchTask(Pair, loss=lambda outputs, y: squared(outputs[0], y), metrics={})
    pytest.importorskip("opacus", reason="the extra dp is not installed")
    with pytest.raises(BadSettings, match="one tensor of outputs"):
        trained(made, data([1, 2], [0, 0]), settings(2))


def test_fewer_examples_than_a_batch_are_refused():
    with pytest.raises(DataError, match=r"trains on 2 examples, fewer than batch_size \(3\)"):
        trained(TorchTask(line, loss=squared), data([1, 2], [0, 0]), settings(3))


def test_without_opacus_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opacus", None)
    with pytest.raises(BadSettings, match=r"needs Opacus: .* -m pip install 'serverless-fl\[dp\]'"):
        trained(TorchTask(line, loss=squared), data([1, 2], [0, 0]), settings(2))


def test_a_task_without_gradients_of_single_examples_is_refused():
    made = FunctionTask(
        initial=lambda seed: {"w": np.zeros(1, np.float32)},
        train=lambda weights, data, training, seed: weights,
        evaluate=lambda weights, data: {},
        name="mean",
    )
    with pytest.raises(BadSettings, match="mean does not train with privacy dp-sgd"):
        require_taken(made, settings(1))


def test_the_noise_has_the_form_of_the_weights_in_float64():
    drawn = private.gaussian((3, 2), 2.0)
    assert drawn.dtype == torch.float64
    assert drawn.shape == (3, 2)
    assert private.gaussian((), 2.0).shape == ()

"""What is wrong with labels, losses, metrics and inputs is said in words of this project."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from client_sdk.data.data import Arrays
from client_sdk.data.finite import not_finite
from client_sdk.errors import BadSettings, DataError
from client_sdk.task import weights_file
from client_sdk.task.local import train_client
from client_sdk.task.settings import TrainSettings
from client_sdk.task.sklearn_task import SklearnTask
from client_sdk.task.torch_task import TorchTask
from serverless_fl.wire.turns import Train, Training

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
ONCE = TrainSettings(epochs=1, batch_size=6, learning_rate=0.1, momentum=0.0)


def classifier(**options):
    return TorchTask(lambda: nn.Linear(4, 3), name="net", **options)


def estimator(**options):
    return TorchTask(lambda: nn.Linear(4, 1), name="net", **options)


def order_of(epochs=1):
    training = Training(local_epochs=epochs, batch_size=6, learning_rate=0.1, momentum=0, seed=1)
    return Train.model_construct(round=1, training=training)


def train(task, y, x=X):
    return task.train(task.initial(0), Arrays(x, y), ONCE, 0)


def measure(task, y):
    return task.evaluate(task.initial(0), Arrays(X, y))


@pytest.mark.parametrize("y", [Y, Y.astype(float), Y[:, None], Y.astype(bool), Y.astype(np.int8)])
def test_labels_count_in_each_form_that_can_mean_but_one_thing(y):
    expected = train(classifier(), Y)
    assert weights_file.write(train(classifier(), y).weights) == weights_file.write(
        expected.weights
    )


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.where(Y, 7, 0), r"net has 3 outputs, so its labels are whole numbers .* 2: here are 7"),
        (Y - 1, "whole numbers from 0 to 2: here are -1"),
        (Y * 0.5, "here are 0.5"),
        (np.stack([Y, Y], 1), r"12 examples have labels of the shape \[12, 2\].*BCEWithLogitsLoss"),
        (np.array(["ill", "well"])[Y], r"no numbers.*np.unique\(y, return_inverse=True\)"),
    ],
)
def test_labels_that_the_outputs_cannot_stand_for_are_named(y, says):
    for use in (measure, train):
        with pytest.raises(DataError, match=says if use is measure else says.replace("12", r"\d+")):
            use(classifier(), y)


def test_labels_that_the_loss_leaves_out_are_left_out():
    ignoring = classifier(loss=nn.CrossEntropyLoss(ignore_index=9))
    assert np.isfinite(measure(ignoring, np.where(np.arange(12) < 3, 9, Y))["loss"])


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda o, t: (o - t) ** 2, r"The loss of net gives \d+ numbers \(shape .*\), not one"),
        (lambda o, t: ((o - t) ** 2).mean().item(), "gives a float without a gradient"),
        (lambda o, t: ((o - t) ** 2).mean().detach(), "gives a Tensor without a gradient"),
    ],
)
def test_a_loss_that_cannot_be_trained_with_is_said_to_be_so(loss, says):
    with pytest.raises(BadSettings, match=says):
        train(estimator(loss=loss), X[:, 0])


def test_a_metric_gives_one_number():
    each = classifier(metrics={"right": lambda o, t: o.argmax(1) == t})
    with pytest.raises(BadSettings, match=r"The metric 'right' of net gives 12 numbers"):
        measure(each, Y)


@pytest.mark.parametrize(
    "metric",
    [
        lambda o, t: (o.squeeze() - t).abs().mean(),
        lambda o, t: F.l1_loss(o.squeeze(), t),
        lambda o, t: (o[:, 0] > t).float().mean(),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_outputs_that_are_squeezed_alone_are_not_compared_with_all_targets(metric):
    task = estimator(loss=nn.MSELoss(), metrics={"mae": metric})
    with pytest.raises(BadSettings, match=r"'mae' of net puts \[12, 1\] beside \[12\].* 144 pairs"):
        measure(task, X[:, 0])
    alone = estimator(loss=metric)
    with pytest.raises(BadSettings, match=r"The loss of net puts \[12, 1\] beside \[12\]"):
        measure(alone, X[:, 0])


def test_metrics_that_squeeze_both_or_none_agree():
    both = {
        "none": lambda o, t: (o - t).abs().mean(),
        "both": lambda o, t: (o.squeeze() - t.squeeze()).abs().mean(),
    }
    found = measure(estimator(loss=nn.MSELoss(), metrics=both), X[:, 0])
    assert found["none"] == pytest.approx(found["both"])


def test_inputs_that_are_not_finite_are_named_by_their_places():
    x = X.copy()
    x[7, 2], x[3, 1] = np.nan, np.inf
    assert not_finite(Arrays(x, Y), range(12)) == (
        "Not every value of the data is a finite number: x[3, 1] is inf, x[7, 2] is nan (counted "
        "from 0). Fill these in, or leave the rows out."
    )
    assert not_finite(Arrays(torch.tensor(x), Y), [0, 1, 7]).count("x[") == 1
    assert not_finite(Arrays(X, np.where(Y, np.nan, 0.0)), range(12)).startswith("Not every value")
    assert not_finite(Arrays(X, Y), range(12)) == ""


@pytest.mark.parametrize("kind", ["torch", "sklearn"])
def test_a_client_whose_inputs_are_not_finite_says_which(kind):
    x = X.copy()
    x[7, 2] = np.nan
    if kind == "torch":
        task = classifier()
    else:
        from sklearn.linear_model import LogisticRegression

        task = SklearnTask(LogisticRegression(), features=4, classes=[0, 1])
    weights = weights_file.write(task.initial(0))
    with pytest.raises(DataError, match=r"x\[7, 2\] is nan"):
        train_client(task, Arrays(x, Y), "client-00", range(12), weights, order_of())


def test_a_training_that_diverges_is_no_fault_of_the_data():
    task = estimator(loss=nn.MSELoss())
    weights = weights_file.write(task.initial(0))
    far = Arrays(X * 1e18, X[:, 0])
    found = train_client(task, far, "client-00", range(12), weights, order_of(epochs=9))
    assert not weights_file.is_finite(found.weights)

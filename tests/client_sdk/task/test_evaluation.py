"""A model's answers on the test set, with numbers that can be checked by hand."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from client_sdk.data import datasets
from client_sdk.results import plots
from client_sdk.results.summary import worst_class
from client_sdk.task import model_file, models, weights_file
from client_sdk.task.evaluation import Classes, by_class
from client_sdk.task.local import evaluate_client, train_client
from client_sdk.task.pictures import picture_task
from client_sdk.task.train import evaluate
from serverless_fl.wire.turns import Train, Training

THREE = Classes(("cat", "dog", "eel"), [[8, 2, 0], [3, 5, 2], [0, 0, 0]])


def test_classes_by_hand():
    assert THREE.examples == [10, 10, 0]
    assert THREE.accuracy == 13 / 20
    assert THREE.by_class == [0.8, 0.5, None]
    assert THREE.worst == 1
    assert THREE.taken_for(0) == (1, 2)
    assert THREE.taken_for(1) == (0, 3)
    assert Classes(("a", "b"), [[3, 0], [0, 4]]).taken_for(0) is None
    assert worst_class(THREE) == "worst class: dog, 50.00% of 10, most often taken for cat"


def test_every_answer_is_counted_where_it_belongs():
    digits = datasets.load("digits", Path("nowhere"))
    spec = models.spec_for("auto", digits.shape, 10)
    model = models.build(spec, 1)
    found = by_class(picture_task(digits), model_file.to_bytes(model), digits.test)
    with torch.no_grad():
        answers = model(digits.normalise(digits.test_x)).argmax(1).tolist()
    expected = np.zeros((10, 10), int)
    for truth, answer in zip(digits.test_y.tolist(), answers, strict=True):
        expected[truth, answer] += 1
    assert found.confusion == expected.tolist()
    assert found.names == tuple("0123456789")
    mean = evaluate(model, digits.normalise(digits.test_x), digits.test_y)
    assert found.accuracy == pytest.approx(mean["accuracy"])


@pytest.mark.parametrize("count", [3, 10, 60])
def test_the_figure_can_be_drawn_of_few_and_of_many_classes(count):
    dice = np.random.default_rng(0)
    names = tuple(f"a class with a long name, {n}" for n in range(count))
    confusion = dice.integers(0, 9, (count, count))
    confusion[1] = 0  # a class without examples
    found = Classes(names, confusion.tolist())
    with Image.open(io.BytesIO(plots.evaluation(found, "many"))) as picture:
        assert picture.format == "PNG"
        assert 600 < picture.width < 5000


def test_the_last_model_is_measured_on_the_examples_that_training_held_out():
    digits = datasets.load("digits", Path("nowhere"))
    task = picture_task(digits)
    weights = weights_file.write(task.initial(1))
    training = Training(local_epochs=1, batch_size=10, learning_rate=0.1, momentum=0, seed=11)
    order = Train.model_construct(round=3, training=training)
    for client, indices in (("client-00", list(range(70))), ("client-01", list(range(70, 99)))):
        before = train_client(task, digits.train, client, indices, weights, order).metrics
        found = evaluate_client(task, digits.train, client, indices, weights, 11)
        assert found.examples == round(len(indices) / 10)
        assert found.metrics["accuracy"] == before["accuracy_before"]
        assert found.metrics["loss"] == pytest.approx(before["loss_before"])

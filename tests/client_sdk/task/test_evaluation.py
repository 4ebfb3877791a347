"""What a model is worth, with numbers that can be checked by hand."""

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from client_sdk.data import datasets
from client_sdk.engines import processes
from client_sdk.results import plots
from client_sdk.results.conclusion import worst_class
from client_sdk.task import models
from client_sdk.task.evaluation import Classes, Federated, by_class, figures
from client_sdk.task.train import evaluate
from serverless_fl.wire.turns import Train, Training
from serverless_fl.wire.views import EvaluationView, ModelView, RoundSummary

THREE = Classes(("cat", "dog", "eel"), [[8, 2, 0], [3, 5, 2], [0, 0, 0]])
NOW = datetime(2026, 1, 1, tzinfo=UTC)


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
    found = by_class(models.to_bytes(model), spec, digits)
    with torch.no_grad():
        answers = model(digits.normalise(digits.test_x)).argmax(1).tolist()
    expected = np.zeros((10, 10), int)
    for truth, answer in zip(digits.test_y.tolist(), answers, strict=True):
        expected[truth, answer] += 1
    assert found.confusion == expected.tolist()
    assert found.names == tuple("0123456789")
    mean = evaluate(model, digits.normalise(digits.test_x), digits.test_y)
    assert found.accuracy == pytest.approx(mean.accuracy)


def a_round(number, state="closed", **metrics):
    return RoundSummary(
        number=number,
        attempt=1,
        state=state,
        accepted=2,
        contributors=["client-00", "client-01"],
        opened_at=NOW,
        closed_at=NOW,
        num_examples=90,
        update_bytes=1,
        metrics=metrics,
    )


def a_model(version, *evaluations):
    return ModelView(
        version=version,
        sha256="0" * 64,
        size=1,
        parent_sha256=None,
        config_sha256="0" * 64,
        updates_sha256=None,
        created_at=NOW,
        evaluations=[
            EvaluationView(source=source, num_examples=count, metrics=metrics)
            for source, count, metrics in evaluations
        ],
    )


def test_a_versions_federated_figure_is_the_next_cohorts_before_it_trained():
    history = [
        a_round(1, accuracy_before=0.1, loss_before=2.0, accuracy_after=0.9),
        a_round(2, accuracy_before=0.6, accuracy_after=0.9),
        a_round(3, "collecting"),
    ]
    versions = [
        a_model(0),
        a_model(1, ("central", 100, {"accuracy": 0.5, "loss": 1.0})),
        a_model(2, ("central", 100, {"accuracy": 0.7, "loss": 0.8})),
    ]
    first, second, last = figures(history, versions)
    assert first.central is None
    assert first.federated == Federated(
        {"accuracy": 0.1, "loss": 2.0}, clients=2, examples=90, weights="examples trained on"
    )
    assert second.central == {"accuracy": 0.5, "loss": 1.0}
    assert second.federated.metrics == {"accuracy": 0.6}
    assert last.central["accuracy"] == 0.7
    assert last.federated is None


def test_clients_reports_are_weighted_by_their_examples():
    model = a_model(
        1,
        ("central", 100, {"accuracy": 0.2}),
        ("client-00", 10, {"accuracy": 1.0, "loss": 0.5}),
        ("client-01", 30, {"accuracy": 0.6}),  # its loss was no number
        ("client-02", 50, {"other": 1.0}),
    )
    (found,) = figures([], [model])
    assert found.clients == Federated(
        {"accuracy": pytest.approx(0.7), "loss": 0.5},  # (10 * 1 + 30 * 0.6) / 40
        clients=2,
        examples=40,
        weights="examples held out",
    )
    assert found.federated is found.clients


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


def test_the_last_model_is_measured_on_the_examples_that_training_held_out(monkeypatch):
    digits = datasets.load("digits", Path("nowhere"))
    spec = models.spec_for("auto", digits.shape, 10)
    monkeypatch.setattr(processes, "_state", {"dataset": digits, "spec": spec})
    weights = models.to_bytes(models.build(spec, 1))
    training = Training(local_epochs=1, batch_size=10, learning_rate=0.1, momentum=0, seed=11)
    task = Train.model_construct(round=3, training=training)
    for client, indices in (("client-00", list(range(70))), ("client-01", list(range(70, 99)))):
        before = processes._train(client, indices, weights, task, None).metrics
        found = processes._evaluate(client, indices, weights, 11)
        assert found.examples == round(len(indices) / 10)
        assert found.accuracy == before["accuracy_before"]
        assert found.loss == pytest.approx(before["loss_before"])

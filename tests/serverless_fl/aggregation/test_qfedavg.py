"""q-FedAvg: by hand, and against the paper's algorithm 2 in lines of our own."""

import numpy as np
import pytest

from serverless_fl.aggregation.in_memory import aggregate
from serverless_fl.aggregation.qfedavg import QFedAvg
from serverless_fl.aggregation.strategy import TrainingFacts, UpdateFacts


def training(rate):
    return TrainingFacts(local_epochs=1, batch_size=1, learning_rate=rate, momentum=0.0)


def clients(losses, **metrics):
    return [
        UpdateFacts(client=i, num_examples=1 + i, metrics={"loss_before": loss, **metrics})
        for i, loss in enumerate(losses)
    ]


def test_a_client_with_a_higher_loss_counts_more():
    """L = 2, q = 2. Changes 1 and -1 at losses 1 and 2: L F^q y = 2 * 1 * 1 and 2 * 4 * -1.

    h = q F (L |y|)^2 + L F^q: 2 * 1 * 4 + 2 * 1 = 10 and 2 * 2 * 4 + 2 * 4 = 24; -6 / 34.
    """
    found, _ = aggregate(
        QFedAvg(q=2.0), [0.0], [[1.0], [-1.0]], clients([1.0, 2.0]), training=training(0.5)
    )
    assert found[0] == pytest.approx(-6 / 34)


def test_q_of_0_is_the_plain_mean():
    found, _ = aggregate(QFedAvg(q=0.0), [5.0], [[6.0], [9.0]], clients([3.0, 0.0]))
    assert found[0] == pytest.approx(7.5)


def test_the_training_loss_counts_for_nothing():
    """Flower takes F_k from the training, after the model moved; the paper, before."""
    updates = [[1.0], [-1.0]]
    some = aggregate(QFedAvg(), [0.0], updates, clients([1.0, 2.0], train_loss=0.1))[0]
    other = aggregate(QFedAvg(), [0.0], updates, clients([1.0, 2.0], train_loss=9.0))[0]
    assert some == other
    assert QFedAvg.needs == ("loss_before",)


def test_no_change_and_no_loss_divide_by_nothing():
    found, _ = aggregate(QFedAvg(q=2.0), [1.0], [[1.0], [1.0]], clients([0.0, 0.0]))
    assert found[0] == 1


@pytest.mark.parametrize("loss", [0.0, 1e-300, 1e30])
@pytest.mark.parametrize("q", [0.0, 0.5, 15.0])
def test_the_weight_of_an_extreme_loss_is_above_0_and_at_most_1(loss, q):
    assert 0 < QFedAvg(q=q).weight(clients([loss])[0]) <= 1


def test_high_losses_at_a_high_q_lose_nothing():
    """F = 2 and 4 at q = 15: 2^15 * 1 + 4^15 * 3 over the sum of h, with L = 10 and |y| = 1, 3."""
    found, _ = aggregate(QFedAvg(q=15.0), [0.0], [[1.0], [3.0]], clients([2.0, 4.0]))
    h = 15 * 2**14 * 100 + 10 * 2**15 + 15 * 4**14 * 900 + 10 * 4**15
    assert found[0] == pytest.approx(10 * (2**15 * 1 + 4**15 * 3) / h, rel=1e-12)


def reference(base, updates, losses, q, rate):
    """Algorithm 2 of arXiv:1905.10497, with the authors' L = 1 / rate."""
    deltas, curvatures = [], []
    for y, loss in zip(updates, losses, strict=True):
        gradient = (base - y) / rate
        deltas.append(loss**q * gradient)
        curvatures.append(q * loss ** (q - 1) * (gradient @ gradient) + loss**q / rate)
    return base - np.sum(deltas, axis=0) / np.sum(curvatures)


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0, 5.0])
def test_random_rounds_agree_with_the_reference(q):
    random = np.random.default_rng(3)
    for _ in range(10):
        base, updates = random.normal(size=7), random.normal(size=(5, 7))
        losses = random.uniform(0.01, 4, 5)
        found, _ = aggregate(
            QFedAvg(q=q), base, updates, clients(losses.tolist()), training=training(0.05)
        )
        np.testing.assert_allclose(found, reference(base, updates, losses, q, 0.05), rtol=1e-9)

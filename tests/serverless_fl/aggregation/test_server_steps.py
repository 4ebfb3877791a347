"""FedAvgM, FedAdagrad, FedAdam and FedYogi: by hand, and against a reference of our own lines."""

import math

import numpy as np
import pytest

from serverless_fl.aggregation.fedadagrad import FedAdagrad
from serverless_fl.aggregation.fedadam import FedAdam
from serverless_fl.aggregation.fedavgm import FedAvgM
from serverless_fl.aggregation.fedyogi import FedYogi
from serverless_fl.aggregation.in_memory import aggregate
from serverless_fl.aggregation.strategy import UpdateFacts

ADAPTIVE = [FedAdagrad, FedAdam, FedYogi]


def run(strategy, base, rounds, examples=None):
    """The model after each of the rounds, whose updates [rounds, clients, elements] are changes."""
    models, state = [np.asarray(base, float)], None
    counts = examples or [1] * len(rounds[0])
    facts = [UpdateFacts(client=i, num_examples=n) for i, n in enumerate(counts)]
    for changes in rounds:
        new, state = aggregate(strategy, models[-1], models[-1] + changes, facts, state=state)
        models.append(new)
    return models, state


def test_momentum_gathers_speed():
    """v: 2, 0.5 * 2 + 2 = 3, 0.5 * 3 + 2 = 3.5; each step is a tenth of it."""
    strategy = FedAvgM(server_learning_rate=0.1, server_momentum=0.5)
    models, state = run(strategy, [1.0], np.full((3, 2, 1), 2.0))
    np.testing.assert_allclose(np.ravel(models), [1, 1.2, 1.5, 1.85])
    assert state["velocity"] == pytest.approx(3.5)


def test_without_momentum_it_is_the_weighted_mean():
    models, _ = run(FedAvgM(server_momentum=0.0), [0.0], [[[1.0], [5.0]]], examples=[3, 1])
    assert models[1] == pytest.approx(2.0)


def test_the_first_step_of_fedadam_is_reddis():
    """Reddi: m = 0.1 * 0.1, v = 0.99 * 1e-6 + 0.01 * 0.01; 0.01 * m / (sqrt(v) + 0.001) = .00905.

    Flower 1.42 begins v at 0 and corrects a bias with an exponent that is one too large: .00675.
    """
    models, _ = run(FedAdam(), [0.0], [[[0.1]]])
    expected = 0.01 * 0.01 / (math.sqrt(0.99e-6 + 1e-4) + 0.001)
    assert models[1][0] == pytest.approx(expected, rel=1e-12)
    assert models[1][0] == pytest.approx(0.00905, abs=5e-6)
    assert abs(models[1][0] - 0.00675) > 0.002


def test_the_second_moment_of_fedyogi_does_not_decay():
    """Two rounds without change: v stays where it began. OpenFL multiplies it by beta2."""
    _, state = run(FedYogi(tau=0.5), [0.0], np.zeros((2, 1, 1)))
    assert state["second_moment"] == 0.25


@pytest.mark.parametrize(
    ("change", "moment"),
    # v begins at 1: above it v grows by half of change^2, below it shrinks by that much
    [(2.0, 1 + 2), (0.5, 1 - 0.125), (1.0, 1.0)],
)
def test_fedyogi_moves_towards_the_square(change, moment):
    _, state = run(FedYogi(beta2=0.5, tau=1.0), [0.0], [[[change]]])
    assert state["second_moment"] == moment


@pytest.mark.parametrize("strategy", ADAPTIVE)
def test_the_second_moment_begins_at_tau_squared(strategy):
    assert strategy(tau=0.25).state == {"first_moment": 0.0, "second_moment": 0.0625}


@pytest.mark.parametrize("strategy", ADAPTIVE)
def test_no_change_at_all_leaves_the_model(strategy):
    models, _ = run(strategy(), [3.0, -1.0], np.zeros((3, 2, 2)))
    np.testing.assert_array_equal(models[-1], [3.0, -1.0])


def reference(kind, changes, examples, eta, beta1, beta2, tau):
    """Reddi's algorithm 2, one weight at a time; APPFL's fed{adagrad,adam,yogi}_aggregator.py."""
    x = [0.0] * len(changes[0][0])
    m, v = [0.0] * len(x), [tau * tau] * len(x)
    for updates in changes:
        for j in range(len(x)):
            total = sum(n * update[j] for n, update in zip(examples, updates, strict=True))
            delta = total / sum(examples)
            m[j] = beta1 * m[j] + (1 - beta1) * delta
            if kind is FedAdagrad:
                v[j] += delta**2
            elif kind is FedAdam:
                v[j] = beta2 * v[j] + (1 - beta2) * delta**2
            else:
                v[j] -= (1 - beta2) * delta**2 * math.copysign(1, v[j] - delta**2)
            x[j] += eta * m[j] / (math.sqrt(v[j]) + tau)
    return x


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("tau", [1e-3, 0.1])
def test_ten_random_rounds_agree_with_the_reference(kind, tau):
    random = np.random.default_rng(1)
    changes = random.normal(scale=0.1, size=(10, 4, 6))
    settings = {"beta1": 0.8, "tau": tau, "server_learning_rate": 0.05}
    settings |= {} if kind is FedAdagrad else {"beta2": 0.9}
    models, _ = run(kind(**settings), np.zeros(6), changes, examples=[5, 1, 7, 2])
    expected = reference(kind, changes.tolist(), [5, 1, 7, 2], 0.05, 0.8, 0.9, tau)
    np.testing.assert_allclose(models[-1], expected, rtol=1e-9)

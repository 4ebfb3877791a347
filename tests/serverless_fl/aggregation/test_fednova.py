"""FedNova: by hand, against its authors' recursion, and what a client may claim."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverless_fl.aggregation.fednova import FedNova, effective_steps
from serverless_fl.aggregation.in_memory import aggregate
from serverless_fl.aggregation.strategy import TrainingFacts, UpdateFacts

TRAINING = TrainingFacts(local_epochs=2, batch_size=10, learning_rate=0.1, momentum=0.5)


def client(number, examples, steps):
    return UpdateFacts(client=number, num_examples=examples, metrics={"effective_steps": steps})


def test_clients_that_go_further_by_more_steps_count_alike():
    """p = 1/4, 3/4; a = 2, 4. Steps on average: 1/2 + 3 = 3.5; changes a step: 4 / 2, 8 / 4.

    3.5 * (1/4 * 2 + 3/4 * 2) = 7. FedAvg: 1/4 * 4 + 3/4 * 8 = 7 as well, for steps of one size.
    """
    facts = [client(0, 10, 2), client(1, 30, 4)]
    assert aggregate(FedNova(), [0.0], [[4.0], [8.0]], facts)[0] == pytest.approx(7)


def test_a_client_with_more_steps_pulls_no_harder():
    """p = 1/2; a = 1, 9. 5 * (1/2 * 1 - 1/2 * 1) = 0. FedAvg goes to (1 - 9) / 2 = -4."""
    facts = [client(0, 10, 1), client(1, 10, 9)]
    assert aggregate(FedNova(), [2.0], [[3.0], [-7.0]], facts)[0] == pytest.approx(2)


def test_equal_steps_give_fedavg():
    facts = [client(0, 10, 5), client(1, 30, 5)]
    assert aggregate(FedNova(), [0.0], [[4.0], [8.0]], facts)[0] == pytest.approx(7)


@given(st.integers(1, 300), st.floats(0, 0.999))
def test_effective_steps_are_the_authors_recursion(steps, momentum):
    """JYWa/FedNova counts: c <- momentum c + 1; a <- a + c."""
    counter = total = 0.0
    for _ in range(steps):
        counter = momentum * counter + 1
        total += counter
    assert effective_steps(steps, momentum) == pytest.approx(total, rel=1e-9)


def test_effective_steps_are_those_of_an_optimiser():
    """With gradients of 1 and a rate of 1, SGD with momentum ends as far away as it says."""
    torch = pytest.importorskip("torch")
    weight = torch.zeros(1, requires_grad=True, dtype=torch.float64)
    optimiser = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    for _ in range(7):
        weight.grad = torch.ones_like(weight)
        optimiser.step()
    assert effective_steps(7, 0.9) == pytest.approx(-weight.item())


def test_random_rounds_agree_with_the_papers_sum():
    random = np.random.default_rng(2)
    for _ in range(20):
        base, updates = random.normal(size=5), random.normal(size=(6, 5))
        examples, steps = random.integers(1, 50, 6), random.uniform(1, 40, 6)
        share = examples / examples.sum()
        expected = base - sum(share * steps) * sum(
            p * (base - y) / a for p, y, a in zip(share, updates, steps, strict=True)
        )
        counts = zip(examples.tolist(), steps.tolist(), strict=True)
        facts = [client(i, n, a) for i, (n, a) in enumerate(counts)]
        free = TrainingFacts(local_epochs=100, batch_size=1, learning_rate=0.1, momentum=0.0)
        found, _ = aggregate(FedNova(), base, updates, facts, training=free)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, effective_steps(2 * 3, 0.5)])
def test_the_fewest_and_the_most_steps_are_taken(steps):
    """25 examples in batches of 10 are 3 steps an epoch."""
    assert FedNova().update_fault(client(0, 25, steps), TRAINING) is None


@pytest.mark.parametrize("steps", [0, 0.5, -3, 1e30, effective_steps(7, 0.5)])
def test_steps_that_a_client_cannot_have_taken_are_refused(steps):
    fault = FedNova().update_fault(client(0, 25, steps), TRAINING)
    assert fault is not None and "effective_steps" in fault and "25 examples" in fault


def test_an_update_must_carry_its_steps():
    fault = FedNova().update_fault(UpdateFacts(client=0, num_examples=1), TRAINING)
    assert fault == "the update has no metric effective_steps, which fednova needs"

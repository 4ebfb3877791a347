"""The server's halves of SCAFFOLD and FedDyn: by hand, and against whole runs on quadratics."""

import numpy as np
import pytest

from serverless_fl.aggregation.feddyn import FedDyn
from serverless_fl.aggregation.in_memory import aggregate
from serverless_fl.aggregation.scaffold import Scaffold
from serverless_fl.aggregation.strategy import RoundFacts, TrainingFacts, UpdateFacts

UNEQUAL = [UpdateFacts(client=0, num_examples=1), UpdateFacts(client=1, num_examples=99)]


def test_scaffolds_server_by_hand():
    """Half of four clients took part: c = 1 + 1/2 * (2 + 6) / 2; x = 10 + 0.5 * (2 + 4) / 2."""
    new, state = aggregate(
        Scaffold(server_learning_rate=0.5),
        [10.0],
        [[12.0], [14.0]],
        UNEQUAL,
        companions={"control": [[2.0], [6.0]]},
        state={"control": np.array([1.0])},
        clients=4,
    )
    assert new[0] == pytest.approx(11.5)
    assert state["control"][0] == pytest.approx(3)


@pytest.mark.parametrize(("clients", "share"), [(4, 0.5), (2, 1.0), (1, 1.0)])
def test_participation_is_a_share(clients, share):
    """An update may be of a client that was revoked later, and no longer counts among all."""
    training = TrainingFacts(local_epochs=1, batch_size=1, learning_rate=0.1, momentum=0.0)
    facts = RoundFacts(number=1, updates=UNEQUAL, clients=clients, training=training)
    assert facts.participation == share


def test_scaffold_begins_with_controls_of_0():
    """Flower's baseline begins them with the weights."""
    assert Scaffold().state == {"control": 0.0}


def test_scaffolds_clients_use_plain_sgd():
    """Flower's baseline pairs a momentum of 0.9 with 1 / (K lr)."""
    facts = {"local_epochs": 1, "batch_size": 1, "learning_rate": 0.1}
    assert Scaffold().training_fault(TrainingFacts(**facts, momentum=0.0)) is None
    fault = Scaffold().training_fault(TrainingFacts(**facts, momentum=0.9))
    assert fault is not None and "momentum must be 0" in fault


def test_scaffolds_clients_need_its_control():
    assert Scaffold.broadcast == ("control",)
    assert set(Scaffold.broadcast) <= set(Scaffold().state)


def test_scaffolds_client_by_hand():
    """c - c_i = 1 - 3; c_i - c + (x - y) / (K lr) = 3 - 1 - 2 / (4 * 0.25)."""
    own, state = np.array([3.0]), {"control": np.array([1.0])}
    assert Scaffold().offset(own, state) == pytest.approx([-2])
    fresh = Scaffold().remember(own, state, np.array([2.0]), 4, 0.25)
    assert fresh == pytest.approx([0])
    assert Scaffold().carried(own, fresh)["control"] == pytest.approx([-3])


def test_feddyns_client_by_hand():
    """-g; g - alpha (y - x) = 3 - 0.5 * 2."""
    own, strategy = np.array([3.0]), FedDyn(feddyn_alpha=0.5)
    assert strategy.pull == 0.5
    assert strategy.offset(own, {}) == pytest.approx([-3])
    assert strategy.remember(own, {}, np.array([2.0]), 4, 0.25) == pytest.approx([2])


def test_feddyns_server_by_hand():
    """Changes 2 and 4 of four clients, alpha 0.5: h = 1 - 0.5 / 4 * 6 = 0.25; 13 - 0.25 / 0.5."""
    new, state = aggregate(
        FedDyn(feddyn_alpha=0.5),
        [10.0],
        [[12.0], [14.0]],
        UNEQUAL,
        state={"correction": np.array([1.0])},
        clients=4,
    )
    assert state["correction"][0] == pytest.approx(0.25)
    assert new[0] == pytest.approx(12.5)


def test_feddyn_agrees_with_the_authors_sum_of_all_changes():
    """alpemreacar/FedDyn: x <- mean of the round's y + mean of all clients' sums of changes."""
    random = np.random.default_rng(9)
    past, x, state = np.zeros((6, 3)), np.zeros(3), None
    model = x
    for _ in range(8):
        cohort = random.choice(6, size=3, replace=False)
        results = model + random.normal(size=(3, 3))
        past[cohort] += results - x
        x = results.mean(axis=0) + past.mean(axis=0)
        model, state = aggregate(FedDyn(feddyn_alpha=0.1), model, results, state=state, clients=6)
        np.testing.assert_allclose(model, x, rtol=1e-9)


OPTIMA = np.array([[0.0, 4.0], [6.0, -2.0], [3.0, 7.0]])
CURVES = np.array([1.0, 4.0, 2.0])  # client k's loss: curve / 2 |y - optimum|^2
JOINT = CURVES @ OPTIMA / CURVES.sum()


def test_scaffold_reaches_the_optimum_that_fedavg_misses():
    """Pathak and Wainwright's quadratics: local steps pull FedAvg away from the joint optimum."""
    rate, steps = 0.1, 10
    training = TrainingFacts(local_epochs=1, batch_size=1, learning_rate=rate, momentum=0.0)
    x, state, own = np.zeros(2), None, np.zeros((3, 2))
    averaged = np.zeros(2)
    for _ in range(200):
        known = {"control": np.zeros(2)} if state is None else state
        y = np.tile(x, (3, 1))
        for _ in range(steps):
            y = y - rate * (CURVES[:, None] * (y - OPTIMA) + Scaffold().offset(own, known))
        fresh = Scaffold().remember(own, known, y - x, steps, rate)
        x, state = aggregate(
            Scaffold(),
            x,
            y,
            companions=Scaffold().carried(own, fresh),
            state=state,
            clients=3,
            training=training,
        )
        own = fresh
        plain = np.tile(averaged, (3, 1))
        for _ in range(steps):
            plain = plain - rate * CURVES[:, None] * (plain - OPTIMA)
        averaged = plain.mean(axis=0)
    np.testing.assert_allclose(x, JOINT, atol=1e-6)
    assert np.linalg.norm(averaged - JOINT) > 0.1


def test_feddyn_reaches_it_too():
    """Each client solves its corrected problem: curve (y - optimum) - g + alpha (y - x) = 0."""
    alpha = 1.0
    x, state, g = np.zeros(2), None, np.zeros((3, 2))
    for _ in range(200):
        y = (CURVES[:, None] * OPTIMA + g + alpha * x) / (CURVES[:, None] + alpha)
        g = FedDyn(feddyn_alpha=alpha).remember(g, {}, y - x, 1, 1)
        x, state = aggregate(FedDyn(feddyn_alpha=alpha), x, y, state=state, clients=3)
    np.testing.assert_allclose(x, JOINT, atol=1e-6)

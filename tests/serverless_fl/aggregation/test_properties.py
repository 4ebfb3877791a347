"""What holds for every strategy, on random rounds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverless_fl.aggregation import STRATEGIES
from serverless_fl.aggregation.bulyan import Bulyan
from serverless_fl.aggregation.fedadagrad import FedAdagrad
from serverless_fl.aggregation.fedadam import FedAdam
from serverless_fl.aggregation.fedavg import FedAvg
from serverless_fl.aggregation.fedavgm import FedAvgM
from serverless_fl.aggregation.feddyn import FedDyn
from serverless_fl.aggregation.fednova import FedNova
from serverless_fl.aggregation.fedyogi import FedYogi
from serverless_fl.aggregation.geometric_median import GeometricMedian
from serverless_fl.aggregation.in_memory import aggregate
from serverless_fl.aggregation.krum import Krum
from serverless_fl.aggregation.median import Median
from serverless_fl.aggregation.multi_krum import MultiKrum
from serverless_fl.aggregation.qfedavg import QFedAvg
from serverless_fl.aggregation.scaffold import Scaffold
from serverless_fl.aggregation.strategy import (
    Reduction,
    RoundFacts,
    TrainingFacts,
    UpdateFacts,
)
from serverless_fl.aggregation.trimmed_mean import TrimmedMean

TRAINING = TrainingFacts(local_epochs=50, batch_size=1, learning_rate=0.1, momentum=0.0)
ROBUST = [
    Median(),
    TrimmedMean(byzantine=2),
    Krum(byzantine=2),
    MultiKrum(byzantine=2),
    MultiKrum(byzantine=2, keep=3),
    Bulyan(byzantine=2),
    GeometricMedian(),
]
MEANS = [
    FedAvg(),
    FedAvgM(),
    FedNova(),
    FedDyn(),
    Scaffold(server_learning_rate=0.5),
    QFedAvg(q=1.0),
]
ADAPTIVE = [FedAdagrad(server_learning_rate=0.1), FedAdam(), FedYogi(beta2=0.5)]
ALL = [*ROBUST, *MEANS, *ADAPTIVE]
CLIENTS, ELEMENTS = 13, 6  # Bulyan needs 11 for f = 2


def test_every_strategy_is_here():
    assert {type(strategy) for strategy in ALL} == set(STRATEGIES)


def named(strategies):
    return pytest.mark.parametrize("strategy", strategies, ids=str)


class Round:
    """One random round: base, updates, companions, state and facts."""

    def __init__(self, seed, strategy, scale=1.0):
        random = np.random.default_rng(seed)
        self.strategy = strategy
        self.base = random.normal(size=ELEMENTS) * scale
        self.updates = self.base + random.normal(size=(CLIENTS, ELEMENTS)) * scale
        self.companions = {
            name: random.normal(size=(CLIENTS, ELEMENTS)) for name in strategy.companions
        }
        self.state = {name: random.uniform(0.1, 1, ELEMENTS) for name in strategy.state}
        self.facts = [
            UpdateFacts(
                client=i,
                num_examples=int(random.integers(1, 100)),
                metrics={"loss_before": float(random.uniform(0, 4)), "effective_steps": 3.0 + i},
            )
            for i in range(CLIENTS)
        ]

    def result(self, order=slice(None), elements=slice(None)):
        """The new weights and state, of the updates in this order and of these elements."""
        facts = np.array(self.facts, dtype=object)[order].tolist()
        return aggregate(
            self.strategy,
            self.base[elements],
            self.updates[order][:, elements],
            facts,
            companions={k: v[order][:, elements] for k, v in self.companions.items()},
            state={k: v[elements] for k, v in self.state.items()},
            clients=40,
            training=TRAINING,
        )


def assert_alike(found, expected, **tolerance):
    (weights, state), (other_weights, other_state) = found, expected
    np.testing.assert_allclose(weights, other_weights, **tolerance)
    assert state.keys() == other_state.keys()
    for name in state:
        np.testing.assert_allclose(state[name], other_state[name], **tolerance)


SEEDS = st.integers(0, 2**32 - 1)


@named(ALL)
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_the_order_of_updates_changes_nothing(strategy, seed):
    one = Round(seed, strategy)
    order = np.random.default_rng(seed + 1).permutation(CLIENTS)
    assert_alike(one.result(order), one.result(), rtol=1e-7, atol=1e-9)


@named([s for s in ROBUST if s.reduction is not Reduction.GEOMETRY])
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_the_order_of_columns_changes_no_bit(strategy, seed):
    one = Round(seed, strategy)
    order = np.random.default_rng(seed + 1).permutation(CLIENTS)
    np.testing.assert_array_equal(
        strategy.reduce(one.updates[order], one.facts), strategy.reduce(one.updates, one.facts)
    )


@named(ALL)
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_the_state_is_what_the_strategy_declares(strategy, seed):
    new, state = Round(seed, strategy).result()
    assert new.shape == (ELEMENTS,) and new.dtype == np.float64
    assert state.keys() == strategy.state.keys()
    assert all(values.shape == (ELEMENTS,) for values in state.values())


@named([s for s in ALL if s.reduction in (Reduction.COLUMNS, Reduction.CHOSEN_COLUMNS)])
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, cut=st.integers(1, ELEMENTS - 1))
def test_columns_can_be_cut_anywhere(strategy, seed, cut):
    """To the bit, also a single one."""
    one = Round(seed, strategy)
    parts = [strategy.reduce(part, one.facts) for part in np.split(one.updates, [cut], axis=1)]
    np.testing.assert_array_equal(np.concatenate(parts), strategy.reduce(one.updates, one.facts))


@named(ALL)
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, cut=st.integers(1, ELEMENTS - 1))
def test_steps_can_be_cut_anywhere(strategy, seed, cut):
    """To the bit: with one set of facts, an element depends on no other one."""
    one = Round(seed, strategy)
    facts = [replace(update, norm=1.0 + i) for i, update in enumerate(one.facts)]
    known = RoundFacts(number=1, updates=facts, clients=40, training=TRAINING)
    reduced = {"weights": one.updates[0]}
    reduced |= {name: values[0] for name, values in one.companions.items()}

    def step(elements):
        return strategy.step(
            one.base[elements],
            {name: values[elements] for name, values in reduced.items()},
            {name: values[elements] for name, values in one.state.items()},
            known,
        )

    (first, first_state), (last, last_state) = step(slice(cut)), step(slice(cut, None))
    whole, state = step(slice(None))
    np.testing.assert_array_equal(np.concatenate([first, last]), whole)
    for name, values in state.items():
        both = np.concatenate([first_state[name], last_state[name]])
        np.testing.assert_array_equal(both, values)


@named([*ROBUST, FedAvg(), FedNova(), FedAvgM(server_momentum=0.0)])
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_identical_updates_return_that_update(strategy, seed):
    one = Round(seed, strategy)
    one.updates[:] = one.updates[0]
    one.facts = [
        UpdateFacts(client=i, num_examples=i + 1, metrics={"effective_steps": 2.0})
        for i in range(CLIENTS)
    ]
    np.testing.assert_allclose(one.result()[0], one.updates[0], rtol=1e-9, atol=1e-12)


@named(ALL)
def test_updates_that_change_nothing_leave_the_model(strategy):
    """No division by zero: all distances, norms and changes are 0."""
    one = Round(0, strategy)
    one.updates[:] = one.base
    one.state = {}  # as in the first round
    np.testing.assert_allclose(one.result()[0], one.base, rtol=1e-12)


@named(ROBUST)
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, together=st.booleans())
def test_two_outliers_at_a_million_move_nothing(strategy, seed, together):
    """The honest ones have changes of about 1; the result stays among them, whatever two send."""
    one = Round(seed, strategy)
    random = np.random.default_rng(seed)
    wild = random.normal(size=(1 if together else 2, ELEMENTS)) * 1e6
    bad = random.choice(CLIENTS, size=2, replace=False)
    one.facts = [UpdateFacts(client=i, num_examples=10) for i in range(CLIENTS)]
    one.updates[bad] = wild
    honest = np.delete(one.updates, bad, axis=0)
    new = one.result()[0]
    slack = 0.5 if strategy == GeometricMedian() else 1e-9
    assert (new >= honest.min(axis=0) - slack).all()
    assert (new <= honest.max(axis=0) + slack).all()


@named(ALL)
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, scale=st.sampled_from([1e-30, 1e-12, 1e6, 1e15, 1e30]))
def test_finite_updates_give_a_finite_model(strategy, seed, scale):
    new, state = Round(seed, strategy, scale).result()
    assert np.isfinite(new).all()
    assert all(np.isfinite(values).all() for values in state.values())


@named(ALL)
def test_clients_that_agree_draw_the_model_to_them(strategy):
    """All answer with one model for 300 rounds, and no strategy runs away from it."""
    one = Round(1, strategy)
    goal, distances = one.base + 1.0, []
    one.state, one.companions = {}, {k: v * 0 for k, v in one.companions.items()}
    one.facts = [
        UpdateFacts(client=i, num_examples=5, metrics={"loss_before": 1.0, "effective_steps": 2.0})
        for i in range(CLIENTS)
    ]
    for _ in range(300):
        one.updates[:] = goal
        one.base, one.state = one.result()
        distances.append(float(np.abs(one.base - goal).max()))
    assert np.isfinite(distances).all() and max(distances) < 2
    assert min(distances) < 0.2

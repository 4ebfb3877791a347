"""Krum, Multi-Krum and Bulyan's choice: by hand, and against searches through the real vectors."""

import numpy as np
import pytest

from serverless_fl.aggregation.bulyan import Bulyan
from serverless_fl.aggregation.distances import squared_distances
from serverless_fl.aggregation.in_memory import aggregate
from serverless_fl.aggregation.krum import Krum
from serverless_fl.aggregation.multi_krum import MultiKrum
from serverless_fl.aggregation.strategy import UpdateFacts


def gram(*changes):
    found = np.array(changes, float).reshape(len(changes), -1)
    return found @ found.T


def chosen(strategy, *changes):
    return np.flatnonzero(strategy.weights(gram(*changes), [])).tolist()


def test_krum_takes_the_update_with_the_nearest_neighbours():
    """n - f - 2 = 2. Scores: of 0: 1 + 9; of 1: 1 + 4; of 3: 4 + 9; of 7: 16 + 36; of 50 more."""
    assert chosen(Krum(byzantine=1), 0, 1, 3, 7, 50) == [1]


def test_the_shorter_change_wins_a_tie():
    """Without f, 3 updates have 1 neighbour each: 4 and 5 have one score, and so have 5 and 4."""
    assert chosen(Krum(byzantine=0), 5, 4, 9) == [1]
    assert chosen(Krum(byzantine=0), 4, 5, 9) == [0]


def test_multi_krum_keeps_all_but_f():
    assert chosen(MultiKrum(byzantine=1), 0, 1, 50, 3, 7) == [0, 1, 3, 4]


def test_multi_krum_keeps_as_many_as_it_is_told():
    """Scores as above: 5 (of 1), 10 (of 0)."""
    assert chosen(MultiKrum(byzantine=1, keep=2), 0, 1, 50, 3, 7) == [0, 1]


def test_multi_krum_weighs_nobody_by_its_own_count():
    """In Flower the third client alone would decide."""
    facts = [UpdateFacts(client=i, num_examples=n) for i, n in enumerate([1, 1, 10**6, 1, 1])]
    updates = [[0.0], [1.0], [3.0], [4.0], [50.0]]
    assert aggregate(MultiKrum(byzantine=1), [0.0], updates, facts)[0] == 2


def test_bulyan_removes_each_choice_before_the_next():
    """f = 1, n = 7: five choices, by the sums of 4, 3, 2, 1 and 1 squared distances.

    3 with 1 + 4 + 9 + 729; 2 with 1 + 4 + 784 (30: 1 + 9 + 784); 31 with 1 + 4; 0 with 1, as has 1,
    which is longer; 30 with 9, as has 33. Krum's best five at once are 0, 1, 2, 3 and 30.
    """
    changes = [0, 1, 2, 3, 30, 31, 33]
    assert chosen(Bulyan(byzantine=1), *changes) == [0, 2, 3, 4, 5]
    assert chosen(MultiKrum(byzantine=1, keep=5), *changes) == [0, 1, 2, 3, 4]


def test_bulyans_choice_differs_from_krums_best_at_once():
    """Flower takes the n - 2f best scores of one Krum."""
    random = np.random.default_rng(5)
    differ = 0
    for _ in range(50):
        changes = random.normal(size=(11, 2)) ** 3
        removing = chosen(Bulyan(byzantine=2), *changes)
        at_once = chosen(MultiKrum(byzantine=2, keep=7), *changes)
        assert len(removing) == len(at_once) == 7
        differ += removing != at_once
    assert differ > 5


def search_krum(changes, byzantine, left):
    """The paper's definition, on vectors [updates, elements]; the first of two equal ones."""
    best, least = -1, np.inf
    for i in left:
        others = sorted(float(np.sum((changes[i] - changes[j]) ** 2)) for j in left if j != i)
        score = sum(others[: max(1, len(left) - byzantine - 2)])
        if score < least:
            best, least = i, score
    return best


def search_bulyan(changes, byzantine):
    left = list(range(len(changes)))
    found = []
    for _ in range(len(changes) - 2 * byzantine):
        best = search_krum(changes, byzantine, left)
        found.append(best)
        left.remove(best)
    return sorted(found)


@pytest.mark.parametrize(("updates", "byzantine"), [(5, 1), (9, 3), (20, 3), (31, 7)])
def test_krum_agrees_with_a_search(updates, byzantine):
    random = np.random.default_rng(updates)
    for _ in range(20):
        changes = random.normal(size=(updates, 6)) * random.uniform(0.1, 3, size=(updates, 1))
        best = search_krum(changes, byzantine, list(range(updates)))
        assert chosen(Krum(byzantine=byzantine), *changes) == [best]


@pytest.mark.parametrize(("updates", "byzantine"), [(11, 2), (19, 4)])
def test_bulyan_agrees_with_a_search(updates, byzantine):
    """The last choices have one neighbour, and pairs tie: the shorter change comes first."""
    random = np.random.default_rng(updates)
    for _ in range(10):
        changes = random.normal(size=(updates, 6))
        changes = changes[np.argsort(np.linalg.norm(changes, axis=1))]
        found = chosen(Bulyan(byzantine=byzantine), *changes)
        assert found == search_bulyan(changes, byzantine)


def test_distances_of_small_changes_on_large_weights_are_exact():
    """|a|^2 + |b|^2 - 2ab of float32 weights is noise; of changes in float64 it is not."""
    random = np.random.default_rng(6)
    changes = random.normal(scale=1e-3, size=(6, 1000))
    expected = [[np.sum((a - b) ** 2) for b in changes] for a in changes]
    np.fill_diagonal(expected := np.array(expected), np.inf)
    np.testing.assert_allclose(squared_distances(gram(*changes)), expected, rtol=1e-9)


def test_rounding_leaves_no_distance_below_0():
    products = np.array([[1.0, 1.0 + 1e-15], [1.0 + 1e-15, 1.0]])
    assert squared_distances(products)[0, 1] == 0


def test_a_change_whose_norm_overflows_is_far_from_all():
    """Of two such changes it is infinity less infinity: NaN, but for the rule."""
    changes = np.array([[0.0], [1.0], [2.0], [1e200], [1e200]])
    with np.errstate(over="ignore"):
        products = changes @ changes.T
    assert np.isinf(squared_distances(products)[3]).all()
    assert np.flatnonzero(Krum(byzantine=1).weights(products, [])) in ([0], [1], [2])


@pytest.mark.parametrize(
    ("strategy", "least"),
    [
        (Krum(byzantine=0), 3),
        (Krum(byzantine=2), 7),
        (MultiKrum(byzantine=2), 7),
        (MultiKrum(byzantine=2, keep=8), 10),
        (Bulyan(byzantine=1), 7),
        (Bulyan(byzantine=3), 15),
    ],
)
def test_too_small_a_round_is_refused(strategy, least):
    assert strategy.fault(least) is None
    fault = strategy.fault(least - 1)
    assert fault is not None and f"at least {least}" in fault

"""The tree of DP-FTRL by hand, and its epsilons beside Google's library dp-accounting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from serverless_fl.privacy import tree
from serverless_fl.privacy.accounting import epsilon_of
from serverless_fl.privacy.dp_ftrl import DpFtrl
from serverless_fl.privacy.noise import Noise, round_key
from serverless_fl.weights.header import TensorSpec
from serverless_fl.weights.spans import Piece


def in_rounds(*numbers, of):
    """The slots of each round, of which slot 0 is in these, and the others in one each."""
    return [[0, n] if n in numbers else [n] for n in range(1, of + 1)]


def test_a_round_sums_as_many_rounds_as_the_power_of_two_in_its_number():
    assert [len(tree.summed(n)) for n in range(1, 9)] == [1, 2, 1, 4, 1, 2, 1, 8]
    assert list(tree.summed(12)) == [9, 10, 11, 12]
    assert [tree.replaced(n) for n in (1, 2, 4, 7, 8, 12)] == [
        *((), (1,), (3, 2), (), (7, 6, 4), (11, 10))
    ]


def test_the_sum_of_all_rounds_has_the_noise_of_few_nodes_which_cover_each_round_once():
    nodes: set[int] = set()
    for number in range(1, 41):
        nodes = (nodes - set(tree.replaced(number))) | {number}
        covered = sorted(r for node in nodes for r in tree.summed(node))
        assert covered == list(range(1, number + 1))
        assert len(nodes) == number.bit_count()


def test_a_client_pays_for_each_sum_that_it_is_in_and_for_n_times_in_one_n_squared():
    assert tree.squares([]).now == 0
    assert tree.squares(in_rounds(1, of=8)).now == 4  # the sums of 1, 2, 4 and 8 rounds
    assert tree.squares(in_rounds(5, of=8)).now == 4  # it shares that number with slot 1
    assert tree.squares(in_rounds(1, 2, of=2)).now == 1 + 2**2
    assert tree.squares(in_rounds(1, 3, of=4)).now == 2 + 1 + 2**2


def test_another_round_is_foreseen_for_the_client_that_it_would_cost_most():
    for rounds in ([], in_rounds(1, of=3), in_rounds(1, 2, of=3), in_rounds(1, 2, 4, of=6)):
        foreseen = tree.squares(rounds).coming
        slots = {slot for slots in rounds for slot in slots} | {99}
        assert foreseen == max(tree.squares([*rounds, [slot]]).now for slot in slots)


# dp-accounting 0.6.0: get_epsilon of RdpAccountant(REPLACE_SPECIAL) of
# SingleEpochTreeAggregationDpEvent(noise, rounds), an upper bound, and get_epsilon_gaussian of
# the same divergence, noise / sqrt(ceil(log2(rounds + 1))).
@pytest.mark.parametrize(
    ("noise", "rounds", "bound", "exact"),
    [
        (4.0, 1, 1.0125506277526433, 0.9263415039982288),
        (4.0, 7, 1.8472795614140454, 1.698035204764661),
        (4.0, 8, 2.165715659029443, 1.9930914044151198),
        (10.0, 1000, 1.3084972690274297, 1.1993695737531707),
    ],
)
def test_one_participation_in_a_tree_costs_what_the_library_says(noise, rounds, bound, exact):
    worst = max(
        tree.squares([[0] * (n == r) for n in range(1, rounds + 1)]).now for r in (1, rounds)
    )
    assert worst == math.ceil(math.log2(rounds + 1))
    found = epsilon_of(math.sqrt(worst) / noise, 1e-5)
    assert found == pytest.approx(exact, rel=1e-9)
    assert found < bound
    assert DpFtrl(noise_multiplier=noise, delta=1e-5).epsilon(worst) == found


def test_noise_of_earlier_rounds_is_taken_off_where_a_node_takes_their_place():
    elements = Piece(TensorSpec("w", "F32", (6,), 0, 24), 1, 5)
    total = np.zeros(4)
    for number in range(1, 5):
        less = tuple(round_key(b"s", n) for n in tree.replaced(number))
        total += Noise(round_key(b"s", number), 3.0, less).of(elements)
    assert total == pytest.approx(Noise(round_key(b"s", 4), 3.0).of(elements))

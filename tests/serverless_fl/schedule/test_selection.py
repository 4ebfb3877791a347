"""Selections: deterministic draws by what the store holds of the clients."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverless_fl.domain import draws
from serverless_fl.schedule.selection import SELECTIONS, Draw, Known, Turn
from serverless_fl.schedule.selection.by_loss import ByLoss
from serverless_fl.schedule.selection.by_size import BySize
from serverless_fl.schedule.selection.least_recent import LeastRecent
from serverless_fl.schedule.selection.responsive import LEAST, Responsive
from serverless_fl.schedule.selection.secret import Secret
from serverless_fl.schedule.selection.uniform import Uniform


def draw(number=1, attempt=1, seed=0):
    given = {"deadline_seconds": 60.0, "clients": 51, "secret": bytes([seed % 256])}
    return Draw(seed=seed, number=number, attempt=attempt, **given)


def shares(selection, known, size=1, rounds=4000):
    """How often each client is drawn, as a share of the rounds."""
    found = Counter(
        slot
        for number in range(rounds)
        for slot in selection.draw(draw(number), sorted(known), size, known)
    )
    return {slot: found[slot] / rounds for slot in known}


def turns(*reported, seconds=1.0, loss=None):
    """The turns of a client, the newest first."""
    return tuple(
        Turn(round=9 - n, reported=came, seconds=seconds if came else None, loss=loss)
        for n, came in enumerate(reported)
    )


@given(
    st.sampled_from(SELECTIONS),
    st.lists(st.integers(0, 50), unique=True, max_size=20),
    st.integers(0, 30),
    st.dictionaries(
        st.integers(0, 50),
        st.builds(
            Known,
            examples=st.integers(1, 10**9),
            turns=st.lists(
                st.builds(
                    Turn,
                    round=st.integers(1, 99),
                    reported=st.booleans(),
                    seconds=st.none() | st.floats(0, 1e9),
                    loss=st.none() | st.floats(0, 1e30),
                )
            ),
        ),
    ),
)
def test_every_selection_draws_without_replacement_and_draws_the_same_again(
    selection, slots, size, known
):
    chosen = selection()
    found = chosen.draw(draw(), slots, size, known)
    assert found == sorted(set(found))
    if chosen.name != "secret":  # a cohort of its own size, which has this mean
        assert len(found) == min(size, len(slots))
    assert set(found) <= set(slots)
    assert chosen.draw(draw(), slots[::-1], size, known) == found


def test_uniform_is_the_draw_that_it_always_was():
    assert Uniform().draw(draw(3, seed=7), range(20), 10, {}) == draws.cohort(
        7, 3, 1, range(20), 10
    )


@given(st.integers(0, 999), st.integers(0, 20))
def test_equal_weights_draw_as_uniform(seed, size):
    found = draw(seed=seed)
    assert found.weighted(dict.fromkeys(range(20), 3.5), size) == found.uniform(range(20), size)


def test_by_size_draws_in_proportion_to_the_examples():
    known = {0: Known(examples=1), 1: Known(examples=3), 2: Known(examples=6)}
    found = shares(BySize(), known)
    assert found == pytest.approx({0: 0.1, 1: 0.3, 2: 0.6}, abs=0.04)


def test_secret_draws_each_client_with_the_same_chance_whoever_else_is_drawn():
    known = dict.fromkeys(range(51), Known())
    found = shares(Secret(), known, size=17)
    assert found == pytest.approx(dict.fromkeys(known, 1 / 3), abs=0.04)
    both = [set(Secret().draw(draw(n), [3, 4], 17, {})) == {3, 4} for n in range(4000)]
    assert sum(both) / len(both) == pytest.approx(1 / 9, abs=0.02)


def test_another_secret_draws_others_and_the_seed_draws_none():
    first = draw(seed=1)
    assert Secret().draw(first, range(51), 17, {}) != Secret().draw(draw(), range(51), 17, {})
    other_seed = replace(first, seed=99)
    assert Secret().draw(first, range(51), 17, {}) == Secret().draw(other_seed, range(51), 17, {})


def test_least_recent_takes_who_waited_longest_and_newcomers_first():
    known = {0: Known(turns=turns(True)), 1: Known(turns=(Turn(round=2, reported=False),))}
    assert LeastRecent().draw(draw(), [0, 1, 2], 1, known) == [2]
    assert LeastRecent().draw(draw(), [0, 1, 2], 2, known) == [1, 2]


def test_by_loss_takes_the_highest_last_losses_and_those_it_does_not_know():
    known = {
        0: Known(turns=turns(True, loss=0.5)),
        1: Known(turns=(*turns(False), *turns(True, loss=2.0))),  # the last one it reported
        2: Known(turns=turns(True, loss=1.0)),
    }
    everyone = ByLoss(candidates=100.0)
    assert everyone.draw(draw(), [0, 1, 2], 1, known) == [1]
    assert everyone.draw(draw(), [0, 1, 2], 2, known) == [1, 2]
    assert everyone.draw(draw(), [0, 1, 2, 3], 1, known) == [3]


def test_by_loss_chooses_among_its_candidates_only():
    known = {n: Known(turns=turns(True, loss=float(n))) for n in range(10)}
    found = shares(ByLoss(candidates=2.0), known)
    # The highest of two among ten: client n in 2n of 90 draws.
    assert found == pytest.approx({n: 2 * n / 90 for n in range(10)}, abs=0.04)


def test_responsive_halves_the_chance_with_each_missed_turn():
    known = {0: Known(turns=turns(True)), 1: Known(turns=turns(False, False, True))}
    assert shares(Responsive(), known) == pytest.approx({0: 0.8, 1: 0.2}, abs=0.04)


def test_responsive_draws_slow_clients_less_by_the_square():
    known = {0: Known(turns=turns(True, seconds=30.0)), 1: Known(turns=turns(True, seconds=60.0))}
    assert shares(Responsive(), known) == pytest.approx({0: 0.8, 1: 0.2}, abs=0.04)
    prompt = Responsive(prompt_share=1.0)
    assert shares(prompt, known) == pytest.approx({0: 0.5, 1: 0.5}, abs=0.04)


def test_a_client_that_was_dead_for_long_still_comes_back_and_counts_in_full_again():
    dead = Known(turns=turns(*[False] * 50))
    found = shares(Responsive(), {0: Known(), 1: dead}, rounds=8000)
    assert found[1] == pytest.approx(LEAST / (1 + LEAST), abs=0.01)
    assert found[1] > 0
    back = Known(turns=turns(True, *[False] * 50))
    assert shares(Responsive(), {0: Known(), 1: back})[1] == pytest.approx(0.5, abs=0.04)


def missed(*rounds, late=False):
    """A client that missed these rounds, the newest first."""
    seconds = 70.0 if late else None
    return Known(turns=tuple(Turn(round=n, reported=False, seconds=seconds) for n in rounds))


@pytest.mark.parametrize(
    ("client", "back"),
    [
        (missed(10), 12),  # one round later
        (missed(10, 8), 13),
        (missed(10, 7, 5), 15),
        (missed(10, 5, 2, 1), 15),  # no longer than rest_rounds
        (missed(10, late=True), 11),  # one that came late is not silent
    ],
)
def test_a_silent_client_rests_for_longer_each_time_where_all_are_asked(client, back):
    selection, known = Responsive(rest_rounds=4), {2: client}
    asked = [n for n in range(11, 20) if 2 in selection.draw(draw(n), [0, 1, 2], 3, known)]
    assert asked == list(range(back, 20))


def test_clients_do_not_rest_where_the_quorum_needs_them_or_in_another_attempt():
    selection, known = Responsive(rest_rounds=4), {1: missed(10), 2: missed(10)}
    few = replace(draw(11), least=2)
    assert selection.draw(few, [0, 1, 2], 3, known) == [0, 1, 2]
    assert selection.draw(replace(few, least=1), [0, 1, 2], 3, known) == [0]
    assert selection.draw(draw(11, attempt=2), [0, 1, 2], 3, known) == [0, 1, 2]
    assert Responsive().draw(draw(11), [0, 1, 2], 3, known) == [0, 1, 2]

"""Synchronous rounds: whom they invite, and when they are due."""

from __future__ import annotations

import pytest

from serverless_fl.domain import draws
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.round import Round
from serverless_fl.schedule import Due, Heard, Invitation, schedule_of


def schedule(**changes):
    settings = {"clients": 20, "clients_per_round": 4, "deadline_seconds": 60.0, "quorum": 2}
    return schedule_of(Config(dataset="d", dataset_size=100, model="m", **(settings | changes)))


def collecting(cohort=(1, 2, 3, 4), **changes):
    fields = {"opened_at": 0.0, "deadline": 60.0} | changes
    return Round(experiment_id="x", number=1, cohort=cohort, **fields)


def test_the_first_cohort_is_the_draw_of_the_seed():
    cohort = schedule(seed=7).invite(Invitation(number=3, attempt=1, enrolled=range(20)))
    assert list(cohort) == draws.cohort(7, 3, 1, range(20), 4)


def again(enrolled, reported, absent):
    asked = Invitation(number=1, attempt=2, enrolled=enrolled, reported=reported, absent=absent)
    return schedule().invite(asked)


def test_a_new_attempt_keeps_who_reported_and_replaces_who_was_absent():
    cohort = again(range(20), reported=[1, 2], absent=[1, 2, 3, 4])
    assert {1, 2} <= set(cohort)
    assert len(cohort) == 4
    assert not {3, 4} & set(cohort)


def test_a_new_attempt_falls_back_on_absent_clients_when_there_are_no_others():
    assert again(range(4), reported=[0], absent=[0, 1, 2]) == (0, 1, 2, 3)


def test_a_new_attempt_keeps_more_reports_than_it_invites():
    """An update may come while the new cohort is drawn."""
    assert again(range(9), reported=[0, 1, 2, 3, 4], absent=[]) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("heard", "now", "due"),
    [
        (Heard(reported=(1, 2, 3)), 59.0, Due.NOTHING),
        (Heard(reported=(1, 2, 3, 4)), 1.0, Due.CLOSE),
        (Heard(reported=(1, 2), refused=(3,), revoked=(4,)), 1.0, Due.CLOSE),
        (Heard(reported=(1, 2)), 60.0, Due.CLOSE),
        (Heard(reported=(1,)), 60.0, Due.REPEAT),
        (Heard(reported=(1,), refused=(2, 3, 4)), 1.0, Due.REPEAT),
        (Heard(reported=(1, 7, 8, 9)), 1.0, Due.NOTHING),  # of an earlier attempt's cohort
    ],
)
def test_a_round_closes_when_all_were_heard_or_at_its_deadline(heard, now, due):
    assert schedule().due(collecting(), heard, now) is due


def test_a_deadline_beyond_its_length_is_brought_back():
    """A clock jumped ahead when it was set."""
    assert schedule().latest_deadline(collecting(deadline=1e9), Heard(reported=()), 5.0) == 65.0

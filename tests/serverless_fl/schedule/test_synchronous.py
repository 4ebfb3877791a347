"""Synchronous rounds: whom they invite, and when they are due."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serverless_fl.domain import draws
from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.round import Round
from serverless_fl.schedule import Due, Heard, Invitation, schedule_of


def config(schedule=None, **changes):
    settings = {"clients": 20, "clients_per_round": 4, "deadline_seconds": 60.0, "quorum": 2}
    chosen = Choice("synchronous", schedule or {})
    return Config(dataset="d", dataset_size=100, model="m", schedule=chosen, **(settings | changes))


def invite(found, **asked):
    return schedule_of(found).invite(found, Invitation(**asked))


def due(found, *situation):
    return schedule_of(found).due(found, *situation)


def latest(found, *situation):
    return schedule_of(found).latest_deadline(found, *situation)


def collecting(cohort=(1, 2, 3, 4), **changes):
    fields = {"opened_at": 0.0, "deadline": 60.0} | changes
    return Round(experiment_id="x", number=1, cohort=cohort, **fields)


def test_the_first_cohort_is_the_draw_of_the_seed():
    cohort = invite(config(seed=7), number=3, attempt=1, enrolled=range(20))
    assert list(cohort) == draws.cohort(7, 3, 1, range(20), 4)


def again(enrolled, reported, absent):
    asked = {"enrolled": enrolled, "reported": reported, "absent": absent}
    return invite(config(), number=1, attempt=2, **asked)


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
    ("heard", "now", "expected"),
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
def test_a_round_closes_when_all_were_heard_or_at_its_deadline(heard, now, expected):
    assert due(config(), collecting(), heard, now) is expected


def test_a_deadline_beyond_its_length_is_brought_back():
    """A clock jumped ahead when it was set."""
    assert latest(config(), collecting(deadline=1e9), Heard(reported=()), 5.0) == 65.0


# Over-selection: ask six, close at four

ASKED = (1, 2, 3, 4, 5, 6)


def test_over_selection_invites_more_and_closes_at_the_usual_number():
    found = config({"over_selection": 2})
    assert len(invite(found, number=1, attempt=1, enrolled=range(20))) == 6
    round_ = collecting(ASKED)
    assert due(found, round_, Heard(reported=(1, 2, 3)), 1.0) is Due.NOTHING
    assert due(found, round_, Heard(reported=(1, 2, 3, 6)), 1.0) is Due.CLOSE
    assert schedule_of(found).counts_to(found, round_, 1.0) == 4


def test_over_selection_without_enough_updates_waits_for_the_deadline_and_the_quorum():
    found, round_ = config({"over_selection": 2}), collecting(ASKED)
    assert due(found, round_, Heard(reported=(1, 2)), 60.0) is Due.CLOSE
    assert due(found, round_, Heard(reported=(1,)), 60.0) is Due.REPEAT
    assert due(found, round_, Heard(reported=(1, 2, 3), refused=ASKED[3:]), 1.0) is Due.CLOSE


def test_where_too_few_are_enrolled_for_over_selection_a_round_waits_for_all():
    found, round_ = config({"over_selection": 2}), collecting()
    assert schedule_of(found).counts_to(found, round_, 1.0) is None
    assert due(found, round_, Heard(reported=(1, 2, 3)), 1.0) is Due.NOTHING


def test_more_clients_than_there_are_cannot_be_over_selected():
    found = config({"over_selection": 17})
    assert "are together more than clients (20)" in schedule_of(found).fault(found)
    found = config({"over_selection": 16})
    assert schedule_of(found).fault(found) is None


# Grace: ten seconds after the quorum of two


def test_a_grace_begins_with_the_quorum_and_is_not_begun_again():
    found, round_ = config({"grace_seconds": 10.0}), collecting()
    assert latest(found, round_, Heard(reported=(1,)), 5.0) >= round_.deadline
    assert schedule_of(found).counts_to(found, round_, 5.0) == 2
    shorter = collecting(deadline=latest(found, round_, Heard(reported=(1, 2)), 5.0))
    assert shorter.deadline == 15.0
    assert latest(found, shorter, Heard(reported=(1, 2, 3)), 6.0) > shorter.deadline
    assert schedule_of(found).counts_to(found, shorter, 6.0) is None
    assert due(found, shorter, Heard(reported=(1, 2, 3)), 14.0) is Due.NOTHING
    assert due(found, shorter, Heard(reported=(1, 2, 3)), 15.0) is Due.CLOSE


def test_a_grace_that_ends_after_the_deadline_changes_nothing():
    found, round_ = config({"grace_seconds": 10.0}), collecting()
    assert latest(found, round_, Heard(reported=(1, 2)), 55.0) > round_.deadline
    assert schedule_of(found).counts_to(found, round_, 55.0) is None


def test_a_stored_schedule_of_another_release_is_an_error():
    with pytest.raises(InvalidConfig, match="There is no schedule 'gone'"):
        schedule_of(replace(config(), schedule=Choice("gone")))

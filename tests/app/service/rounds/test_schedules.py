"""Over-selection, grace and selections, as clients and the coordinator's records see them."""

from __future__ import annotations

import pytest

from client_sdk.errors import RequestRefused, StateConflict
from tests.support import own_data
from tests.support.federation import BOTH_STORES, Member, key_of, value_of
from tests.support.participants import Adding, take_part
from tests.support.some import some

ASK_THREE = {"schedule": {"name": "synchronous", "over_selection": 1}}
GRACE = {"schedule": {"name": "synchronous", "grace_seconds": 10}}


@BOTH_STORES
async def test_a_round_that_asks_more_clients_closes_with_the_usual_number(federation):
    experiment, members = await federation.start(**ASK_THREE)
    first, second, slow = await federation.cohort(experiment)
    await members[first].upload(1, 2.0)
    assert (await federation.admin.round(experiment, 1)).state == "collecting"
    await members[second].upload(1, 4.0)
    round_ = await federation.admin.round(experiment, 1)
    assert (round_.state, round_.reported, round_.missing) == ("closed", [first, second], [slow])
    assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0
    with pytest.raises(StateConflict, match="Round 1 is closed and takes no more updates; round 2"):
        await members[slow].upload(1, 100.0)
    assert (await federation.admin.round(experiment, 1)).reported == [first, second]
    with pytest.raises(StateConflict, match="Round 1 is closed"):  # and it stays so
        await members[slow].upload(1, 100.0)
    receipt = await members[first].upload(1, 2.0)  # one that counted is confirmed again
    assert receipt is not None
    assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0


async def test_over_selected_participants_go_on_after_they_come_late(quick):
    shown, events = await take_part(quick, Adding(), rounds=4, **ASK_THREE)
    came = {
        number: sum(e.kind == "uploaded" and e.round == number for e in events)
        for number in (1, 2, 3, 4)
    }
    assert [r.accepted for r in shown.history] == [came[r.number] for r in shown.history]
    assert all(r.accepted in (2, 3) for r in some(shown.history))  # one that came in time counts
    assert value_of(await quick.admin.download_model(shown.id)) == 4.0
    assert not [e for e in events if e.kind == "refused"]


async def test_over_selection_that_cannot_be_is_refused_at_once(federation):
    with pytest.raises(RequestRefused, match=r"clients_per_round \(2\) and over_selection \(3\)"):
        await federation.create(schedule={"name": "synchronous", "over_selection": 3})


@BOTH_STORES
async def test_after_its_quorum_a_round_waits_for_the_grace_only(federation):
    experiment, members = await federation.start(quorum=1, **GRACE)
    first, other = await federation.cohort(experiment)
    assert (await members[other].status()).seconds_left == 60
    await members[first].upload(1, 2.0)
    assert (await members[other].status()).seconds_left == 10
    federation.clock.now += 9
    assert (await members[other].status()).seconds_left == 1  # it began once, with the quorum
    federation.clock.now += 1
    await members[other].status()
    round_ = await federation.admin.round(experiment, 1)
    assert (round_.state, round_.reported, round_.missing) == ("closed", [first], [other])
    with pytest.raises(StateConflict, match="Round 1 is closed"):
        await members[other].upload(1, 9.0)


async def test_one_that_comes_within_the_grace_counts(federation):
    experiment, members = await federation.start(quorum=1, **GRACE)
    first, other = await federation.cohort(experiment)
    await members[first].upload(1, 2.0)
    federation.clock.now += 9
    await members[other].upload(1, 4.0)
    assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0


async def test_without_its_quorum_a_round_has_no_grace(federation):
    experiment, members = await federation.start(quorum=2, **GRACE)
    first, other = await federation.cohort(experiment)
    await members[first].upload(1, 2.0)
    federation.clock.now += 59
    assert (await members[other].status()).seconds_left == 1


async def test_the_grace_and_the_quorum_of_another_attempt_begin_again(federation):
    experiment, members = await federation.start(quorum=2, clients=6, dataset_size=60, **GRACE)
    first, _ = await federation.cohort(experiment)
    await members[first].upload(1, 2.0)
    federation.clock.now += 60
    round_ = await federation.admin.round(experiment, 1)
    assert round_.attempt == 2
    (fresh,) = round_.missing
    assert (await members[fresh].status()).seconds_left == 60


async def rounds_of(federation, dead=None, rounds=12, **settings):
    """The cohorts of rounds in which all but a dead client report at once, by round."""
    experiment, members = await federation.start(
        clients=6, clients_per_round=3, dataset_size=60, rounds=rounds, quorum=1, **settings
    )
    cohorts = []
    for number in range(1, rounds + 1):
        cohorts.append(await federation.cohort(experiment))
        for client in cohorts[-1]:
            if client != dead:
                loss = float(int(client[-1]))
                await members[client].upload(number, 1.0, loss_before=loss)
        if dead in cohorts[-1]:
            federation.clock.now += 60
            await federation.admin.experiment(experiment)
    return cohorts


def turns_of(client, cohorts):
    return sum(client in cohort for cohort in cohorts)


async def test_a_dead_client_is_drawn_less_and_less_by_responsive_selection(federation):
    usual = await rounds_of(federation, dead="client-01", rounds=24)
    cohorts = await rounds_of(federation, dead="client-01", rounds=24, selection="responsive")
    assert turns_of("client-01", usual) > 2 * turns_of("client-01", cohorts) > 0


async def test_by_least_recent_selection_clients_take_turns(federation):
    cohorts = await rounds_of(federation, selection="least-recent", rounds=6)
    for first, second in zip(cohorts[::2], cohorts[1::2], strict=True):
        assert not set(first) & set(second)


async def test_by_loss_selection_asks_every_client_and_then_those_with_high_losses(federation):
    choice = {"name": "by-loss", "candidates": 2.0}  # all six are candidates
    cohorts = await rounds_of(federation, selection=choice, rounds=6)
    assert set(cohorts[0]) | set(cohorts[1]) == {f"client-0{n}" for n in range(6)}
    assert cohorts[2:] == [["client-03", "client-04", "client-05"]] * 4


async def test_an_attempt_at_the_same_round_selects_by_the_same_rule(federation):
    settings = {"selection": "least-recent", "quorum": 2, "clients": 6, "clients_per_round": 2}
    experiment, members = await federation.start(rounds=3, dataset_size=60, **settings)
    first = await federation.cohort(experiment)
    for client in first:
        await members[client].upload(1, 1.0)
    second = await federation.cohort(experiment)
    federation.clock.now += 60
    third = (await federation.admin.round(experiment, 2)).cohort
    assert not {*first} & {*second}
    assert not {*third} & {*first, *second}


async def test_by_size_selection_counts_what_parties_declared_of_their_own_data(federation):
    settings = {"clients": 3, "clients_per_round": 1, "rounds": 8, "selection": "by-size"}
    experiment, key = await federation.create(own_data.model(), **settings, **own_data.OWN)
    members = {}
    for number, examples in enumerate((1, 1_000_000, 1)):
        got = await federation.admin.using(key).subscribe(
            experiment, key_of(number), examples=examples, facts=own_data.FACTS
        )
        api = federation.admin.using(got.token)
        members[got.client_id] = Member(api, experiment, got.client_id)
    cohorts = []
    for number in range(1, 9):
        cohorts.append(await federation.cohort(experiment))
        await members[cohorts[-1][0]].upload(number, 1.0, 1)
    assert cohorts == [["client-01"]] * 8

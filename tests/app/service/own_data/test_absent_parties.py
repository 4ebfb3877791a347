"""Parties with data of their own that die or are slow: what they cost, and where they are named."""

from __future__ import annotations

import pytest

from client_sdk.errors import StateConflict
from serverless_fl.wire.config import ExperimentConfig
from tests.support.federation import ADMIN_KEY, BOTH_STORES, Member, config, key_of, value_of
from tests.support.own_data import FACTS, OWN, model
from tests.support.plain_http import bearer

# As `create` and the API make it of parties' own data, and with few rounds.
ELSEWHERE = {
    **OWN,
    "clients": 3,
    "clients_per_round": 3,
    "selection": {"name": "responsive", "rest_rounds": 4},
    "schedule": {"name": "synchronous", "grace_seconds": 30},
}


async def own(federation, **settings):
    """Three parties, in an experiment with the defaults for data of their own."""
    experiment, key = await federation.create(model(), **ELSEWHERE | settings)
    members = []
    for number in range(3):
        made = await federation.admin.using(key).subscribe(
            experiment, key_of(number), f"c{number}", examples=10, facts=FACTS
        )
        members.append(Member(federation.admin.using(made.token), experiment, made.client_id))
    return experiment, {member.id: member for member in members}


async def made(federation, **settings):
    """The settings of an experiment that the API makes of these, and of nothing else."""
    body = {"dataset": "toy", "model": "toy", "clients": 3, "clients_per_round": 3, **settings}
    answer = await federation.http.post(
        "/v1/experiments", json={"config": body}, headers=bearer(ADMIN_KEY)
    )
    assert answer.status_code == 201, answer.text
    return (await federation.admin.experiment(answer.json()["id"])).config.model_dump(mode="json")


async def test_the_api_shows_the_defaults_of_parties_data_as_effective_values(federation):
    found = await made(federation, data="own", deadline_seconds=60)
    assert found["selection"] == {"name": "responsive", "rest_rounds": 4}
    assert found["schedule"] == {"name": "synchronous", "grace_seconds": 30}


@pytest.mark.parametrize(
    ("said", "selection", "schedule"),
    [
        (
            {"data": "own", "selection": "uniform", "schedule": "synchronous"},
            "uniform",
            "synchronous",
        ),
        ({"data": "own", "schedule": "buffered"}, "uniform", "buffered"),
        (  # whose selection may read no single update
            {"data": "own", "secure_aggregation": "pairs"},
            "uniform",
            {"name": "synchronous", "grace_seconds": 300},
        ),
        ({"dataset_size": 60}, "uniform", "synchronous"),
    ],
)
async def test_what_was_said_stands_and_so_does_a_common_set(federation, said, selection, schedule):
    found = await made(federation, **said)
    assert (found["selection"], found["schedule"]) == (selection, schedule)


def test_an_sdk_that_sends_all_settings_gets_what_it_sends():
    sent = config(**OWN, clients=3, clients_per_round=3)
    got = ExperimentConfig(**sent.model_dump(mode="json"))
    assert got.completed() == got == sent


@BOTH_STORES
async def test_a_dead_party_of_three_costs_some_rounds_their_grace_and_is_named(federation):
    experiment, members = await own(federation, rounds=8)
    started, cohorts = federation.clock.now, []
    for number in range(1, 9):
        cohorts.append(await federation.cohort(experiment))
        for name in cohorts[-1]:
            if name != "client-01":
                await members[name].upload(number, 1.0)
        if "client-01" in cohorts[-1]:
            federation.clock.now += 31
    shown = await federation.admin.experiment(experiment)
    assert shown.state == "completed"
    asked = [number for number, cohort in enumerate(cohorts, 1) if "client-01" in cohort]
    assert asked == [1, 3, 6]
    assert federation.clock.now - started == 3 * 31  # and not 8 deadlines of 60 s
    (left,) = shown.left_out
    assert (left.client, left.rounds, left.asked, left.late) == ("client-01", 3, 3, 0)
    assert left.reason == (
        "Its update was missing in 3 of its 3 rounds, of which 3 closed at the end of the grace "
        "after the quorum."
    )
    assert shown.progress.endswith(" Left out: client-01, of 3 of its 3 rounds.")


async def test_a_party_that_comes_late_is_told_from_a_silent_one_and_is_asked_again(federation):
    experiment, members = await own(federation, rounds=5)
    late, cohorts = "client-02", []
    for number in range(1, 5):
        cohorts.append(await federation.cohort(experiment))
        for name in ("client-00", "client-01"):
            await members[name].upload(number, 1.0)
        if late in cohorts[-1]:
            federation.clock.now += 45
            await federation.admin.experiment(experiment)
            with pytest.raises(StateConflict, match="is closed"):
                await members[late].upload(number, 1.0)
    # The next round opens before the late update comes; the one after that knows of it.
    assert [late in cohort for cohort in cohorts] == [True, False, True, False]
    shown = await federation.admin.experiment(experiment)
    (left,) = shown.left_out
    assert (left.client, left.rounds, left.asked, left.late) == (late, 2, 2, 2)
    assert left.reason == (
        "Its update was late in 2 of its 2 rounds, of which 2 closed at the end of the grace after "
        "the quorum; a longer grace_seconds (30) or deadline_seconds (60) waits for it."
    )
    round_ = await federation.admin.round(experiment, 1)
    assert round_.missing == []
    assert [(r.client, r.code) for r in round_.refused] == [(late, "late")]
    assert round_.refused[0].reason == (
        "The update came 45 s after the round was opened, which was closed after 45 s."
    )
    assert await federation.cohort(experiment) == ["client-00", "client-01", late]
    await members[late].upload(5, 5.0)  # it takes part again
    for name in ("client-00", "client-01"):
        await members[name].upload(5, 2.0)
    assert value_of(await federation.admin.download_model(experiment, 5)) == 3.0


async def test_no_late_update_is_recorded_of_a_common_set(federation):
    experiment, members = await federation.start(
        quorum=1, schedule={"name": "synchronous", "grace_seconds": 10}
    )
    first, other = await federation.cohort(experiment)
    await members[first].upload(1, 1.0)
    federation.clock.now += 11
    await federation.admin.experiment(experiment)
    with pytest.raises(StateConflict):
        await members[other].upload(1, 1.0)
    assert (await federation.admin.round(experiment, 1)).refused == []
    assert (await federation.admin.experiment(experiment)).left_out == []

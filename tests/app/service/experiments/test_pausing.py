"""Budgets and pauses: nothing is lost, everything happens once, and whoever waits is told."""

import asyncio
from contextlib import suppress

import pytest

from client_sdk.errors import RequestRefused, StateConflict
from serverless_fl.domain.errors import BudgetReached
from tests.support.dying import Died, DyingStore, Fuse
from tests.support.federation import ADMIN_KEY, BOTH_STORES, config, value_of
from tests.support.plain_http import bearer

SPENT = 1e-9  # US dollars: any call costs more


async def finish_round(federation, experiment, members, number):
    for client in await federation.cohort(experiment):
        await members[client].upload(number, float(number))


async def refusal(call):
    with pytest.raises(RequestRefused) as caught:
        await call
    return caught.value.status, caught.value.code


async def test_a_spent_budget_pauses_and_a_higher_one_goes_on(federation):
    experiment, members = await federation.start(rounds=3, budget_usd=SPENT)
    await finish_round(federation, experiment, members, 1)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.round, shown.model_version) == ("paused", 1, 1)
    assert "has reached the budget of 1e-09 USD" in shown.reason
    assert "Resume it with a higher budget_usd, or stop it." in shown.progress
    assert shown.cost.usd > shown.cost.budget_usd == SPENT
    for member in members.values():
        status = await member.status()
        assert (status.action, status.round) == ("wait", 1)
        assert status.message == f"Paused: {shown.reason}"
        assert status.retry_after == 15.0
    assert await refusal(members["client-00"].upload(2, 1.0)) == (409, "out-of-turn")
    await federation.app.state.coordinator.tick()
    assert (await federation.admin.experiment(experiment)).state == "paused"
    assert value_of(await federation.admin.download_model(experiment)) == 1.0

    resume = federation.admin.resume_experiment
    assert await refusal(resume(experiment)) == (409, "budget-reached")
    assert await refusal(resume(experiment, SPENT / 2)) == (409, "budget-reached")
    federation.clock.now += 100
    resumed = await resume(experiment, 1.0)
    assert (resumed.state, resumed.round, resumed.reason) == ("running", 2, "")
    assert (resumed.config.budget_usd, resumed.cost.budget_usd) == (1.0, 1.0)
    for number in (2, 3):
        await finish_round(federation, experiment, members, number)
    ended = await federation.admin.experiment(experiment)
    assert (ended.state, ended.model_version) == ("completed", 3)
    told = [
        (event.what, event.who, event.round)
        for event in await federation.admin.audit(experiment, limit=1000)
        if event.what.startswith(("experiment-", "budget", "round"))
    ]
    assert told[1:] == [
        ("round-opened", "coordinator", 1),
        ("round-closed", "coordinator", 1),
        ("experiment-paused", "coordinator", 1),
        ("budget-changed", "admin", None),
        ("experiment-resumed", "admin", 1),
        *[(f"round-{what}", "coordinator", n) for n in (2, 3) for what in ("opened", "closed")],
        ("experiment-ended", "coordinator", None),
    ]


async def test_the_last_round_completes_whatever_it_cost(federation):
    experiment, members = await federation.start(rounds=1, budget_usd=SPENT)
    await finish_round(federation, experiment, members, 1)
    assert (await federation.admin.experiment(experiment)).state == "completed"


async def test_the_longer_the_pause_the_seldomer_one_asks_but_never_too_late(federation):
    changes = {"rounds": 3, "budget_usd": SPENT}
    experiment, members = await federation.start(**changes, deadline_seconds=3600)
    other, others = await federation.start(**changes, deadline_seconds=60)
    await finish_round(federation, experiment, members, 1)
    await finish_round(federation, other, others, 1)
    advised = []
    for days in (0, 0.02, 1, 30):
        federation.clock.now += days * 86400
        advised.append((await members["client-00"].status()).retry_after)
        assert (await others["client-00"].status()).retry_after <= 15  # a quarter of the deadline
    assert advised == sorted(advised)
    assert advised[-1] == 300


async def test_the_admin_pauses_after_the_open_round(federation):
    experiment, members = await federation.start(rounds=3)
    first, second = await federation.cohort(experiment)
    await members[first].upload(1, 1.0)
    for _ in range(2):
        shown = await federation.admin.pause_experiment(experiment)
        assert (shown.state, shown.pausing) == ("running", True)
    assert shown.progress.endswith("It pauses after this round.")
    assert (await members[second].status()).action == "train"  # its work is not thrown away
    await members[second].upload(1, 1.0)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.pausing, shown.model_version) == ("paused", False, 1)
    assert shown.progress == "Paused after round 1 of 3: Paused by the admin."
    assert (await federation.admin.pause_experiment(experiment)).state == "paused"
    for _ in range(2):  # a repeated call opens no second round
        assert (await federation.admin.resume_experiment(experiment)).round == 2
    events = await federation.admin.audit(experiment, limit=1000)
    pauses = [(e.what, e.who) for e in events if e.what.startswith("experiment-")][1:]
    assert pauses == [("experiment-paused", "admin"), ("experiment-resumed", "admin")]


async def test_a_pause_that_has_not_begun_is_taken_back(federation):
    experiment, members = await federation.start(rounds=3)
    await federation.admin.pause_experiment(experiment)
    assert (await federation.admin.resume_experiment(experiment)).pausing is False
    await finish_round(federation, experiment, members, 1)
    assert (await federation.admin.experiment(experiment)).round == 2


async def test_a_running_experiment_gets_another_budget(federation):
    experiment, members = await federation.start(rounds=3, budget_usd=SPENT)
    assert (await federation.admin.resume_experiment(experiment, 1.0)).config.budget_usd == 1.0
    await finish_round(federation, experiment, members, 1)
    assert (await federation.admin.experiment(experiment)).round == 2
    assert await refusal(federation.admin.resume_experiment(experiment, SPENT)) == (
        *(409, "budget-reached"),
    )


async def test_what_cannot_be_paused_or_resumed_says_so(federation):
    experiment, key = await federation.create(rounds=3, min_clients=2)
    assert await refusal(federation.admin.pause_experiment(experiment)) == (409, "conflict")
    for budget in (0, -1, float("nan")):
        body = f'{{"budget_usd": {budget}}}'.replace("nan", "NaN")
        path = f"/v1/experiments/{experiment}/resume"
        headers = bearer(ADMIN_KEY)
        headers["Content-Type"] = "application/json"
        answer = await federation.http.post(path, content=body, headers=headers)
        assert answer.status_code == 422
    for call in (federation.admin.using(key).pause_experiment(experiment),):
        assert await refusal(call) == (401, "unauthenticated")
    await federation.admin.stop_experiment(experiment)
    assert await refusal(federation.admin.pause_experiment(experiment)) == (409, "conflict")
    assert await refusal(federation.admin.resume_experiment(experiment)) == (409, "conflict")


async def test_a_paused_experiment_is_stopped_and_joined(federation):
    experiment, key = await federation.create(rounds=3, min_clients=2, budget_usd=SPENT)
    members = [await federation.enrol(experiment, key, n) for n in range(2)]
    members = {member.id: member for member in members}
    await finish_round(federation, experiment, members, 1)
    late = await federation.enrol(experiment, key, 2)
    assert (await late.status()).message.startswith("Paused: ")
    stopped = await federation.admin.stop_experiment(experiment)
    assert (stopped.state, stopped.model_version) == ("stopped", 1)
    assert (await late.status()).action == "done"


async def nearly_paused(federation):
    """A round that is closed, by a process that died before it could say so; its coordinators."""
    experiment, members = await federation.start(rounds=3, budget_usd=SPENT)

    class Dying:
        def __getattr__(self, name):
            return getattr(federation.documents, name)

        async def replace(self, kind, *args):
            if kind == "experiments":
                raise Died
            return await federation.documents.replace(kind, *args)

    last = (await federation.cohort(experiment))[-1]
    first = (await federation.cohort(experiment))[0]
    await members[first].upload(1, 1.0)
    federation.app.state.coordinator = federation.coordinator(Dying())
    with suppress(Died):
        await members[last].upload(1, 1.0)
    return experiment, [federation.coordinator() for _ in range(5)]


@BOTH_STORES
async def test_of_many_that_pause_and_resume_at_once_one_does(federation):
    experiment, coordinators = await nearly_paused(federation)
    assert (await federation.documents.get("experiments", experiment)).body["state"] == "running"
    await asyncio.gather(*(c.rounds.advance(experiment) for c in coordinators))
    found = await coordinators[0].context.repo.experiment(experiment)
    assert (found.state, len(found.pauses)) == ("paused", 1)
    assert found.usage.requests > 0
    revision = found.revision
    await asyncio.gather(*(c.rounds.advance(experiment) for c in coordinators))
    assert (await coordinators[0].context.repo.experiment(experiment)).revision == revision

    await asyncio.gather(*(c.pausing.resume(experiment, 1.0, "admin") for c in coordinators))
    found = await coordinators[0].context.repo.experiment(experiment)
    assert (found.state, found.round) == ("running", 2)
    assert (len(found.pauses), len(found.budgets)) == (1, 1)
    assert [r.number for r in await coordinators[0].context.repo.rounds(experiment)] == [1, 2]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, 4))
async def test_whatever_dies_a_pause_is_one_pause_and_its_end_one_end(federation, write, after):
    experiment, coordinators = await nearly_paused(federation)
    dying = federation.coordinator(DyingStore(federation.documents, Fuse(write, after)))
    with suppress(Died):
        await dying.rounds.advance(experiment)
    await coordinators[0].rounds.advance(experiment)
    dying = federation.coordinator(DyingStore(federation.documents, Fuse(write, after)))
    with suppress(Died):
        await dying.pausing.resume(experiment, 1.0, "admin")
    await coordinators[0].pausing.resume(experiment, 1.0, "admin")
    found = await coordinators[0].context.repo.experiment(experiment)
    assert (found.state, found.round) == ("running", 2)
    assert (len(found.pauses), len(found.budgets)) == (1, 1)
    assert found.pauses[0].resumed_by == "admin"


async def test_a_stop_and_a_resume_at_once_leave_one_of_the_two(federation):
    experiment, coordinators = await nearly_paused(federation)
    await coordinators[0].rounds.advance(experiment)
    stop = coordinators[1].experiments.stop(experiment, "Enough.")
    resume = coordinators[2].pausing.resume(experiment, 1.0, "admin")
    await asyncio.gather(stop, resume, return_exceptions=True)
    assert (await coordinators[0].context.repo.experiment(experiment)).state == "stopped"


async def test_the_budget_is_no_part_of_what_an_experiment_is(federation):
    """So that a run that was interrupted can go on with a higher one."""
    request = federation.admin.create_experiment
    made = await request("x", config(budget_usd=1.0), "once-and-again")
    again = await request("x", config(budget_usd=2.0), "once-and-again")
    assert again.id == made.id
    assert (await federation.admin.experiment(made.id)).config.budget_usd == 1.0
    with pytest.raises(StateConflict):
        await request("x", config(budget_usd=1.0, rounds=7), "once-and-again")


async def test_a_spent_budget_is_an_error_of_its_own(federation):
    experiment, coordinators = await nearly_paused(federation)
    await coordinators[0].rounds.advance(experiment)
    with pytest.raises(BudgetReached):
        await coordinators[0].pausing.resume(experiment, None, "admin")

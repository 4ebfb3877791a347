"""An experiment whose rounds are all closed gets more, and its models' records stay right."""

from contextlib import suppress

import pytest

from client_sdk.errors import CoordinatorUnreachable, RequestRefused, StateConflict
from client_sdk.tools.verify import verify
from serverless_fl.domain.errors import Conflict
from tests.support.dying import Failing
from tests.support.federation import config


async def play(federation, experiment, members, *numbers):
    for number in numbers:
        for client in await federation.cohort(experiment):
            await members[client].upload(number, float(number), accuracy_before=0.5)


async def models(federation, experiment):
    return [m.sha256 for m in await federation.admin.models(experiment)]


async def faults(federation, experiment):
    found = await verify(federation.admin, experiment)
    assert found
    return [finding for finding in found if finding.good is False]


async def test_it_goes_on_as_if_it_had_had_them_all_along(federation):
    straight, members = await federation.start(rounds=4)
    await play(federation, straight, members, 1, 2, 3, 4)
    experiment, members = await federation.start(rounds=2, keep_updates=9)
    await play(federation, experiment, members, 1, 2)
    done = await federation.admin.experiment(experiment)
    assert (done.state, done.round) == ("completed", 2)
    federation.clock.now += 10**6
    running = await federation.admin.resume_experiment(experiment, rounds=4)
    assert (running.state, running.round, running.reason) == ("running", 3, "")
    assert (running.config.rounds, running.ended_at) == (4, None)
    assert running.cost.usd < 2 * done.cost.usd  # the days after its end cost nothing
    told = [(e.before, e.rounds, e.after_round) for e in running.extensions]
    assert told == [(2, 4, 2)]
    assert (await federation.admin.resume_experiment(experiment, rounds=4)).extensions == (
        running.extensions
    )
    await play(federation, experiment, members, 3, 4)
    ended = await federation.admin.experiment(experiment)
    assert (ended.state, ended.model_version, ended.reason) == (
        *("completed", 4),
        "All 4 rounds are closed.",
    )
    assert await models(federation, experiment) == await models(federation, straight)
    assert await faults(federation, experiment) == []


async def test_the_audit_log_has_the_first_end_and_the_raise(federation):
    experiment, members = await federation.start(rounds=1)
    await play(federation, experiment, members, 1)
    federation.clock.now += 5
    await federation.admin.resume_experiment(experiment, rounds=2)
    federation.clock.now += 5
    await play(federation, experiment, members, 2)
    told = [
        (event.what, event.who, event.detail)
        for event in await federation.admin.audit(experiment, limit=1000)
        if event.what.startswith("experiment-")
    ]
    assert told[1:] == [
        ("experiment-ended", "coordinator", "Completed: All 1 rounds are closed."),
        ("experiment-extended", "admin", "From 1 to 2 rounds"),
        ("experiment-ended", "coordinator", "Completed: All 2 rounds are closed."),
    ]


async def test_models_of_a_round_that_was_open_have_the_settings_of_its_opening(federation):
    """One process closes the round with the record from before the raise, another after it."""
    experiment, members = await federation.start(rounds=2)
    await federation.admin.resume_experiment(experiment, rounds=3)
    await play(federation, experiment, members, 1)
    await federation.admin.resume_experiment(experiment, rounds=5)
    await federation.admin.resume_experiment(experiment, rounds=6)
    await play(federation, experiment, members, 2, 3)
    shown = await federation.admin.experiment(experiment)
    assert [(e.before, e.after_round) for e in shown.extensions] == [(2, 1), (3, 2), (5, 2)]
    repo = federation.coordinator().context.repo
    stored = await repo.experiment(experiment)
    assert [stored.config_of(n).rounds for n in range(5)] == [2, 2, 3, 6, 6]
    assert await faults(federation, experiment) == []


async def test_a_wrong_record_of_a_raise_is_found(federation):
    experiment, members = await federation.start(rounds=1)
    await play(federation, experiment, members, 1)
    await federation.admin.resume_experiment(experiment, rounds=2)
    repo = federation.coordinator().context.repo
    stored = await repo.documents.get("experiments", experiment)
    stored.body["extensions"][0]["before"] = 7
    await repo.documents.replace("experiments", experiment, stored.revision, stored.body)
    found = await faults(federation, experiment)
    assert {finding.version for finding in found} == {0, 1}


async def refused(federation, experiment, rounds):
    with pytest.raises(StateConflict) as caught:
        await federation.admin.resume_experiment(experiment, rounds=rounds)
    return caught.value.code


async def test_who_gets_no_more_rounds_is_told_why(federation):
    resume = federation.admin.resume_experiment
    experiment, members = await federation.start(rounds=2)
    assert await refused(federation, experiment, 1) == "rounds-not-raised"
    await federation.admin.stop_experiment(experiment)
    assert await refused(federation, experiment, 9) == "not-extendable"
    experiment, members = await federation.start(rounds=1)
    await play(federation, experiment, members, 1)
    assert await refused(federation, experiment, 1) == "rounds-not-raised"
    with pytest.raises(StateConflict, match="it cannot go on"):
        await resume(experiment)
    target = {"target_metric": "loss", "target_value": 0.5}
    experiment, members = await federation.start(rounds=3, **target)
    for client in await federation.cohort(experiment):
        await members[client].upload(1, 1.0, loss=0.1)
    with pytest.raises(StateConflict, match=r"after round 1 of 3.* Begin a new one"):
        await resume(experiment, rounds=9)


async def test_a_raise_of_a_spent_budget_needs_a_higher_one(federation):
    experiment, members = await federation.start(rounds=1, budget_usd=1e-9)
    await play(federation, experiment, members, 1)
    assert await refused(federation, experiment, 2) == "budget-reached"
    assert (await federation.admin.experiment(experiment)).state == "completed"
    shown = await federation.admin.resume_experiment(experiment, 1.0, 2)
    assert (shown.state, shown.config.budget_usd, shown.config.rounds) == ("running", 1.0, 2)


async def test_the_key_of_its_creation_finds_it_with_any_number_of_rounds_that_it_had(federation):
    create = federation.admin.create_experiment
    made = await create("", config(rounds=2), "k" * 20)
    await federation.admin.resume_experiment(made.id, rounds=5)
    for rounds in (2, 5):
        assert (await create("", config(rounds=rounds), "k" * 20)).id == made.id
    assert (await federation.admin.experiment(made.id)).config.rounds == 5
    for others in ({"rounds": 3}, {"rounds": 5, "seed": 5}):
        with pytest.raises(StateConflict, match="other settings"):
            await create("", config(**others), "k" * 20)


async def test_a_raise_that_meets_the_last_close_is_not_lost(federation):
    """The last round is closed, and its conclusion is not written yet."""
    experiment, members = await federation.start(rounds=1)
    repo = federation.coordinator().context.repo
    dying = Failing(
        repo.documents, lambda name, *args: (name, *args)[:2] == ("replace", "experiments")
    )
    federation.app.state.coordinator = federation.coordinator(dying)
    for client in await federation.cohort(experiment):
        with suppress(RequestRefused, CoordinatorUnreachable):  # the process cannot write it
            await members[client].upload(1, 1.0)
    await federation.coordinator().pausing.resume(experiment, None, "admin", 2)
    stored = await repo.experiment(experiment)
    assert (stored.state, stored.round, stored.extensions[0].after_round) == ("running", 2, 1)


async def test_the_number_of_raises_is_bounded(federation):
    experiment, _ = await federation.start(rounds=1)
    coordinator = federation.coordinator()
    for rounds in range(2, 102):
        await coordinator.pausing.resume(experiment, None, "admin", rounds)
    with pytest.raises(Conflict, match="were raised 100 times"):
        await coordinator.pausing.resume(experiment, None, "admin", 102)

"""Whoever trains in vain is named where the coordinator says what is going on."""

import numpy as np
import pytest

from client_sdk.errors import RequestRefused
from tests.support.federation import weights

BAD = weights(np.nan)
SETTINGS = {"clients": 4, "clients_per_round": 4, "quorum": 1, "rounds": 3}


async def play(federation, experiment, members, number, bad):
    """Round `number`, in which the clients in `bad` bring what is no model."""
    for name in await federation.cohort(experiment):
        if name in bad:
            with pytest.raises(RequestRefused, match="NaN"):
                await members[name].upload_bytes(number, BAD)
        else:
            await members[name].upload(number, 1.0)
    return await federation.admin.experiment(experiment)


async def test_a_client_that_is_refused_in_every_round_is_named(federation):
    experiment, members = await federation.start(**SETTINGS)
    shown = await federation.admin.experiment(experiment)
    assert shown.always_refused == []
    with pytest.raises(RequestRefused):
        await members["client-01"].upload_bytes(1, BAD)
    shown = await federation.admin.experiment(experiment)
    assert "1 refused" in shown.progress
    assert shown.always_refused == []  # it may still bring a better one
    for number in (1, 2, 3):
        shown = await play(federation, experiment, members, number, {"client-01"})
        assert [(r.client, r.code) for r in shown.always_refused] == [("client-01", "non-finite")]
        assert "client-01 was refused in every round: " in shown.progress
    assert shown.state == "completed"
    assert shown.progress.startswith("Completed: All 3 rounds are closed. client-01 was refused")
    assert shown.progress.endswith(shown.always_refused[0].reason)


async def test_one_good_update_is_enough_not_to_be_named(federation):
    experiment, members = await federation.start(**SETTINGS)
    shown = await play(federation, experiment, members, 1, {"client-00", "client-02"})
    assert [r.client for r in shown.always_refused] == ["client-00", "client-02"]
    assert "client-00, client-02 were refused in every round: " in shown.progress
    await members["client-00"].upload(2, 1.0)  # the round is still open
    shown = await federation.admin.experiment(experiment)
    assert [r.client for r in shown.always_refused] == ["client-02"]
    for number, bad in ((2, "client-02"), (3, "client-00")):
        for name in await federation.cohort(experiment):
            if name == bad:
                with pytest.raises(RequestRefused):
                    await members[name].upload_bytes(number, BAD)
            elif (number, name) != (2, "client-00"):
                await members[name].upload(number, 1.0)
    shown = await federation.admin.experiment(experiment)
    assert shown.state == "completed"
    assert shown.always_refused == []
    assert "refused" not in shown.progress


async def test_who_stayed_away_once_was_not_refused_in_every_round(federation):
    experiment, members = await federation.start(**SETTINGS)
    await play(federation, experiment, members, 1, {"client-03"})
    for name in ("client-00", "client-01", "client-02"):
        await members[name].upload(2, 1.0)
    federation.clock.now += 61
    shown = await federation.admin.experiment(experiment)
    assert shown.history[1].state == "closed"
    assert shown.always_refused == []


async def test_an_experiment_that_failed_for_refusals_names_them(federation):
    experiment, members = await federation.start(**{**SETTINGS, "max_attempts": 1})
    shown = await play(federation, experiment, members, 1, set(members))
    assert shown.state == "failed"
    assert [r.client for r in shown.always_refused] == sorted(members)


async def test_who_was_refused_in_the_one_attempt_that_it_was_in_is_named(federation):
    """One of two brings a bad update; in the next attempt another takes its place."""
    settings = {"clients": 4, "clients_per_round": 2, "rounds": 1, "quorum": 2}
    experiment, members = await federation.start(**settings)
    first = await federation.cohort(experiment)
    await members[first[0]].upload(1, 1.0)
    with pytest.raises(RequestRefused):
        await members[first[1]].upload_bytes(1, BAD)
    second = await federation.cohort(experiment)
    assert first[1] not in second
    for name in second:
        if name != first[0]:
            await members[name].upload(1, 1.0)
    shown = await federation.admin.experiment(experiment)
    assert shown.state == "completed"
    assert [r.client for r in shown.always_refused] == [first[1]]

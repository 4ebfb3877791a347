"""An experiment gets another name, and stays for so many days after its end."""

import pytest

from client_sdk.errors import NotThere, RequestRefused
from client_sdk.tools.verify import verify
from serverless_fl.domain.errors import NotFound
from serverless_fl.domain.provenance import config_digest
from tests.support.federation import config

DAY = 86400


async def test_it_is_renamed_at_any_time(federation):
    experiment, _ = await federation.start()
    change = federation.admin.change_experiment
    assert (await change(experiment, name="Alder clinic")).name == "Alder clinic"
    await federation.admin.stop_experiment(experiment)
    assert (await change(experiment, keep_days=3)).name == "Alder clinic"  # left out: it stays
    assert (await change(experiment, name="")).name == "toy toy"
    shown = await change(experiment)
    assert (shown.name, shown.config.keep_days) == ("toy toy", 3)
    with pytest.raises(NotThere):
        await change("nowhere", name="a")
    with pytest.raises(RequestRefused, match="keep_days"):
        await federation.admin.connection.request(
            "PATCH",
            f"/experiments/{experiment}",
            content=b'{"keep_days": 0}',
            headers={"Content-Type": "application/json"},
        )


async def test_it_is_deleted_when_its_days_after_the_end_are_over(federation):
    experiment, _ = await federation.start(keep_days=2)
    kept, _ = await federation.start(keep_days=None)
    running, _ = await federation.start(keep_days=2, seed=1)
    federation.clock.now += 10 * DAY
    tick = federation.coordinator().tick
    await tick()
    shown = await federation.admin.experiment(experiment)
    assert shown.expires_at is None  # its end is what counts
    for each in (experiment, kept):
        await federation.admin.stop_experiment(each)
    shown = await federation.admin.experiment(experiment)
    assert (shown.expires_at - shown.ended_at).total_seconds() == 2 * DAY
    federation.clock.now += 2 * DAY - 1
    await tick()
    lines = {line.id: line.expires_at for line in await federation.admin.experiments()}
    assert lines == {experiment: shown.expires_at, kept: None, running: None}
    federation.clock.now += 1
    await tick()
    with pytest.raises(NotThere):
        await federation.admin.experiment(experiment)
    assert {line.id for line in await federation.admin.experiments()} == {kept, running}
    blobs = federation.coordinator().context.blobs
    await tick()
    assert not [key for key in await blobs.sizes("") if experiment in key]


async def test_who_keeps_it_longer_in_time_keeps_it(federation):
    experiment, _ = await federation.start(keep_days=1)
    await federation.admin.stop_experiment(experiment)
    federation.clock.now += DAY
    service = federation.coordinator()
    await federation.admin.change_experiment(experiment, keep_days=None)
    await service.deletion.expire(experiment)  # a tick that has read the record before
    assert (await federation.admin.experiment(experiment)).expires_at is None
    await federation.admin.change_experiment(experiment, keep_days=1)
    await service.deletion.expire(experiment)
    with pytest.raises(NotFound):
        await service.experiments.find(experiment)


async def test_no_model_depends_on_it(federation):
    experiment, members = await federation.start(rounds=1, keep_updates=1)
    await federation.admin.change_experiment(experiment, keep_days=7)
    for client in await federation.cohort(experiment):
        await members[client].upload(1, 1.0)
    found = await verify(federation.admin, experiment)
    assert [finding for finding in found if finding.good is False] == []
    digests = {config_digest(config(keep_days=days).to_config()) for days in (None, 7)}
    assert len(digests) == 1

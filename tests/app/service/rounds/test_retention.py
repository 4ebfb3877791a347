"""Old model versions go when newer ones are announced; the first, the newest and the best stay."""

import secrets

import pytest

from app.service.coordinator import Limits
from client_sdk.errors import NotThere
from client_sdk.tools.verify import verify
from serverless_fl.domain.experiment import Best
from tests.support.crashes import every_write
from tests.support.dying import Died, DyingStore, Fuse
from tests.support.federation import BOTH_STORES, Federation, config, value_of
from tests.support.leases import StoppedAtClose
from tests.support.sample import deaths

# By round: what the cohort measures of the model before it trains on. Model 2 is the best one.
ACCURACIES = {1: 0.1, 2: 0.5, 3: 0.9, 4: 0.6, 5: 0.7, 6: 0.8}


async def play(federation, experiment, members, number):
    for name in await federation.cohort(experiment):
        await members[name].upload(number, float(number), accuracy_before=ACCURACIES[number])


async def run(federation, rounds=6, **changes):
    experiment, members = await federation.start(rounds=rounds, **changes)
    for number in range(1, rounds + 1):
        await play(federation, experiment, members, number)
    return experiment


async def stored(federation, experiment):
    """The versions that there are bytes of, and those that there are copies of."""
    blobs = federation.blobs
    found = [await blobs.sizes(f"{kind}/{experiment}/") for kind in ("models", "copies")]
    return tuple(sorted({int(key.split("/")[2]) for key in keys}) for keys in found)


@pytest.mark.parametrize(
    ("keep", "left"),
    [(None, [0, 1, 2, 3, 4, 5, 6]), (1, [0, 2, 6]), (2, [0, 2, 5, 6]), (5, [0, 2, 3, 4, 5, 6])],
)
async def test_so_many_of_the_newest_stay_and_the_first_and_the_best(federation, keep, left):
    experiment = await run(federation, keep_models=keep, download_encoding="int8")
    assert await stored(federation, experiment) == (left, left)
    models = await federation.admin.models(experiment)
    assert [m.version for m in models] == list(range(7))  # of all there are records
    assert [m.version for m in models if m.kept] == left
    assert all(m.sha256 and m.config_sha256 for m in models)
    for model in models:
        if model.kept:
            data = await federation.admin.download_model(experiment, model.version)
            assert value_of(data) == float(model.version)
            continue
        for encoded in (False, True):
            with pytest.raises(NotThere, match="not kept any more") as caught:
                await federation.admin.download_model(experiment, model.version, encoded=encoded)
            assert caught.value.code == "model-not-kept"
    assert value_of(await federation.admin.download_model(experiment)) == 6.0


async def test_what_the_admin_measured_keeps_a_model_too(federation):
    experiment, members = await federation.start(rounds=6, keep_models=1)
    measured = {1: 0.95, 2: 0.2, 3: 0.3}
    for number in range(1, 7):
        await play(federation, experiment, members, number)
        if number in measured:
            metrics = {"accuracy": measured[number]}
            await federation.admin.report_evaluation(experiment, number, 100, metrics)
    assert (await stored(federation, experiment))[0] == [0, 1, 2, 6]
    shown = await federation.coordinator().context.repo.experiment(experiment)
    assert shown.best_central == Best(version=1, value=0.95)
    assert shown.best_held_out == Best(version=2, value=0.9)


async def test_of_equals_the_first_stays_and_what_was_never_measured_goes(federation):
    experiment, members = await federation.start(rounds=5, keep_models=1)
    found = {3: 0.5, 4: 0.5}  # of models 2 and 3
    for number in range(1, 6):
        metrics = {"accuracy_before": found[number]} if number in found else {"loss": 1.0}
        for name in await federation.cohort(experiment):
            await members[name].upload(number, 1.0, **metrics)
    assert (await stored(federation, experiment))[0] == [0, 2, 5]


async def test_a_model_that_went_may_still_be_told_of(federation):
    """It was downloaded while it was there."""
    experiment = await run(federation, keep_models=1)
    await federation.admin.report_evaluation(experiment, 4, 10, {"accuracy": 0.6})
    found = {m.version: m for m in await federation.admin.models(experiment)}
    assert found[4].evaluations[0].metrics == {"accuracy": 0.6}
    assert not found[4].kept
    with pytest.raises(NotThere, match="no model version 7"):
        await federation.admin.report_evaluation(experiment, 7, 10, {"accuracy": 0.6})


async def test_a_stop_between_a_close_and_its_announcement_keeps_to_it(store):
    federation = Federation(store.documents, store.blobs)

    async with federation.serving(federation.coordinator(StoppedAtClose(federation, 3))):
        experiment, members = await federation.start(rounds=9, keep_models=1)
        for number in (1, 2, 3):
            await play(federation, experiment, members, number)
        shown = await federation.admin.experiment(experiment)
        assert (shown.state, shown.model_version) == ("stopped", 3)
        assert (await stored(federation, experiment))[0] == [0, 2, 3]


@BOTH_STORES
async def test_models_too_large_for_a_call_are_left_to_ticks(store):
    federation = Federation(store.documents, store.blobs, limits=Limits(drop_bytes=10))
    async with federation.serving():
        experiment = await run(federation, keep_models=2)
        assert (await stored(federation, experiment))[0] == [0, 1, 2, 3, 4, 5, 6]
        for model in await federation.admin.models(experiment):  # the announcement is what counts
            assert model.kept == (model.version in (0, 2, 5, 6))
        await federation.coordinator().tick()
        assert (await stored(federation, experiment))[0] == [0, 2, 5, 6]


@deaths()
async def test_dying_at_any_write_leaves_what_must_be_left(store, fresh_store, after):
    """Nothing of what stays is ever gone, and what goes is gone in the end."""
    every = every_write(store)
    n, deaths = 1 - every, 1
    while deaths:
        n += every
        other = await fresh_store()
        federation = Federation(other.documents, other.blobs)
        async with federation.serving():
            experiment, members = await federation.start(
                rounds=4, keep_models=1, seed=secrets.randbits(40)
            )
            for number in (1, 2, 3):
                await play(federation, experiment, members, number)
            first, second = await federation.cohort(experiment)
            await members[first].upload(4, 4.0, accuracy_before=ACCURACIES[4])
        fuse = Fuse(n, after)
        dying = federation.coordinator(
            DyingStore(other.documents, fuse), DyingStore(other.blobs, fuse)
        )
        deaths = 0
        async with federation.serving(dying):
            try:
                await members_upload(federation, members[second], 4)
            except Died:
                deaths += 1
        async with federation.serving():
            federation.clock.now += federation.limits.lease_seconds
            await federation.coordinator().tick()
            if not (await federation.admin.experiment(experiment)).current_round.reported[1:]:
                await members_upload(federation, members[second], 4)
            shown = await federation.admin.experiment(experiment)
            assert (shown.state, shown.model_version) == ("completed", 4), f"write {n}"
            await federation.coordinator().tick()
            assert (await stored(federation, experiment))[0] == [0, 2, 4], f"write {n}"
            left = await federation.coordinator().context.repo.experiment(experiment)
            assert left.garbage == ()
    assert n > 6  # the loop ended because all writes were tried


async def members_upload(federation, member, number):
    """Straight to the service: a death must not become a 500."""
    import hashlib

    from serverless_fl.domain.records import UpdateCommit
    from tests.support.federation import weights

    service = federation.app.state.coordinator
    data = weights(float(number))
    digest = hashlib.sha256(data).hexdigest()
    commit = UpdateCommit(
        sha256=digest,
        parts=[digest],
        num_examples=10,
        metrics={"accuracy_before": ACCURACIES[number]},
    )
    client = await service.enrolment.client_of(member.experiment_id, member.api.connection.key)
    await service.updates.commit(client, number, commit, data)


def test_the_digest_of_settings_from_before_there_was_this_one_is_the_same():
    from serverless_fl.domain.provenance import config_digest

    made = config_digest(config().to_config())
    assert made == config_digest(config(keep_models=None).to_config())
    assert made != config_digest(config(keep_models=3).to_config())


async def test_verify_says_what_is_gone_and_accuses_nobody(federation):
    experiment = await run(federation, keep_models=2, keep_updates=6)
    findings = await verify(federation.admin, experiment)
    assert [f.good for f in findings if f.good is not None] == [True] * 8  # 7 chains, 1 recomputed
    gone = {f.version: f.message for f in findings if f.good is None}
    assert set(gone) == {1, 2, 3, 4, 5}
    assert gone[5] == ("it cannot be recomputed: model 4 is not kept any more (keep_models is 2)")
    named = await verify(federation.admin, experiment, [3, 6])
    assert [f.version for f in named if f.good is None] == [3]
    assert not [f for f in named if f.good is False]

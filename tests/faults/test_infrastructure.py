"""Faults of the infrastructure end no experiment: it goes on when they are over."""

from dataclasses import replace

import pytest

from app.service.rounds.closing import MAX_DEATHS
from app.store.identity import identified
from client_sdk.errors import RequestRefused
from serverless_fl.domain.errors import StoreDenied, StoreUnavailable, WrongStore
from serverless_fl.domain.round import RoundState
from tests.support.federation import value_of


class Bucket:
    """A store of weights that may be away, deny everything, or be another one."""

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.fault: StoreUnavailable | None = None

    def _check(self):
        if self.fault is not None:
            raise self.fault

    async def put(self, key, data):
        self._check()
        self.objects.setdefault(key, data)

    async def get(self, key):
        self._check()
        return self.objects.get(key)

    async def sizes(self, prefix):
        self._check()
        return {k: len(v) for k, v in sorted(self.objects.items()) if k.startswith(prefix)}

    async def delete(self, prefix):
        self._check()
        self.objects = {k: v for k, v in self.objects.items() if not k.startswith(prefix)}


FAULTS = [
    StoreUnavailable("It does not answer."),
    StoreDenied("AccessDenied"),
    WrongStore("It is another one."),
]


@pytest.fixture
async def over_bucket(federation):
    """A coordinator over a bucket, which knows it by its marker."""
    federation.bucket = Bucket()
    federation.blobs = identified(federation.documents, federation.bucket)
    federation.app.state.coordinator = federation.coordinator()
    return federation


def comes_back_with(federation, bucket):
    """Another process, which the settings lead to this bucket."""
    blobs = identified(federation.documents, bucket)
    federation.app.state.coordinator = federation.coordinator(blobs=blobs)
    return federation.app.state.coordinator


async def ask_in_vain(federation, experiment, member, times):
    for _ in range(times):
        for call in (member.status(), federation.admin.experiment(experiment)):
            try:
                await call
            except RequestRefused as error:
                assert error.status == 503
        with pytest.raises(Exception, match=r"\w"):
            await federation.app.state.coordinator.tick()
        federation.clock.now += 1000


async def test_with_another_bucket_nothing_ends_and_with_the_right_one_all_goes_on(over_bucket):
    experiment, members = await over_bucket.start(rounds=1, quorum=1, max_attempts=1)
    cohort = await over_bucket.cohort(experiment)
    await members[cohort[0]].upload(1, 3.0)
    over_bucket.clock.now += 61
    for _ in range(2):
        comes_back_with(over_bucket, Bucket())
        await ask_in_vain(over_bucket, experiment, members[cohort[0]], 3)
        with pytest.raises(RequestRefused) as refused:
            await over_bucket.start(seed=7)
        assert (refused.value.status, refused.value.code) == (503, "wrong-store")
    service = comes_back_with(over_bucket, over_bucket.bucket)
    assert (await service.context.repo.experiment(experiment)).state == "running"
    await service.tick()
    shown = await over_bucket.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 1)
    assert value_of(await over_bucket.admin.download_model(experiment)) == 3.0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
@pytest.mark.parametrize("reported", [0, 1])
async def test_however_long_the_bucket_is_away_no_round_fails_for_it(over_bucket, fault, reported):
    """No client could bring an update: that is no attempt. Nor is it the death of an owner."""
    experiment, members = await over_bucket.start(rounds=1, quorum=1, max_attempts=1)
    cohort = await over_bucket.cohort(experiment)
    for client in cohort[:reported]:
        await members[client].upload(1, 3.0)
    over_bucket.bucket.fault = fault
    over_bucket.clock.now += 61
    await ask_in_vain(over_bucket, experiment, members[cohort[0]], 30)
    round_ = await over_bucket.coordinator().context.repo.round(experiment, 1)
    assert round_.attempt == 1
    assert round_.lease is None or (round_.lease.deaths, round_.lease.released) == (0, True)
    over_bucket.bucket.fault = None
    if not reported:
        over_bucket.clock.now = round_.deadline - 1  # it has been put off
        for client in cohort:
            await members[client].upload(1, 3.0)
    shown = await over_bucket.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 1), shown.reason
    assert value_of(await over_bucket.admin.download_model(experiment)) == 3.0


async def test_a_deadline_without_a_quorum_counts_once_the_bucket_is_there(over_bucket):
    experiment, _ = await over_bucket.start(rounds=1, quorum=1, max_attempts=1)
    over_bucket.clock.now += 61
    shown = await over_bucket.admin.experiment(experiment)
    assert shown.state == "failed"


async def test_owners_that_die_over_a_bucket_that_hangs_fail_nothing(over_bucket):
    """A platform kills each of them at its time limit, so none gives its lease back."""
    experiment, members = await over_bucket.start(rounds=1, quorum=1)
    cohort = await over_bucket.cohort(experiment)
    repo = over_bucket.coordinator().context.repo
    await members[cohort[0]].upload(1, 3.0)
    over_bucket.bucket.fault = StoreUnavailable("It hangs.")
    over_bucket.clock.now += 61
    await over_bucket.admin.experiment(experiment)
    round_ = await repo.round(experiment, 1)
    dead = replace(round_.lease, deaths=MAX_DEATHS, released=False)
    assert await repo.save_round(round_.move(RoundState.AGGREGATING, lease=dead))
    over_bucket.clock.now += 10_000
    shown = await over_bucket.admin.experiment(experiment)
    assert shown.state == "running"


async def test_what_is_really_lost_fails_with_its_name(over_bucket):
    """The bucket is the right one, and answers; the update is not there."""
    experiment, members = await over_bucket.start(rounds=1, quorum=1)
    cohort = await over_bucket.cohort(experiment)
    await members[cohort[0]].upload(1, 3.0)
    await over_bucket.bucket.delete(f"uploads/{experiment}")
    over_bucket.clock.now += 61
    shown = await over_bucket.admin.experiment(experiment)
    assert shown.state == "failed"
    assert f"lost an accepted update: 'uploads/{experiment}" in shown.reason


@pytest.mark.parametrize("how", ["gone", "altered"])
async def test_a_base_model_that_is_damaged_is_no_fault_of_the_client(over_bucket, how):
    """It is needed where the norm is bounded; the client is told to come again."""
    experiment, members = await over_bucket.start(rounds=1, max_update_norm=5.0)
    cohort = await over_bucket.cohort(experiment)
    (key,) = [k for k in over_bucket.bucket.objects if k.startswith(f"models/{experiment}")]
    data = over_bucket.bucket.objects.pop(key)
    if how == "altered":
        over_bucket.bucket.objects[key] = b"\0" * len(data)
    with pytest.raises(RequestRefused) as refused:
        await members[cohort[0]].upload(1, 1.0)
    assert refused.value.status == 503
    assert (await members[cohort[0]].status()).action == "train"
    over_bucket.bucket.objects[key] = data
    for client in cohort:
        await members[client].upload(1, 1.0)
    assert (await over_bucket.admin.experiment(experiment)).state == "completed"

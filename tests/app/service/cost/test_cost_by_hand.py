"""What experiments used, in the unusual turns of their lives: expected values by hand."""

from dataclasses import replace

import pytest

from app.service.coordinator import Limits
from app.service.cost.usage import ANSWER, polls
from client_sdk.errors import RequestRefused
from tests.support.federation import weights
from tests.support.gathering import LIMITS, Gathering
from tests.support.leases import Meanwhile

QUIET = Limits(poll_min_seconds=1e9, poll_max_seconds=1e9)  # nobody ever comes to ask
SIZE = len(weights(0))


async def usage_of(federation, experiment):
    return (await federation.coordinator().context.repo.experiment(experiment)).usage


@pytest.mark.parametrize("step", [3, 100], ids=["in several calls", "in one call"])
async def test_seconds_of_aggregation_are_counted_before_and_at_the_close(step):
    """Two groups of three; the first one is folded as it fills, long before the close."""
    gathering = await Gathering.of(replace(LIMITS, step_updates=step), parties=6)
    clock = gathering.federation.clock

    async def take_time(key, data):
        """To store takes a quarter of a second for sums, and one for the model."""
        if "/sums/" in key or key.startswith("models/"):
            clock.now += 0.25 if "/sums/" in key else 1.0

    slow = Meanwhile(gathering.federation.blobs, "put", take_time)
    for slot in range(6):
        await gathering.upload(slot, service=gathering.call(slot, blobs=slow))
    early = [key for call in gathering.calls for key in call.written if "/sums/" in key]
    assert early
    while not (await gathering.call(blobs=slow).rounds.advance(gathering.id))[0].ended:
        pass
    written = [key for call in gathering.calls for key in call.written]
    expected = sum(0.25 for key in written if "/sums/" in key)
    expected += sum(1.0 for key in written if key.startswith("models/"))
    round_ = await gathering.round()
    assert round_.aggregation_seconds == pytest.approx(expected)
    assert round_.usage.aggregation_seconds == pytest.approx(expected)
    usage = await usage_of(gathering.federation, gathering.id)
    assert usage.aggregation_seconds == pytest.approx(expected)


async def test_a_refusal_with_a_retry(federation):
    federation.limits = QUIET
    federation.app.state.coordinator = federation.coordinator()
    experiment, members = await federation.start(quorum=2, rounds=2)
    before = await usage_of(federation, experiment)
    first, second = await federation.cohort(experiment)
    with pytest.raises(RequestRefused):
        await members[first].upload(1, float("nan"))
    await members[second].upload(1, 1.0)
    (fresh,) = (await federation.admin.round(experiment, 1)).missing
    await members[fresh].upload(1, 1.0)
    used = (await federation.coordinator().context.repo.round(experiment, 1)).usage
    # Three are drawn, each once: status and download. Three uploads came, one of them refused, of
    # the model's size all of them, and each has asked once more.
    assert used.requests == pytest.approx(3 * 2 + 3 + 3)
    assert used.bytes_in == pytest.approx(3 * SIZE)
    assert used.bytes_out == pytest.approx(3 * (ANSWER + SIZE) + 3 * ANSWER + 3 * ANSWER)
    assert await usage_of(federation, experiment) == before + used


async def test_whoever_was_drawn_in_an_earlier_attempt_has_not_waited_outside(federation):
    experiment, members = await federation.start(quorum=2, rounds=2)
    first, second = await federation.cohort(experiment)
    await members[first].upload(1, 1.0)
    federation.clock.now += 60
    (fresh,) = (await federation.admin.round(experiment, 1)).missing
    assert fresh != second
    await members[fresh].upload(1, 1.0)
    service = federation.app.state.coordinator
    used = (await service.context.repo.round(experiment, 1)).usage
    each = service.context.prices.request_ms / 1000
    # Three were drawn, and each has got the model; the fourth waits outside for 60 s, and the
    # first, from its upload on, for as long, less half a pause; the last asks as it closes.
    waited = polls(0, 60, 0.2, 15.0, each)
    assert used.requests == pytest.approx(3 * 2 + 2 + 2 + waited + waited - 0.5)


async def test_a_refusal_that_is_followed_by_a_sound_update_is_one_report(federation):
    federation.limits = QUIET
    federation.app.state.coordinator = federation.coordinator()
    experiment, members = await federation.start(rounds=2)
    first, second = await federation.cohort(experiment)
    with pytest.raises(RequestRefused):
        await members[first].upload(1, float("nan"))
    await members[first].upload(1, 1.0)
    await members[second].upload(1, 1.0)
    used = (await federation.coordinator().context.repo.round(experiment, 1)).usage
    assert used.requests == pytest.approx(2 * 2 + 2 + 2)


async def test_a_pause_counts_once_and_without_whoever_is_revoked(federation):
    experiment, members = await federation.start(rounds=3)
    service = federation.app.state.coordinator
    cohort = await federation.cohort(experiment)
    await service.pausing.pause(experiment, "admin")
    for client in cohort:
        await members[client].upload(1, 1.0)
    outside = next(client for client in members if client not in cohort)
    await service.access.revoke(experiment, outside, "admin")
    before = await usage_of(federation, experiment)
    federation.clock.now += 1500
    await service.pausing.resume(experiment, None, "admin")
    used = await usage_of(federation, experiment)
    # A deadline of 60 s lets nobody wait for more than a quarter of that. Three clients ask.
    each = service.context.prices.request_ms / 1000
    asked = 3 * 1500 / (15 + each)
    assert used.requests - before.requests == pytest.approx(asked)
    assert used.bytes_out - before.bytes_out == pytest.approx(asked * ANSWER)
    assert used.aggregation_seconds == before.aggregation_seconds
    # Repeated, it changes nothing; nor does the pause count twice where it is looked at.
    await service.pausing.resume(experiment, None, "admin")
    assert await usage_of(federation, experiment) == used


class Crossing:
    """A database in which the stop comes just before the close is announced."""

    def __init__(self, federation):
        self.federation, self.armed = federation, True

    def __getattr__(self, name):
        return getattr(self.federation.documents, name)

    async def replace(self, kind, key, revision, body):
        if self.armed and kind == "experiments" and body["model_version"] == 1:
            self.armed = False
            await self.federation.coordinator().experiments.stop(key, "Enough.")
        return await self.federation.documents.replace(kind, key, revision, body)


@pytest.mark.parametrize("crossing", [False, True])
async def test_a_round_counts_once_though_a_stop_crosses_its_close(federation, crossing):
    if crossing:
        federation.app.state.coordinator = federation.coordinator(Crossing(federation))
    experiment, members = await federation.start(rounds=1)
    before = await usage_of(federation, experiment)
    for client in await federation.cohort(experiment):
        await members[client].upload(1, 1.0)
    repo = federation.coordinator().context.repo
    found, round_ = await repo.experiment(experiment), await repo.round(experiment, 1)
    assert (found.state, found.model_version) == ("stopped" if crossing else "completed", 1)
    assert round_.usage.requests == pytest.approx(2 * 2 + 2 + 2)
    assert found.usage == before + round_.usage
    estimate = await federation.coordinator().rounds.metering.estimate(found, round_)
    # No time has passed; but each of the four clients asks once more, and learns the end.
    assert estimate.usage.requests == pytest.approx(found.usage.requests + 4)


async def test_whoever_is_revoked_is_neither_waited_for_nor_told_the_end(federation):
    experiment, members = await federation.start(rounds=1)
    service = federation.app.state.coordinator
    cohort = await federation.cohort(experiment)
    outside = [client for client in members if client not in cohort]
    await service.access.revoke(experiment, outside[0], "admin")
    federation.clock.now += 50
    for client in cohort:
        await members[client].upload(1, 1.0)
    repo = service.context.repo
    found, round_ = await repo.experiment(experiment), await repo.round(experiment, 1)
    each = service.context.prices.request_ms / 1000
    # The other one outside asks for 50 s. Whoever uploads as the round closes asks once.
    expected = 2 * 2 + 2 + 2 + polls(0, 50, 0.2, 15.0, each)
    assert round_.usage.requests == pytest.approx(expected)
    estimate = await service.rounds.metering.estimate(found, round_)
    around = service.rounds.metering.terms.overhead(found.config, 50, 0, SIZE)
    left = estimate.usage.requests - found.usage.requests - around.requests
    assert left == pytest.approx(3)

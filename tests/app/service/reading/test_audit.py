"""The audit log: who did what and when, whichever process died."""

from datetime import UTC, datetime

import pytest

from client_sdk.errors import NotThere, RequestRefused
from tests.support.federation import BOTH_STORES, key_of, weights


async def everything(federation, experiment, limit=1000):
    events, after = [], ""
    while page := await federation.admin.audit(experiment, after, limit):
        assert len(page) <= limit
        events += page
        after = page[-1].cursor
    return events


async def eventful(federation):
    """An experiment in which each thing happens, a second apart."""

    def pass_time():
        federation.clock.now += 1

    experiment, key = await federation.create(quorum=2, rounds=2)
    members = {}
    for n in range(4):
        pass_time()
        member = await federation.enrol(experiment, key, n)
        members[member.id] = member
    one, two = await federation.cohort(experiment)
    pass_time()
    with pytest.raises(RequestRefused):
        await members[one].upload_bytes(1, weights(float("nan")))
    pass_time()
    await members[two].upload(1, 1.0)  # the round is settled without a quorum: another attempt
    (fresh,) = [c for c in await federation.cohort(experiment) if c != two]
    pass_time()
    await members[fresh].upload(1, 1.0)
    pass_time()
    await federation.admin.revoke_client(experiment, one)
    pass_time()
    await federation.admin.replace_enrolment_key(experiment, "rotate-once")
    pass_time()
    await members[two].api.replace_token(experiment, key_of(int(two[-2:])))
    pass_time()
    await federation.admin.report_evaluation(experiment, 1, 5, {"loss": 0.5})
    pass_time()
    await federation.admin.stop_experiment(experiment)
    return experiment, one, two, fresh


@BOTH_STORES
async def test_it_says_who_did_what_and_when_in_order(federation):
    start = federation.clock.now
    experiment, one, two, fresh = await eventful(federation)
    events = await everything(federation, experiment)
    told = [(int(e.at.timestamp() - start), e.who, e.what, e.round, e.clients) for e in events]
    cohorts = (sorted([one, two]), sorted([two, fresh]))
    assert told[:2] == [
        (0, "admin", "experiment-created", None, []),
        (0, "admin", "initial-model-committed", None, []),
    ]
    assert told[2:6] == [
        (n + 1, f"client-{n:02d}", "client-enrolled", None, [f"client-{n:02d}"]) for n in range(4)
    ]
    (second,) = [e.clients for e in events if (e.what, e.round) == ("round-opened", 2)]
    assert told[6:] == [
        (4, "coordinator", "round-opened", 1, cohorts[0]),
        (5, one, "update-refused", 1, [one]),
        (6, "coordinator", "round-retried", 1, cohorts[1]),
        (7, "coordinator", "round-closed", 1, cohorts[1]),
        (7, "coordinator", "round-opened", 2, second),
        (8, "admin", "client-revoked", None, [one]),
        (9, "admin", "enrolment-key-replaced", None, []),
        (10, two, "token-replaced", None, [two]),
        (11, "admin", "evaluation-reported", None, []),
        (12, "admin", "experiment-ended", None, []),
    ]
    assert events[-1].detail == "Stopped: Stopped by the admin."
    assert events[7].detail.startswith("non-finite: ")
    assert events[0].at == datetime.fromtimestamp(start, UTC)


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_its_pages_are_its_whole_in_the_same_order(federation, limit):
    experiment, *_ = await eventful(federation)
    whole = await everything(federation, experiment)
    assert await everything(federation, experiment, limit) == whole
    assert len({event.cursor for event in whole}) == len(whole)


@BOTH_STORES
async def test_what_happens_at_one_moment_keeps_its_order(federation):
    """The clock of this test stands still."""
    experiment, members = await federation.start()
    for number in (1, 2):
        for client in await federation.cohort(experiment):
            await members[client].upload(number, 1.0)
    events = await everything(federation, experiment, 3)
    assert [e.what for e in events] == [
        "experiment-created",
        "initial-model-committed",
        *["client-enrolled"] * 4,
        *["round-opened", "round-closed"] * 2,
        "experiment-ended",
    ]
    assert (events[-1].who, events[-1].detail) == (
        "coordinator",
        "Completed: All 2 rounds are closed.",
    )


async def test_a_cursor_stays_that_of_its_event_whatever_comes_later(federation):
    """Else whoever follows the log is told the same evaluation twice."""
    experiment, members = await federation.start()
    measured = {"loss": 0.5}
    await members["client-02"].api.report_evaluation(experiment, 0, 5, measured)
    before = await everything(federation, experiment)
    federation.clock.now += 1
    await members["client-01"].api.report_evaluation(experiment, 0, 5, measured)
    await federation.admin.report_evaluation(experiment, 0, 5, measured)
    later = await federation.admin.audit(experiment, before[-1].cursor)
    assert [event.who for event in later] == ["admin", "client-01"]
    assert (await everything(federation, experiment))[: len(before)] == before


async def test_an_experiment_that_fails_was_ended_by_the_coordinator(federation):
    experiment, _ = await federation.start(max_attempts=1)
    federation.clock.now += 60
    await federation.admin.experiment(experiment)
    last = (await everything(federation, experiment))[-1]
    assert (last.who, last.what) == ("coordinator", "experiment-ended")
    assert last.detail.startswith("Failed: Round 1 got 0 of the 1 updates")


async def test_it_is_of_one_experiment_only(federation):
    experiment, _ = await federation.create()
    await federation.start(rounds=5)
    assert [e.what for e in await everything(federation, experiment)] == [
        "experiment-created",
        "initial-model-committed",
    ]
    with pytest.raises(NotThere):
        await federation.admin.audit("20260101-0-nope")

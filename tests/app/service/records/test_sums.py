"""Records of an aggregation under way: of one round, one attempt, one span each."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

from app.service.records.sums import SumRecords
from serverless_fl.domain.records import Blob, Cell
from serverless_fl.domain.round import FullGroup, Lease

LEASE = Lease(owner="one", expires_at=60.0, fence=1)


def group(number, attempt, which):
    return FullGroup(experiment_id="e", round=number, attempt=attempt, group=which, lease=LEASE)


async def test_the_groups_of_a_round_are_those_of_its_present_attempt(store):
    records = SumRecords(store.documents)
    for place in itertools.product((1, 2, 3), (1, 2, 3), (0, 7)):
        assert await records.save_group(group(*place))
    for number, attempt in itertools.product((1, 2, 3), (1, 2, 3)):
        found = await records.groups(
            SimpleNamespace(experiment_id="e", number=number, attempt=attempt)
        )
        assert found == {which: group(number, attempt, which) for which in (0, 7)}
    other = SimpleNamespace(experiment_id="f", number=1, attempt=1)
    assert await records.groups(other) == {}


async def test_a_group_is_begun_once_and_changed_by_whoever_has_read_it_last(store):
    records = SumRecords(store.documents)
    assert await records.group("e", 1, 2, 3) is None
    begun = group(1, 2, 3)
    assert await records.save_group(begun)
    assert not await records.save_group(begun)
    read = await records.group("e", 1, 2, 3)
    assert await records.save_group(replace(read, done=True, seconds=1.5))
    assert not await records.save_group(replace(read, seconds=9.0))
    assert await records.group("e", 1, 2, 3) == replace(begun, done=True, seconds=1.5)


async def test_stored_sums_are_found_by_span_and_digest(store):
    records = SumRecords(store.documents)
    blobs = {
        (number, span, digest): Blob(
            prefix=f"{number}{span}{digest}", sha256="", parts=(), sizes=()
        )
        for number, span, digest in itertools.product((1, 2), (0, 10), ("a", "b"))
    }
    for (number, span, digest), blob in blobs.items():
        await records.add("e", number, Cell(span=span, digest=digest), blob)
    for number, span in itertools.product((1, 2), (0, 10)):
        expected = {digest: blobs[number, span, digest] for digest in ("a", "b")}
        assert await records.of_span("e", number, span) == expected
    assert await records.of_span("e", 1, 1) == {}

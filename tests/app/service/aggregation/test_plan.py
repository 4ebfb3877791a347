"""Which tasks of an aggregation are left, by hand: twelve clients in groups of four."""

import pytest

from app.service.aggregation.plan import Plan
from serverless_fl.domain.records import Blob, Update
from serverless_fl.domain.round import Cut, Round

ROUND = Round(
    experiment_id="x",
    number=1,
    cohort=tuple(range(12)),
    opened_at=0.0,
    deadline=1.0,
    cut=Cut(span_bytes=1, group_size=4),
)


def update(slot):
    blob = Blob(prefix=f"{slot}", sha256=f"{slot}", parts=(), sizes=())
    return Update(
        experiment_id="x",
        round=1,
        slot=slot,
        blob=blob,
        offset=0,
        num_examples=slot + 1,
        metrics={},
        received_at=0.0,
    )


def plan(slots=range(12), most=100):
    return Plan.of(ROUND, map(update, slots), most)


def shown(tasks):
    """What each task reads: slots of updates, and the weight of sums."""
    return [([u.slot for u in task.updates], [s.weight for s in task.sums]) for task in tasks]


def test_groups_are_summed_and_then_their_sums():
    tasks = list(plan().model_tasks(5, set()))
    assert shown(tasks) == [
        ([0, 1, 2, 3], []),
        ([4, 5, 6, 7], []),
        ([8, 9, 10, 11], []),
        ([], [10, 26, 42]),
    ]
    assert [task.reads for task in tasks] == [4, 4, 4, 3]
    assert {task.span for task in tasks} == {5}
    assert [task.result for task in tasks[:3]] == [sums.digest for sums in tasks[3].sums]
    assert tasks[3].result is None


def test_one_group_needs_no_sums():
    one = plan(range(4))
    assert one.one_task
    assert shown(one.model_tasks(0, set())) == [([0, 1, 2, 3], [])]


@pytest.mark.parametrize("most", [2, 3])
def test_a_task_reads_no_more_than_it_may_and_goes_on_from_the_one_before(most):
    tasks = list(plan(most=most).model_tasks(0, set()))
    assert max(task.reads for task in tasks) == most
    stored = set()
    for task in tasks:
        assert {sums.digest for sums in task.sums} <= stored
        stored.add(task.result)
    added = [update.slot for task in tasks for update in task.updates]
    assert added == list(range(12))


@pytest.mark.parametrize("most", [2, 3, 100])
def test_what_is_stored_is_not_left(most):
    whole = list(plan(most=most).model_tasks(0, set()))
    for done in range(len(whole)):
        stored = {task.result for task in whole[:done]}
        assert list(plan(most=most).model_tasks(0, stored)) == whole[done:]


def test_other_updates_have_other_digests():
    def first(slots):
        return next(iter(plan(slots).model_tasks(0, set()))).result

    assert first(range(12)) == first([0, 1, 2, 3, 9])
    assert first(range(12)) != first([0, 1, 2, 9])


def test_many_streams_are_taken_off_a_sum_in_several_tasks():
    *summing, last = plan().model_tasks(5, set())
    tasks = list(plan().unmasked_tasks(5, set(), streams=7, most=3))
    assert tasks[:3] == summing
    total, *unmasking = tasks[3:]
    assert (total.sums, total.updates) == (last.sums, ())
    assert [task.streams for task in unmasking] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    results = [total.result, *(task.result for task in unmasking)]
    assert [task.sums for task in unmasking] == results[:3]
    assert len(set(results)) == 4
    assert results[3] is None
    for done in range(3):  # whatever else is stored, the newest sum is gone on from
        known = {group.sums.digest for group in plan().groups} | set(results[: done + 1])
        assert list(plan().unmasked_tasks(5, known, streams=7, most=3)) == unmasking[done:]
        assert list(plan().unmasked_tasks(5, {results[done]}, 7, 3)) == unmasking[done:]


def test_few_streams_need_no_task_of_their_own():
    for one in (plan(), plan(range(4))):
        expected = list(one.model_tasks(0, set()))
        assert list(one.unmasked_tasks(0, set(), streams=3, most=3)) == expected


def test_other_updates_or_another_number_of_streams_have_results_of_their_own():
    names = [
        {task.result for task in one.unmasked_tasks(0, set(), streams, 3)} - {None}
        for one, streams in ((plan(), 7), (plan(range(11)), 7))
    ]
    unmasked = [{t.result for t in list(plan().unmasked_tasks(0, set(), n, 3))[4:]} for n in (7, 8)]
    assert len(names[0] & names[1]) == 2  # the first two groups have the same updates
    assert not (unmasked[0] & unmasked[1]) - {None}

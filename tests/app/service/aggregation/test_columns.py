"""Which tasks of stacked updates are left, by hand: twelve clients in groups of four."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.service.aggregation.columns import (
    PRODUCTS,
    SPANS_IN_MEMORY,
    ColumnPlan,
    GramTask,
    JoinTask,
    ReduceTask,
    Slicing,
    StackTask,
)
from app.service.aggregation.plan import Plan
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.round import Cut
from serverless_fl.weights import spans
from serverless_fl.weights.header import read_header, write_header
from tests.app.service.aggregation.test_plan import ROUND, update

CONFIG = Config(dataset="", dataset_size=100, model="")


def cut_of(elements, span_bytes, dtype="F32"):
    layout = read_header(write_header([("w", dtype, (elements,))]))
    return spans.cut(layout, span_bytes)


def column_plan(slots=range(12), elements=40, span_bytes=256, most=100):
    """A span of 40 elements: four updates a stack, and slices of sixteen elements."""
    round_ = replace(ROUND, cut=Cut(span_bytes=span_bytes, group_size=4))
    groups = Plan.of(round_, map(update, slots), most)
    cut = cut_of(elements, span_bytes)
    slicings = tuple(Slicing.of(CONFIG, round_, span, groups.most) for span in cut)
    return ColumnPlan(groups.groups, slicings, groups.most, "median")


def slots_of(task):
    return [each.slot for each in task.stack.updates]


def result_of(task):
    if isinstance(task, StackTask):
        return task.stack.digest
    return "" if isinstance(task, JoinTask) else task.result


def test_groups_are_stacked_and_then_reduced_slice_by_slice():
    plan = column_plan()
    tasks = list(plan.model_tasks(0, set()))
    stacks = [task for task in tasks if isinstance(task, StackTask)]
    reductions = [task for task in tasks if isinstance(task, ReduceTask)]
    assert list(map(slots_of, stacks)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert [task.reads for task in stacks] == [4, 4, 4]
    assert isinstance(tasks[-1], JoinTask)
    assert tasks[-1].slices == tuple(task.result for task in reductions)
    covered = [(task.rows.elements.start, task.rows.elements.stop) for task in reductions]
    assert covered[0][0] == 0
    assert [stop for _, stop in covered[:-1]] == [start for start, _ in covered[1:]]
    assert {len(task.rows.stacks) for task in reductions} == {3}


@pytest.mark.parametrize("tasks_of", [ColumnPlan.model_tasks, ColumnPlan.gram_tasks])
def test_what_is_stored_is_not_left(tasks_of):
    plan, stored = column_plan(), set()
    whole = list(tasks_of(plan, 0, stored))
    for done, task in enumerate(whole):
        assert list(tasks_of(plan, 0, stored)) == whole[done:]
        stored.add(result_of(task))


def test_products_are_added_up_in_a_chain_over_all_spans():
    plan = column_plan(elements=200)
    assert len(plan.slicings) > 2
    chain = [t for n in range(len(plan.slicings)) for t in plan.gram_tasks(n, set())]
    grams = [task for task in chain if isinstance(task, GramTask)]
    before = [task.before for task in grams]
    assert before == [None, *((task.span, task.result) for task in grams[:-1])]
    last = (grams[-1].span, grams[-1].result)
    assert plan.gram_through(len(plan.slicings) - 1) == last


def test_one_group_that_fits_is_stacked_nowhere():
    (task,) = column_plan(range(4)).model_tasks(0, set())
    assert isinstance(task, ReduceTask)
    assert (task.rows.stacks, task.result, task.reads) == ((), None, 4)
    assert list(column_plan(range(4)).stack_tasks(0, set())), "but a full group is"


def test_a_span_without_elements_has_one_task_and_no_products():
    plan = column_plan()
    empty = ColumnPlan(plan.groups, (replace(plan.slicings[0], elements=0),), plan.most, "median")
    assert list(empty.model_tasks(0, set())) == [JoinTask(0, ())]
    assert list(empty.gram_tasks(0, set())) == []
    assert empty.gram_through(0) is None


@pytest.mark.parametrize("clients", [10, 100, 1000, 100_000])
@pytest.mark.parametrize("elements", [1, 5_000, 2_000_000])
@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_a_task_holds_few_spans_whatever_the_number_of_updates(clients, elements, dtype):
    cut = Cut(span_bytes=8 << 20, group_size=64)
    round_ = replace(ROUND, cohort=tuple(range(clients)), cut=cut)
    for span in cut_of(elements, cut.span_bytes, dtype):
        slicing = Slicing.of(CONFIG, round_, span, 64)
        bound = SPANS_IN_MEMORY * cut.span_bytes
        assert slicing.per_stack * slicing.elements * slicing.width <= bound
        assert slicing.length * clients * slicing.width <= bound
        assert slicing.length * slicing.per_stack * slicing.width <= cut.span_bytes
        assert slicing.length * clients**2 <= PRODUCTS or slicing.length == 1
        assert sum(part.stop - part.start for part in slicing.cuts) == slicing.elements

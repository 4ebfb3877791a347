"""Whatever dies, a strategy's state and the stacks of its updates come out as in a quiet run."""

import pytest

from app.service.coordinator import Limits
from tests.support.crashes import deaths_that_change_nothing
from tests.support.sample import deaths


@deaths()
@pytest.mark.parametrize(
    ("strategy", "step"),  # a sample of the writes: make soak tries each of them
    [("fedadam", 13), ("feddyn", 23), ("scaffold", 23), ("median", 13), ("geometric-median", 23)],
)
async def test_dying_at_any_write_of_its_aggregation(store, fresh_store, strategy, step, after):
    """The model is cut into three spans, the cohort into two groups; a call does one task."""
    limits = Limits(part_bytes=256, group_size=1, step_seconds=0.0)
    run = {"rounds": 2, "size": 80, "strategy": strategy, "momentum": 0.0}
    deaths = await deaths_that_change_nothing(
        *(store, fresh_store, limits),
        **{"after": after, "lit": False, "every": max(37, 4 * step), "sqlite": step},
        **run,
    )
    assert deaths > 40


@deaths()
async def test_dying_at_any_write_of_scaffold_in_buffered_rounds(store, fresh_store, after):
    """Updates of older models come, whose controls count in full."""
    run = {"schedule": "buffered", "strategy": "scaffold", "momentum": 0.0, "rounds": 5}
    deaths = await deaths_that_change_nothing(
        store, fresh_store, Limits(), after=after, every=97, sqlite=23, slow=(1, 3), **run
    )
    assert deaths > 60

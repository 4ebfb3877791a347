"""Whatever dies, a round under secure aggregation comes out as in a quiet run, or not at all."""

import pytest

from app.service.coordinator import Limits
from tests.support.masked_crashes import (
    IdentifiedRun,
    deaths_in_a_move_that_change_nothing,
    masked_deaths_that_change_nothing,
)
from tests.support.sample import deaths

# Spans, groups, a task a call; a task takes two masks off.
LIMITS = Limits(part_bytes=256, group_size=2, step_seconds=0.0, step_masks=320)


@deaths()
@pytest.mark.parametrize(
    "silent", [{}, {2: "collecting"}], ids=["all", "one is lost while it trains"]
)
async def test_dying_at_any_write(store, fresh_store, silent, after):
    deaths = await masked_deaths_that_change_nothing(
        store, fresh_store, LIMITS, after=after, every=97, sqlite=29, silent=silent
    )
    assert deaths > 50


@deaths()
async def test_dying_at_any_write_where_parties_confirm_the_sum(store, fresh_store, after):
    deaths = await masked_deaths_that_change_nothing(
        *(store, fresh_store, LIMITS),
        after=after,
        every=97,
        sqlite=37,
        silent={2: "confirming"},
        run=IdentifiedRun,
    )
    assert deaths > 50


@deaths()
@pytest.mark.parametrize(
    "faults", [{"lies": {0: 1, 1: 1}}, {"loses": 2}], ids=["wrong shares", "a lost file"]
)
async def test_dying_at_any_write_of_the_move_to_another_attempt(store, fresh_store, faults, after):
    await deaths_in_a_move_that_change_nothing(store, fresh_store, LIMITS, after=after, **faults)

"""Whatever dies, a round with a helper comes out as in a quiet run."""

import pytest

from app.service.coordinator import Limits
from tests.support.helped_crashes import (
    coordinators_that_die_change_nothing,
    helpers_that_die_change_nothing,
)
from tests.support.sample import deaths

LIMITS = Limits(part_bytes=256, group_size=2, step_seconds=0.0)  # spans, groups, a task a call


@deaths()
@pytest.mark.parametrize(
    "silent", [{}, {2: "collecting"}], ids=["all", "one is lost while it trains"]
)
async def test_dying_at_any_write(fresh_store, silent, after):
    deaths = await coordinators_that_die_change_nothing(
        fresh_store, LIMITS, after=after, every=97, sqlite=29, silent=silent
    )
    assert deaths > 25


@deaths()
async def test_the_helper_dying_at_any_write(fresh_store, after):
    """Its key, and the sum of each of two rounds."""
    assert await helpers_that_die_change_nothing(fresh_store, LIMITS, after=after) == 3

"""Schedules: whom a round invites, when it is due, and what an update weighs. One a file.

`schedule` has the contract, `SCHEDULES` the modules: a new one is a file here and a line there.
"""

from __future__ import annotations

from serverless_fl.alternatives import stored
from serverless_fl.domain.experiment import Config
from serverless_fl.registry import registered
from serverless_fl.schedule.schedule import Due, Heard, Invitation, Schedule

__all__ = ["SCHEDULES", "Due", "Heard", "Invitation", "Schedule", "schedule_of"]

SCHEDULES = registered(
    Schedule,
    __name__,
    "synchronous",
    "buffered",
)


def schedule_of(config: Config) -> Schedule:
    """Give the schedule of an experiment, with its settings. Raises InvalidConfig.

    Another release may have stored a schedule that this one does not know.
    """
    return stored(config.schedule, SCHEDULES, "schedule")

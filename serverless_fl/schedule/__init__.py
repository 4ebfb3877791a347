"""Schedules: whom a round invites, when it is due, and what an update weighs. One a file."""

from __future__ import annotations

from collections.abc import Callable

from serverless_fl.domain.experiment import Config
from serverless_fl.schedule.schedule import Due, Heard, Invitation, Schedule
from serverless_fl.schedule.synchronous import Synchronous

__all__ = ["Due", "Heard", "Invitation", "Schedule", "schedule_of"]

SCHEDULES: dict[str, Callable[[Config], Schedule]] = {"synchronous": Synchronous}


def schedule_of(config: Config) -> Schedule:
    """Give the schedule of an experiment with these settings."""
    return SCHEDULES["synchronous"](config)

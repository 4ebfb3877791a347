"""Buffered rounds: nobody waits; every so many updates make a new model."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.round import Round
from serverless_fl.schedule.schedule import Due, Heard, Invitation, Schedule
from serverless_fl.schedule.selection import Reads

MAX_CLIENTS = 10_000  # each round's record lists all that are invited


class Buffered(Schedule):
    """Every client trains when it likes, and each clients_per_round updates make a new model.

    FedBuff (Nguyen et al., 2022, arXiv:2106.06639): x <- x + mean of s(age) * (y - own base), where
    the age counts the versions made since the client's base model, and s = 1 / sqrt(1 + age).
    Choose it where speeds differ much, or where a coordinator sleeps between calls: no round waits
    for a slow client, and its update still counts. Who comes first depends on clocks, so two runs
    of the same seed differ. With clients_per_round 1 and `mixing` 0.6 it is
    close to FedAsync (Xie et al., 2019, arXiv:1903.03934), which mixes in the client's weights and
    not their difference from its base.
    """

    name: Literal["buffered"] = "buffered"
    max_staleness: int = Field(
        10,
        ge=0,
        le=1000,
        description="Versions that may be made between a client's base model and its update",
    )
    staleness_exponent: float = Field(
        0.5, ge=0, le=10, description="How fast the share of an update falls with its staleness"
    )
    mixing: float = Field(1.0, gt=0, le=1, description="The share of a fresh update that counts")

    def fault(self, config: Config) -> str | None:
        if config.clients > MAX_CLIENTS:
            return f"A buffered schedule takes at most {MAX_CLIENTS} clients, not {config.clients}."
        if config.keep_models is not None and config.keep_models <= self.max_staleness:
            return (
                f"keep_models ({config.keep_models}) must be more than max_staleness "
                f"({self.max_staleness}): an update counts from the model that its client had."
            )
        if config.selection.name != "uniform":
            return (
                f"selection ({config.selection.name}) chooses the clients of a round, but the "
                "schedule (buffered) invites all: leave selection out."
            )
        return None

    def size(self, config: Config) -> int:
        return config.clients

    def reads(self, config: Config) -> Reads:
        return Reads.NOTHING

    def invite(self, config: Config, asked: Invitation) -> tuple[int, ...]:
        """All that are enrolled."""
        return tuple(sorted({*asked.enrolled, *asked.reported}))

    def deadline(self, config: Config, now: float) -> float:
        return now + config.deadline_seconds

    def latest_deadline(self, config: Config, round_: Round, heard: Heard, now: float) -> float:
        return self.deadline(config, now)

    def due(self, config: Config, round_: Round, heard: Heard, now: float) -> Due:
        updates = len(heard.reported)
        if updates >= config.clients_per_round:
            return Due.CLOSE
        if not heard.covers(round_.cohort) and now < round_.deadline:
            return Due.NOTHING
        return Due.CLOSE if updates >= config.updates_to_close else Due.REPEAT

    def counts_to(self, config: Config, round_: Round, now: float) -> int | None:
        return config.clients_per_round

    def repeats(self, config: Config, round_: Round) -> bool:
        return round_.attempt < config.max_attempts

    @property
    def max_age(self) -> int:
        return self.max_staleness

    def share(self, age: int) -> float:
        return self.mixing * math.pow(1 + age, -self.staleness_exponent)

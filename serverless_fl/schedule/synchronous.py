"""Synchronous rounds: a cohort trains, and the round waits for it, up to a deadline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.round import Round
from serverless_fl.schedule.schedule import Due, Heard, Invitation, Schedule
from serverless_fl.schedule.selection import Draw, Reads, selection_of

MAX_EXTRA = 10_000
MAX_GRACE = 30 * 86_400


class Synchronous(Schedule):
    """A round closes when its whole cohort was heard, or at its deadline with the quorum.

    McMahan et al., 2017, arXiv:1602.05629. Choose it first: every update of a round has the same
    base model, so a round is easy to explain and to compare. Without the quorum another attempt
    follows, with the updates that came and fresh clients (docs/decisions/0005).

    Two settings shorten the wait for slow and dead clients. Over-selection invites more clients
    than the round needs (Bonawitz et al., "Towards federated learning at scale", 2019,
    arXiv:1902.01046); the slowest ones train for nothing, and seldom count. A grace after the
    quorum costs nothing while all clients are well.
    """

    name: Literal["synchronous"] = "synchronous"
    over_selection: int = Field(
        0,
        ge=0,
        le=MAX_EXTRA,
        description="Clients that a round invites beyond clients_per_round; it closes when "
        "clients_per_round have reported",
    )
    grace_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_GRACE,
        description="Seconds that a round waits for the others once its quorum has reported; "
        "without it, until the deadline",
    )

    def fault(self, config: Config) -> str | None:
        if self.size(config) > config.clients:
            return (
                f"clients_per_round ({config.clients_per_round}) and over_selection "
                f"({self.over_selection}) are together more than clients ({config.clients}): lower "
                "one of them."
            )
        return None

    def size(self, config: Config) -> int:
        return config.clients_per_round + self.over_selection

    def reads(self, config: Config) -> Reads:
        return selection_of(config).reads

    def invite(self, config: Config, asked: Invitation) -> tuple[int, ...]:
        """Clients that have reported stay, and others fill the cohort up.

        Clients that were absent from the last attempt come in only when no others are left.
        """
        selection, kept = selection_of(config), set(asked.reported)
        for were_absent in (False, True):
            free = [
                slot
                for slot in asked.enrolled
                if slot not in asked.reported and (slot in asked.absent) == were_absent
            ]
            missing = max(0, self.size(config) - len(kept))
            draw = Draw(
                seed=config.seed,
                number=asked.number,
                attempt=asked.attempt,
                deadline_seconds=config.deadline_seconds,
                least=max(0, config.updates_to_close - len(kept)),
                clients=config.clients,
                secret=asked.secret,
            )
            kept.update(selection.draw(draw, free, missing, asked.known))
        return tuple(sorted(kept))

    def deadline(self, config: Config, now: float) -> float:
        return now + config.deadline_seconds

    def latest_deadline(self, config: Config, round_: Round, heard: Heard, now: float) -> float:
        """With the quorum, the end of the grace that begins now, or that began before.

        Any deadline further away than its length comes of a clock that jumped ahead.
        """
        latest = self.deadline(config, now)
        if self.grace_seconds is None or len(heard.reported) < config.updates_to_close:
            return latest
        return min(latest, now + self.grace_seconds)

    def due(self, config: Config, round_: Round, heard: Heard, now: float) -> Due:
        updates = len(heard.reported)
        if self._over_selected(config, round_) and updates >= config.clients_per_round:
            return Due.CLOSE
        if not heard.covers(round_.cohort) and now < round_.deadline:
            return Due.NOTHING
        return Due.CLOSE if updates >= config.updates_to_close else Due.REPEAT

    def counts_to(self, config: Config, round_: Round, now: float) -> int | None:
        if self.grace_seconds is not None and now + self.grace_seconds < round_.deadline:
            return config.updates_to_close
        return config.clients_per_round if self._over_selected(config, round_) else None

    def repeats(self, config: Config, round_: Round) -> bool:
        return round_.attempt < config.max_attempts

    def _over_selected(self, config: Config, round_: Round) -> bool:
        return self.over_selection > 0 and len(round_.cohort) > config.clients_per_round

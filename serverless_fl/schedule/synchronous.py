"""Synchronous rounds: a cohort trains, and the round waits for all of it, or for its deadline."""

from __future__ import annotations

from dataclasses import dataclass

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.round import Round
from serverless_fl.schedule.schedule import Due, Heard, Invitation
from serverless_fl.schedule.selection import SELECTIONS, Draw, Reads, Selection


@dataclass(frozen=True)
class Synchronous:
    """A round closes when its whole cohort was heard, or at its deadline with the quorum.

    McMahan et al., 2017, arXiv:1602.05629. Choose it unless slow clients are the problem: every
    update of a round has the same base model, so a round is easy to explain and to compare.

    Without the quorum another attempt follows, with the updates that came and fresh clients
    (docs/decisions/0005), up to `max_attempts`.
    """

    config: Config

    @property
    def size(self) -> int:
        return self.config.clients_per_round

    @property
    def reads(self) -> Reads:
        return self._selection.reads

    @property
    def _selection(self) -> Selection:
        return SELECTIONS["uniform"]

    def invite(self, asked: Invitation) -> tuple[int, ...]:
        """Clients that have reported stay, and others fill the cohort up.

        Clients that were absent from the last attempt come in only when no others are left.
        """
        draw = Draw(seed=self.config.seed, number=asked.number, attempt=asked.attempt)
        kept = set(asked.reported)
        for known_absent in (False, True):
            free = [
                slot
                for slot in asked.enrolled
                if slot not in asked.reported and (slot in asked.absent) == known_absent
            ]
            missing = max(0, self.size - len(kept))
            kept.update(self._selection.draw(draw, free, missing, asked.known))
        return tuple(sorted(kept))

    def deadline(self, now: float) -> float:
        return now + self.config.deadline_seconds

    def latest_deadline(self, round_: Round, heard: Heard, now: float) -> float:
        """A deadline further away than its length comes of a clock that jumped ahead."""
        return self.deadline(now)

    def due(self, round_: Round, heard: Heard, now: float) -> Due:
        if not heard.covers(round_.cohort) and now < round_.deadline:
            return Due.NOTHING
        enough = len(heard.reported) >= self.config.updates_to_close
        return Due.CLOSE if enough else Due.REPEAT

    def counts_to(self, round_: Round, now: float) -> int | None:
        return None

    def repeats(self, round_: Round) -> bool:
        return round_.attempt < self.config.max_attempts

    def weight(self, round_: Round, slot: int) -> float:
        """All updates of a round have its base model, so none counts less for its age."""
        return 1.0

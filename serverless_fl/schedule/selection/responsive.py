"""Selection of responsive clients: slow and silent ones are drawn less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from serverless_fl.schedule.selection.selection import UNKNOWN, Draw, Known, Reads, Selection

LEAST = 1 / 64  # of the weight of a prompt client, so that every client comes back in time


class Responsive(Selection):
    """Draws clients less often that are slow, or that did not report in their last turns.

    Each missed turn in a row halves a client's chance, down to a 64th. A client that needs more
    than `prompt_share` of the deadline is drawn less, by the square of the excess: this is the
    system utility of Lai et al., "Oort: efficient federated learning via guided participant
    selection", 2021, arXiv:2010.06081. Choose it where parties die or differ much in speed; the
    model then learns less from slow parties.

    Where every round asks all clients, a chance changes nothing. There a silent client rests: for
    one round after the first missed turn, for two and four after the next ones, up to
    `rest_rounds`, as long as the others are enough for the quorum. A client whose update came too
    late was not silent.
    """

    name: Literal["responsive"] = "responsive"
    prompt_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="The share of the deadline within which a client counts as prompt",
    )
    rest_rounds: int = Field(
        0,
        ge=0,
        le=1000,
        description="The most rounds that are opened without a client that did not report, before "
        "it is asked again",
    )

    reads: ClassVar[Reads] = Reads.UPDATES

    def draw(
        self, draw: Draw, slots: Sequence[int], size: int, known: Mapping[int, Known]
    ) -> list[int]:
        wanted = self.prompt_share * draw.deadline_seconds
        weights = {slot: _weight(known.get(slot, UNKNOWN), wanted) for slot in slots}
        if draw.attempt > 1:  # a round that lacks updates asks whom it can
            return draw.weighted(weights, size)
        awake = {
            slot: weight
            for slot, weight in weights.items()
            if not self._rests(known.get(slot, UNKNOWN), draw.number)
        }
        if len(awake) < min(draw.least, len(weights)):
            return draw.weighted(weights, size)
        return draw.weighted(awake, size)

    def _rests(self, client: Known, number: int) -> bool:
        missed = _missed(client)
        if not missed or not self.rest_rounds or client.turns[0].seconds is not None:
            return False
        rest: int = min(2 ** (missed - 1), self.rest_rounds)
        return number - client.turns[0].round <= rest


def _missed(client: Known) -> int:
    """The number of turns that a client has missed since it reported last."""
    missed = 0
    while missed < len(client.turns) and not client.turns[missed].reported:
        missed += 1
    return missed


def _weight(client: Known, wanted: float) -> float:
    """The weight of a client; `wanted` is the time in seconds that a prompt client needs."""
    times = (turn.seconds for turn in client.turns if turn.seconds is not None)
    speed = min(1.0, wanted / max(next(times, 0.0), 1e-9))
    return max(LEAST, 0.5 ** _missed(client) * speed**2)

"""The contract of a selection: which of the free clients a cohort takes.

A selection is an alternative whose fields are its settings. It is a pure function of the
experiment's seed or secret, the round, the attempt and what the store holds of the clients. Its
only source of randomness is `Draw`, a keyed hash (docs/decisions/0006), so every process draws the
same clients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag
from typing import ClassVar

from serverless_fl.alternatives import Alternative
from serverless_fl.domain import draws
from serverless_fl.domain.derivation import secret_ticket
from serverless_fl.domain.experiment import Config


class Reads(Flag):
    """What a selection needs of the store."""

    NOTHING = 0
    EXAMPLES = 1  # `Known.examples`
    ROUNDS = 2  # `Known.turns`, without what the updates say
    UPDATES = 4 | ROUNDS  # `Known.turns` with what the updates say
    SECRET = 8  # `Draw.secret`


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One time that a client was invited to a round that is closed.

    `seconds` is the time from the beginning of the attempt to the update. `loss` is the loss that
    the client reported: of the model before its training, or else of the training. Both are None
    where nothing is known. One whose update came after the round had closed has not `reported`,
    and its `seconds` are known where parties have data of their own.
    """

    round: int
    reported: bool
    seconds: float | None = None
    loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the store holds of a client: its examples, and its last turns, the newest first."""

    examples: int = 1
    turns: Sequence[Turn] = ()


UNKNOWN = Known()  # a client of which the store holds nothing


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The draw of one attempt at a round, which may take `deadline_seconds`.

    A selection may give fewer clients than it was asked for, but not fewer than `least`: so many
    updates are missing for the quorum. `clients` is the number of slots of the experiment, and
    `secret` its secret, if the selection reads it.
    """

    seed: int
    number: int
    attempt: int
    deadline_seconds: float
    least: int = 0
    clients: int = 0
    secret: bytes = b""

    def ticket(self, slot: int) -> float:
        """Draw a number in [0, 1) for a slot."""
        return draws.ticket(self.seed, self.number, self.attempt, slot)

    def secretly(self, slots: Iterable[int], rate: float) -> list[int]:
        """Draw each of the slots with this chance, whoever else is drawn; ascending."""
        own = self.secret, self.number, self.attempt
        return sorted(slot for slot in slots if secret_ticket(*own, slot) < rate)

    def uniform(self, slots: Iterable[int], size: int) -> list[int]:
        """Draw `size` of the slots, each with the same chance; all if there are fewer."""
        return draws.cohort(self.seed, self.number, self.attempt, slots, size)

    def weighted(self, weights: Mapping[int, float], size: int) -> list[int]:
        """Draw `size` slots one after another, each with a chance in proportion to its weight.

        Weights are positive. This is the exponential race of Efraimidis and Spirakis, "Weighted
        random sampling with a reservoir", 2006: the smallest of -ln(u) / weight win. With equal
        weights it draws the slots that `uniform` draws.
        """

        def time(slot: int) -> tuple[float, int]:
            return -math.log1p(-self.ticket(slot)) / weights[slot], slot

        return sorted(sorted(weights, key=time)[:size])


class Selection(Alternative):
    """A selection with its settings."""

    reads: ClassVar[Reads] = Reads.NOTHING

    def fault(self, config: Config) -> str | None:
        """Say why the experiment's other settings do not suit; None if they do."""
        return None

    def draw(
        self, draw: Draw, slots: Sequence[int], size: int, known: Mapping[int, Known]
    ) -> list[int]:
        """Give `size` of the slots, or all of them if there are fewer; ascending.

        It may give fewer, but not less than `draw.least`, where it lets clients rest, and more or
        fewer where each client is drawn by itself.
        `known` lacks clients of which the store holds nothing.
        """
        raise NotImplementedError

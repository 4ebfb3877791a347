"""Learning-rate schedules: the clients' learning rate as a function of the round.

A schedule gives the share of `learning_rate` that a round has; `learning_rate_factor` applies
beside it. `RATE_SCHEDULES` has all of them: a new one is a class and an entry. The share is rounded
to 12 digits, because the cosines of two machines may differ in their last digit.
"""

from __future__ import annotations

import math
import sys
from typing import Literal

from pydantic import Field

from serverless_fl.alternatives import Alternative, stored
from serverless_fl.domain.experiment import Config

_MOST_ROUNDS = 1_000_000


class RateSchedule(Alternative):
    """A schedule of the learning rate, with its settings.

    Every schedule may begin with a warm-up: Goyal et al., "Accurate, Large Minibatch SGD", 2017,
    arXiv:1706.02677, section 2.2.
    """

    warmup_rounds: int = Field(
        0,
        ge=0,
        le=_MOST_ROUNDS,
        description="First rounds in which the learning rate rises in equal steps; the one after "
        "them has the whole rate",
    )

    def share(self, number: int, rounds: int) -> float:
        """Give the share of the learning rate that round `number` of `rounds` has, from 0 to 1.

        Both count from 1.
        """
        rising = min(1.0, number / (self.warmup_rounds + 1))
        return round(rising * self.after_warmup(number, rounds), 12)

    def after_warmup(self, number: int, rounds: int) -> float:
        """Give the share without a warm-up, which shortens no schedule."""
        raise NotImplementedError


class ConstantRate(RateSchedule):
    """The learning rate stays as it is.

    Choose it first, and a falling rate where the accuracy swings in the last rounds.
    """

    name: Literal["constant"] = "constant"

    def after_warmup(self, number: int, rounds: int) -> float:
        return 1.0


class StepRate(RateSchedule):
    """The learning rate is multiplied by a factor every so many rounds.

    As He et al., "Deep Residual Learning", 2016, arXiv:1512.03385, do, and PyTorch's StepLR. Choose
    it to repeat a paper that does.
    """

    name: Literal["step"] = "step"
    step_rounds: int = Field(
        10,
        ge=1,
        le=_MOST_ROUNDS,
        description="Rounds that have the same learning rate",
    )
    step_factor: float = Field(
        0.1, gt=0, le=1, description="Multiplies the learning rate after so many rounds"
    )

    def after_warmup(self, number: int, rounds: int) -> float:
        return self.step_factor ** ((number - 1) // self.step_rounds)


class CosineRate(RateSchedule):
    """The learning rate falls along half a cosine over the experiment's rounds.

    Loshchilov and Hutter, "SGDR", 2017, arXiv:1608.03983, without restarts. Choose it where the
    number of rounds is known: it needs no tuning. More rounds that the experiment gets later make
    the curve longer, so that the rate rises once.
    """

    name: Literal["cosine"] = "cosine"
    final_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="The share of the learning rate that is left when all rounds are over",
    )

    def after_warmup(self, number: int, rounds: int) -> float:
        done = min(1.0, (number - 1) / rounds)
        return self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * done)) / 2


RATE_SCHEDULES: tuple[type[RateSchedule], ...] = (ConstantRate, StepRate, CosineRate)


def learning_rate_in(config: Config, number: int) -> float:
    """Give the learning rate of a round, counted from 1. It never becomes 0. Raises InvalidConfig.

    Another release may have stored a schedule that this one does not know.
    """
    schedule = stored(config.learning_rate_schedule, RATE_SCHEDULES, "learning rate schedule")
    rate = config.learning_rate * config.learning_rate_factor ** (number - 1)
    return max(rate * schedule.share(number, config.rounds), sys.float_info.min)

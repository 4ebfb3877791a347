"""The calls that a run takes, derived from its records: the coordinator counts none of them.

It keeps no state between calls, and a poll writes nothing. But how often clients ask follows from
the pauses that they are advised, and all the rest from who was drawn, what arrived, and when. It is
an estimate: it takes every enrolled client to ask as it is advised, each drawn one to download once
an attempt, and one watcher to look at the experiment as its view advises. Times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.prices import Usage
from serverless_fl.domain.round import Round

SHARE = 0.03  # of the time that a client has waited, it waits until it asks again
PARTS_ANNOUNCED = 256  # in one call, at most
TOLD_SECONDS = 60.0  # between the questions of a client that somebody else tells when to ask
LOOK_SECONDS = 0.3  # between the looks of the simulation that tells it
READS = 2  # of a closed round by that simulation: the round itself, and the list of its models
TICK_SECONDS = 60.0  # as template.yaml's schedule
# Bytes of bodies, as seen in runs.
ANSWER, REQUEST, VIEW, MEMBER = 150, 250, 1500, 300  # the last one more for each of a cohort


def pause(waited: float, least: float, most: float) -> float:
    """The advised pause of one who has waited so long: rounds that take hours are not asked after
    every second, and short ones are not slept through.
    """
    return min(max(SHARE * waited, least), most)


def paused_bounds(config: Config, least: float, most: float) -> tuple[float, float]:
    """The bounds of that while the experiment is paused, where it may take days.

    However long they are, clients must be back in time for a round that is opened again.
    """
    in_time = max(config.deadline_seconds / 4, least)
    shortest = min(most, in_time)
    return shortest, max(shortest, min(20 * most, in_time))


def polls(start: float, end: float, least: float, most: float, each: float) -> float:
    """How often one asks from `start` to `end`, both seconds since the wait began.

    The integral of 1 / (pause + each), `each` being how long an answer takes.
    """
    least = min(least, most)
    rising, flat = least / SHARE, most / SHARE  # where the pause begins and ends to grow
    early = max(0.0, min(end, rising) - start)
    late = max(0.0, end - max(start, flat))
    low, high = min(max(start, rising), flat), min(max(end, rising), flat)
    growing = math.log((SHARE * high + each) / (SHARE * low + each)) / SHARE if high > low else 0.0
    return early / (least + each) + growing + late / (most + each)


@dataclass(frozen=True, kw_only=True)
class Report:
    """An update that arrived, accepted or refused: when, and of how many bytes."""

    at: float
    size: int


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How one deals with a coordinator: sizes in bytes, times in seconds.

    `direct`: weights go to the blob store itself. `each`: what an answer takes.
    """

    part_bytes: int
    direct: bool
    poll_min: float
    poll_max: float
    metered_bytes: int
    each: float

    def call(self, bytes_in: float = 0, bytes_out: float = ANSWER, times: float = 1) -> Usage:
        """One call, or several that are alike."""
        metered = max(1, math.ceil((bytes_in + bytes_out) / self.metered_bytes))
        one = Usage(requests=1, http_api_calls=metered, bytes_in=bytes_in, bytes_out=bytes_out)
        return one * times

    def download(self, size: int) -> Usage:
        """A model's file, in ranges or by signed URLs."""
        parts = max(1, math.ceil(size / self.part_bytes))
        if self.direct:  # pages of its parts, until an empty one
            pages = 1 + math.ceil(parts / PARTS_ANNOUNCED)
            return self.call(times=pages) + Usage(bytes_direct=size)
        metered = max(parts, math.ceil(size / self.metered_bytes))
        return Usage(requests=parts, http_api_calls=metered, bytes_out=size)

    def upload(self, size: int, *, at_once: bool = False) -> Usage:
        """Parts and their commit; several are announced before. Or `at_once`, if it is one part."""
        parts = max(1, math.ceil(size / self.part_bytes))
        if at_once and parts == 1 and not self.direct:
            return self.call(bytes_in=size)
        found = self.call(bytes_in=REQUEST)
        if parts > 1 or self.direct:
            found += self.call(bytes_in=REQUEST, times=math.ceil(parts / PARTS_ANNOUNCED))
        if self.direct:
            return found
        metered = max(parts, math.ceil(size / self.metered_bytes))
        sent = Usage(requests=parts, http_api_calls=metered, bytes_in=size)
        return found + sent + Usage(bytes_out=ANSWER * parts)

    def polling(self, start: float, end: float, told: float = 0.0) -> float:
        """How often a client asks while it waits, of whom a share is told when to."""
        advised = polls(start, end, self.poll_min, self.poll_max, self.each)
        return (1 - told) * advised + told * max(0.0, end - start) / TOLD_SECONDS

    def setup(
        self,
        config: Config,
        model_size: int,
        clients: int,
        waited_from: Sequence[float],
        end: float,
        told: float = 0.0,
    ) -> Usage:
        """Everything before the first round; all times are since the experiment's creation.

        `waited_from` is when clients enrolled, or a sample of that; `told` is a share of them.
        """
        found = self.call(bytes_in=REQUEST) + self.upload(model_size)
        digits = len(str(config.dataset_size)) + 1
        shard = config.dataset_size / config.clients * digits
        found += self.call(bytes_in=REQUEST, bytes_out=ANSWER + shard, times=clients)
        asked = sum(self.polling(start, end, told) for start in waited_from)
        return found + self.call(times=asked * clients / max(len(waited_from), 1))

    def round(
        self,
        round_: Round,
        reports: Collection[Report],
        model_size: int,
        clients: int,
        until: float,
        told: float = 0.0,
    ) -> Usage:
        """A round up to `until`; `clients` are enrolled and not revoked."""
        length = max(0.0, until - round_.opened_at)
        drawn, turns = _drawn(round_)
        found = (self.call() + self.download(model_size)) * turns
        for report in reports:
            found += self.upload(report.size, at_once=True)
        # A client that has uploaded asks at once, unless somebody tells it when to; one that was
        # not drawn came in the middle of its pause.
        asked = max(0, clients - drawn) * self.polling(0.0, length, told)
        for report in reports:
            waited = self.polling(report.at - round_.opened_at, length, told)
            asked += (1 - told) + max(0.0, waited - 0.5 * (1 - told))
        found += self.call(times=asked)
        if round_.closed_at is not None:
            # A simulation, which tells its clients when to ask, reads what each round has made.
            found += self.call(bytes_out=VIEW, times=told * READS)
        return found + Usage(aggregation_seconds=round_.aggregation_seconds or 0.0)

    def pausing(self, config: Config, clients: int, length: float) -> Usage:
        """An experiment that is paused for so long."""
        least, most = paused_bounds(config, self.poll_min, self.poll_max)
        return self.call(times=clients * polls(0.0, length, least, most, self.each))

    def around(
        self,
        config: Config,
        age: float,
        evaluations: int,
        model_size: int,
        told: float = 0.0,
    ) -> Usage:
        """What no round has: the ticks, who watches, and reports on models (each downloads one)."""
        found = Usage(ticks=age / TICK_SECONDS)
        view = VIEW + MEMBER * config.clients_per_round
        looks = polls(0.0, age, 1.0, self.poll_max, self.each)
        looks = (1 - told) * looks + told * age / (LOOK_SECONDS + self.each)
        found += self.call(bytes_out=view, times=looks)
        return found + (self.call(bytes_in=REQUEST) + self.download(model_size)) * evaluations

    def farewell(self, clients: int, told: float = 0.0) -> Usage:
        """Each client asks, and learns that the experiment has ended; but who is told need not."""
        return self.call(times=clients * (1 - told))


def _drawn(round_: Round) -> tuple[int, int]:
    """How many clients were drawn, and how many trainings that made, over all attempts."""
    everyone, turns, settled = set[int](), 0, set[int]()
    for attempt in round_.earlier:
        everyone.update(attempt.cohort)
        turns += len({*attempt.cohort} - settled)
        settled |= {*attempt.reported, *attempt.refused}
    everyone.update(round_.cohort)
    return len(everyone), turns + len({*round_.cohort} - settled)

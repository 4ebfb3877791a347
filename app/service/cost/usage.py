"""Derives from a run's records how many calls it takes; the coordinator counts none of them.

A poll writes nothing, so no record says how often clients ask. But the coordinator advises their
pauses, and the records say which clients were drawn, and when their updates came. The result is an
estimate. It assumes that every client asks as advised, that each drawn client downloads the model
once an attempt, and that one person watches the experiment. Times are in seconds.

`told` is the share of clients that a simulation tells when to ask, so that they rarely poll.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.prices import Usage
from serverless_fl.domain.records import MAX_ANNOUNCED
from serverless_fl.domain.round import Round
from serverless_fl.schedule import schedule_of

SHARE = 0.03  # a client's next pause, as a share of the time that it has waited so far
TOLD_SECONDS = 60.0  # between two polls of a client that a simulation tells when to ask
LOOK_SECONDS = 0.3  # between two looks of that simulation at the experiment
READS = 2  # calls in which it reads a closed round: the round, and the list of models
TICK_SECONDS = 60.0  # the schedule in template.yaml
# Bytes of bodies, measured in runs. A view has MEMBER more for each client of the cohort.
ANSWER, REQUEST, VIEW, MEMBER = 150, 250, 2100, 300


def pause(waited: float, least: float, most: float) -> float:
    """The advised pause of a client that has waited so long.

    It grows with the wait: clients of a long round ask seldom, and those of a short one in time.
    """
    return min(max(SHARE * waited, least), most)


def paused_bounds(config: Config, least: float, most: float) -> tuple[float, float]:
    """The least and the most pause while the experiment is paused, perhaps for days.

    A client must still be back before the deadline of a round that opens after the pause.
    """
    in_time = max(config.deadline_seconds / 4, least)
    shortest = min(most, in_time)
    return shortest, max(shortest, min(20 * most, in_time))


def polls(start: float, end: float, least: float, most: float, each: float) -> float:
    """How often a client asks from `start` to `end`, in seconds since its wait began.

    This is the integral of 1 / (pause + each), where an answer takes `each` seconds.
    """
    least = min(least, most)
    rising, flat = least / SHARE, most / SHARE  # the pause grows between these
    early = max(0.0, min(end, rising) - start)
    late = max(0.0, end - max(start, flat))
    low, high = min(max(start, rising), flat), min(max(end, rising), flat)
    growing = math.log((SHARE * high + each) / (SHARE * low + each)) / SHARE if high > low else 0.0
    return early / (least + each) + growing + late / (most + each)


@dataclass(frozen=True, kw_only=True)
class Report:
    """An update that came, accepted or refused: the time, and the size in bytes."""

    at: float
    size: int


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms on which clients talk to the coordinator: sizes in bytes, times in seconds.

    `direct`: clients move weights to and from the bucket. `each`: the time that an answer takes.
    """

    part_bytes: int
    direct: bool
    poll_min: float
    poll_max: float
    metered_bytes: int
    each: float

    def call(self, bytes_in: float = 0, bytes_out: float = ANSWER, times: float = 1) -> Usage:
        """One call, or several equal ones."""
        metered = max(1, math.ceil((bytes_in + bytes_out) / self.metered_bytes))
        one = Usage(requests=1, http_api_calls=metered, bytes_in=bytes_in, bytes_out=bytes_out)
        return one * times

    def download(self, size: int) -> Usage:
        """The download of a model, in ranges or by signed URLs."""
        parts = max(1, math.ceil(size / self.part_bytes))
        if self.direct:  # pages of its parts, until an empty one
            pages = 1 + math.ceil(parts / MAX_ANNOUNCED)
            return self.call(times=pages) + Usage(bytes_direct=size)
        metered = max(parts, math.ceil(size / self.metered_bytes))
        return Usage(requests=parts, http_api_calls=metered, bytes_out=size)

    def upload(self, size: int, *, at_once: bool = False) -> Usage:
        """The upload of a file: announcements, parts, commit. `at_once`: one part in one call."""
        parts = max(1, math.ceil(size / self.part_bytes))
        if at_once and parts == 1 and not self.direct:
            return self.call(bytes_in=size)
        found = self.call(bytes_in=REQUEST)
        if parts > 1 or self.direct:
            found += self.call(bytes_in=REQUEST, times=math.ceil(parts / MAX_ANNOUNCED))
        if self.direct:
            return found
        metered = max(parts, math.ceil(size / self.metered_bytes))
        sent = Usage(requests=parts, http_api_calls=metered, bytes_in=size)
        return found + sent + Usage(bytes_out=ANSWER * parts)

    def polling(self, start: float, end: float, told: float = 0.0) -> float:
        """How often a client asks while it waits, on average over those told when to and not."""
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

        `waited_from` holds the times at which clients enrolled, or a sample of them.
        """
        found = self.call(bytes_in=REQUEST) + self.upload(model_size)
        size = config.dataset_size or 0  # parties with data of their own get no list
        shard = size / config.clients * (len(str(size)) + 1)
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
        state_sizes: Iterable[int] = (),
    ) -> Usage:
        """A round up to `until`; so many `clients` are enrolled and not revoked.

        `state_sizes` are those of the strategy's state that clients download with the model.
        """
        length = max(0.0, until - round_.opened_at)
        drawn, turns = _drawn(round_)
        found = (self.call() + self.download(model_size)) * turns
        for size in state_sizes:
            found += self.download(size) * turns
        for report in reports:
            found += self.upload(report.size, at_once=True)
        # A client that has uploaded asks at once, unless a simulation tells it when to. A client
        # that was not drawn is in the middle of its pause when the round opens.
        asked = max(0, clients - drawn) * self.polling(0.0, length, told)
        for report in reports:
            waited = self.polling(report.at - round_.opened_at, length, told)
            asked += (1 - told) + max(0.0, waited - 0.5 * (1 - told))
        found += self.call(times=asked)
        if round_.closed_at is not None:
            # A simulation reads each closed round and its model.
            found += self.call(bytes_out=VIEW, times=told * READS)
        return found + Usage(aggregation_seconds=round_.aggregation_seconds or 0.0)

    def pausing(self, config: Config, clients: int, length: float) -> Usage:
        """A pause of this length."""
        least, most = paused_bounds(config, self.poll_min, self.poll_max)
        return self.call(times=clients * polls(0.0, length, least, most, self.each))

    def overhead(
        self,
        config: Config,
        age: float,
        evaluations: int,
        model_size: int,
        told: float = 0.0,
    ) -> Usage:
        """What belongs to no round: ticks, a watcher, and evaluations (each downloads a model)."""
        found = Usage(ticks=age / TICK_SECONDS)
        view = VIEW + MEMBER * schedule_of(config).size(config)
        looks = polls(0.0, age, 1.0, self.poll_max, self.each)
        looks = (1 - told) * looks + told * age / (LOOK_SECONDS + self.each)
        found += self.call(bytes_out=view, times=looks)
        return found + (self.call(bytes_in=REQUEST) + self.download(model_size)) * evaluations

    def farewell(self, clients: int, told: float = 0.0) -> Usage:
        """Each client asks once more, and learns that the experiment has ended."""
        return self.call(times=clients * (1 - told))


def _drawn(round_: Round) -> tuple[int, int]:
    """The number of drawn clients, and of their trainings, over all attempts."""
    everyone, turns, settled = set[int](), 0, set[int]()
    for attempt in round_.earlier:
        everyone.update(attempt.cohort)
        turns += len({*attempt.cohort} - settled)
        settled |= {*attempt.reported, *attempt.refused}
    everyone.update(round_.cohort)
    return len(everyone), turns + len({*round_.cohort} - settled)

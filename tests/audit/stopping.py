"""Runs that may stop at their target, simulated without training."""

from __future__ import annotations

import math
import random

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.records import Blob, Update
from serverless_fl.domain.round import Round
from serverless_fl.domain.stopping import decide

BLOB = Blob(prefix="", sha256="", parts=(), sizes=())


def settings(**changes):
    given = {"dataset": "d", "dataset_size": 20_000, "model": "m", "target_accuracy": 0.9}
    return Config(**(given | changes))


def update(slot, accuracy, examples=900):
    return Update(
        experiment_id="e",
        round=1,
        slot=slot,
        blob=BLOB,
        offset=0,
        num_examples=examples,
        metrics={} if accuracy is None else {"accuracy_before": accuracy},
        received_at=0.0,
    )


def round_(number):
    return Round(experiment_id="e", number=number, cohort=(), opened_at=0.0, deadline=1.0)


class Federation:
    """Clients whose held-out examples are right or wrong, by a model that gets better.

    An example has a difficulty of its own, so that it is right or wrong again in later rounds: the
    same few examples are no new evidence.
    """

    def __init__(self, dice, config, plateau, tenacity):
        self.dice, self.config, self.plateau = dice, config, plateau
        self.tenacity = tenacity
        self.tenth = config.dataset_size // config.clients // 10
        self.hardness = [[dice.random() for _ in range(self.tenth)] for _ in range(config.clients)]

    def accuracy(self, version):
        return self.plateau - (self.plateau - 0.1) * math.exp(-version / 1.5)

    def report(self, slot, version):
        right = 0
        for own in self.hardness[slot]:
            luck = own if self.dice.random() < self.tenacity else self.dice.random()
            right += luck < self.accuracy(version)
        trained = self.config.dataset_size // self.config.clients - self.tenth
        return update(slot, right / self.tenth, trained)

    def run(self):
        """The round after which it stopped at its target, if it did."""
        streak, before = 0, []
        for number in range(1, self.config.rounds + 1):
            cohort = self.dice.sample(range(self.config.clients), self.config.clients_per_round)
            updates = [self.report(slot, number - 1) for slot in cohort]
            verdict = decide(self.config, streak, round_(number), updates, before)
            if verdict.reason is not None:
                return number
            streak, before = verdict.streak, [updates, *before][: self.config.patience]
        return None


def runs(count, plateaus, tenacity, **changes):
    """How many runs stopped at their target, and how many of those had met it.

    `plateaus` bounds the accuracy that a run's models approach; `tenacity` is the share of answers
    that an example keeps from round to round.
    """
    dice, stopped, met = random.Random(11), 0, 0
    config = settings(rounds=25, **changes)
    for _ in range(count):
        federation = Federation(dice, config, dice.uniform(*plateaus), tenacity)
        number = federation.run()
        if number is not None:
            stopped += 1
            met += federation.accuracy(number) >= config.target_accuracy
    return stopped, met

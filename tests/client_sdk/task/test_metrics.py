"""A trainer's metrics, of whatever type, never cost its update."""

import asyncio
import decimal
import fractions
import logging
import math

import numpy as np
import pytest
import torch

from client_sdk.errors import DataError
from client_sdk.participant import Participant
from client_sdk.task import metrics
from client_sdk.task.task import LocalUpdate
from tests.support.federation import value_of, weights
from tests.support.participants import take_part


class Odd:
    """A type of a user's own that fails in every way."""

    def __float__(self):
        raise ZeroDivisionError

    def __repr__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.float16(0.25), 0.25),
        (np.int64(7), 7.0),
        (np.bool_(True), 1.0),
        (np.array(0.5), 0.5),
        (np.array([[3]]), 3.0),
        (torch.tensor(0.5), 0.5),
        (torch.tensor([2.0], requires_grad=True), 2.0),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (decimal.Decimal("0.5"), 0.5),
        (fractions.Fraction(1, 2), 0.5),
    ],
    ids=repr,
)
def test_numbers_of_any_library_become_floats(value, number):
    kept, dropped = metrics.clean({"m": value})
    assert kept == {"m": number}
    assert type(kept["m"]) is float
    assert dropped == []


@pytest.mark.parametrize(
    "value",
    [
        *("0.5", b"1", None, [], {}, 1j, np.complex64(1j), object(), Odd()),
        *(np.array([1.0, 2.0]), np.array(["1"]), np.datetime64("2026-01-01"), torch.ones(2)),
        *(math.nan, math.inf, -math.inf, 1e31, 10**400, np.float32("nan"), torch.tensor(math.inf)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_left_out_with_a_sentence(value):
    kept, dropped = metrics.clean({"m": value, "other": 0.5})
    assert kept == {"other": 0.5}
    assert len(dropped) == 1
    assert dropped[0].endswith(".")


@pytest.mark.parametrize("name", ["", "val/acc", "a b", "é", "x" * 65, "a\n", 7, None])
def test_names_that_the_coordinator_does_not_take_are_left_out(name):
    kept, dropped = metrics.clean({name: 0.5, "other": 0.5})
    assert kept == {"other": 0.5}
    assert len(dropped) == 1


def test_no_more_than_it_takes_and_no_mapping_is_none():
    kept, dropped = metrics.clean({f"m{n}": n for n in range(35)})
    assert list(kept) == [f"m{n}" for n in range(32)]
    assert len(dropped) == 3
    assert metrics.clean(None) == ({}, [])
    for wrong in ([("a", 1)], 0.5, "a"):
        kept, dropped = metrics.clean(wrong)
        assert kept == {}
        assert len(dropped) == 1


def test_a_training_that_diverged_is_one_sentence():
    found = {"train_loss": math.nan, "loss_after": math.inf, "accuracy_after": 0.1}
    kept, dropped = metrics.clean(found)
    assert kept == {"accuracy_after": 0.1}
    assert dropped == [
        "Not finite, so left out of the metrics: train_loss (nan), loss_after (inf)."
    ]


@pytest.mark.parametrize("value", [np.int64(5), torch.tensor(5), True, 5])
def test_counts_may_be_whole_numbers_of_any_library(value):
    assert metrics.whole(value, "count") == int(value)


@pytest.mark.parametrize("value", [5.0, "5", None, np.float32(5), torch.ones(2)])
def test_counts_that_are_none_are_a_sentence(value):
    with pytest.raises(DataError, match="must be a whole number"):
        metrics.whole(value, "count")


class Own:
    """A trainer that adds one, with the metrics that it is told."""

    def __init__(self, found):
        self.found = found

    async def train(self, client_id, indices, data, task):
        update = weights(value_of(data) + 1)
        return LocalUpdate(bytearray(update), np.int64(len(indices)), self.found)


@pytest.mark.parametrize(
    "found",
    [
        {"note": "x", "f1": None, "acc": np.float32(0.5)},
        {"val/acc": 0.5, "acc": torch.tensor(0.5)},
        {"acc": 0.5, "loss": math.nan, "per_class": np.ones(3)},
    ],
    ids=["text", "name", "shape"],
)
async def test_the_update_counts_whatever_its_metrics(federation, found):
    shown, events = await take_part(federation, Own(found), rounds=1)
    assert value_of(await federation.admin.download_model(shown.id)) == 1.0
    assert shown.history[0].metrics == {"acc": 0.5}
    told = [e.message for e in events if e.kind == "dropped"]
    assert told
    assert all("left out" in message for message in told)


async def test_where_nobody_listens_the_loss_is_logged(federation, caplog):
    settings = {"clients": 1, "clients_per_round": 1, "rounds": 1}
    experiment, key = await federation.create(**settings)
    client = Participant(federation.admin, experiment, "1" * 40, Own({"f1": None}))
    await client.enrol(key)
    async with asyncio.timeout(30):
        with caplog.at_level(logging.WARNING, "client_sdk"):
            await client.run()
    assert "'f1' is left out: None is no number" in caplog.text

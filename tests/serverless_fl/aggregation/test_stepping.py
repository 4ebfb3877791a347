"""A step over a span: tensors of numbers take it, whole numbers do not, NaN ends it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from serverless_fl.aggregation.fedavg import FedAvg
from serverless_fl.aggregation.median import Median
from serverless_fl.aggregation.stepping import StrategyFault, has_step, step_span
from serverless_fl.aggregation.strategy import RoundFacts, Strategy, TrainingFacts
from serverless_fl.weights import spans
from serverless_fl.weights.header import read_header, write_header

FACTS = RoundFacts(
    number=1,
    updates=(),
    clients=1,
    training=TrainingFacts(local_epochs=1, batch_size=1, learning_rate=1, momentum=0),
)
KINDS = [("w", "F32", (3,)), ("n", "I64", (2,)), ("h", "F16", (1,))]
SPAN = spans.whole(read_header(write_header(KINDS)))


class Far(Strategy):
    """Goes `times` as far as the mean, and counts the steps."""

    name: Literal["far"] = "far"
    times: float = 2.0

    @property
    def state(self):
        return {"steps": 5.0}

    def step(self, base, reduced, state, facts):
        change = (reduced["weights"] - base) * self.times
        return base + change, {"steps": state["steps"] + 1}


def stepped(strategy, state=None, reduced=(1, 2, 3, 10, 20, 4)):
    base = [np.zeros(3, np.float32), np.zeros(2, np.int64), np.zeros(1, np.float16)]
    return step_span(
        strategy, SPAN, base, {"weights": np.array(reduced, float)}, state or {}, FACTS
    )


def test_numbers_take_the_step_and_whole_numbers_the_mean():
    found = stepped(Far())
    assert found.weights.tolist() == [2, 4, 6, 10, 20, 8]
    assert found.state["steps"].tolist() == [6, 6, 6, 0, 0, 6]


def test_state_goes_on_from_the_version_before():
    before = [np.full(3, 7, np.float32), np.zeros(2, np.int64), np.full(1, 8, np.float16)]
    assert stepped(Far(), {"steps": before}).state["steps"].tolist() == [8, 8, 8, 0, 0, 9]


def test_a_value_beyond_its_dtype_is_the_nearest_finite_one():
    assert stepped(Far(times=20_000)).weights[-1] == 65504
    assert stepped(Far(times=-20_000)).weights[-1] == -65504


def test_nan_is_a_fault_that_names_the_tensor():
    with pytest.raises(StrategyFault, match="computes NaN for tensor 'h'"):
        stepped(Far(), reduced=(1, 2, 3, 10, 20, np.nan))


def test_a_strategy_without_a_step_is_known():
    assert [has_step(s) for s in (FedAvg(), Median(), Far())] == [False, False, True]

"""The start-up check: every seed must agree, and nothing but a tie excuses one that does not."""

import math

import pytest
import torch

from client_sdk.task import models
from client_sdk.task.compiled import agreement
from client_sdk.task.compiled.agreement import compare, disagreement
from client_sdk.task.train import train

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = models.spec_for("digits-cnn", (1, 8, 8), 10)


def wrong(seeds, by=1e-3):
    """A loop that moves one weight by too much, for some seeds."""

    def loop(model, x, y, settings, seed):
        loss = train(model, x, y, settings, seed)
        if seed in seeds:
            with torch.no_grad():
                model.fc2.bias[0] += by
        return loss

    return loop


def test_the_same_loop_agrees_with_itself():
    assert compare(train, SPEC, 0) == (0.0, 0)
    assert disagreement(train, SPEC) == ""


@pytest.mark.parametrize("seed", range(agreement.SEEDS))
def test_one_wrong_seed_is_enough(seed):
    assert all(compare(train, SPEC, n)[1] == 0 for n in range(agreement.SEEDS))
    assert disagreement(wrong({seed}), SPEC) == "it differs from PyTorch by 1.0e-03"


def test_nan_is_no_agreement():
    assert "nan" in disagreement(wrong({0}, math.nan), SPEC)

    def silent(model, x, y, settings, seed):
        train(model, x, y, settings, seed)
        return math.nan

    assert "nan" in disagreement(silent, SPEC)


def test_a_tie_excuses_some_seeds_but_never_all(monkeypatch):
    monkeypatch.setattr(agreement, "_ties", lambda sums: 1)
    assert disagreement(wrong({0, 2, 4}), SPEC) == ""
    assert disagreement(wrong(range(100)), SPEC) == "it differs from PyTorch by 1.0e-03"


def test_ties_are_counted_by_hand():
    ties = agreement._ties
    one = torch.tensor([[5.0, 1.0], [5.0 - 1e-7, 0.0]]).view(1, 1, 2, 2)
    assert ties(one) == 1  # the two largest
    assert ties(torch.tensor([[5.0, 1.0], [4.9, 4.9]]).view(1, 1, 2, 2)) == 0
    assert ties(torch.tensor([[-5.0, -4.0], [-4.0, -6.0]]).view(1, 1, 2, 2)) == 0  # closed
    assert ties(torch.tensor([[-5.0, 1e-9], [-4.0, -6.0]]).view(1, 1, 2, 2)) == 1  # open or not
    assert ties(torch.tensor([[5.0, 1e-9, -1e-9, -3.0]])) == 2

"""Training processes that run out of memory."""

import asyncio
from pathlib import Path

import pytest
import torch

from client_sdk.data import datasets
from client_sdk.engines.processes import TrainingPool
from client_sdk.errors import TrainingFailed
from client_sdk.task import models


def test_an_allocation_that_fails_ends_in_words():
    digits = datasets.load("digits", Path("nowhere"))
    spec = models.spec_for("auto", digits.shape, 10)
    with TrainingPool(digits, spec, workers=1, kernel="torch") as pool:
        for allocate, size in ((bytearray, 2**62), (torch.empty, 2**58)):
            with pytest.raises(TrainingFailed, match="needs more memory than there is"):
                asyncio.run(pool._run(allocate, size))
        with pytest.raises(RuntimeError, match="size"):  # other faults stay what they are
            asyncio.run(pool._run(torch.ones(2).view, 3))

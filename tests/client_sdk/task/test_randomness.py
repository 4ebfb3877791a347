"""Generators of the process, seeded for a while."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch

from client_sdk.task.randomness import all_seeded, torch_seeded


def drawn():
    return random.random(), np.random.random(), torch.rand(1).item()


def test_draws_are_a_function_of_the_seed_and_the_generators_are_as_before():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = drawn()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    found = []
    for seed in (7, 2**63 + 7, 8):
        with all_seeded(seed):
            found.append(drawn())
    with torch_seeded(8):
        assert torch.rand(1).item() == found[2][2]
    assert drawn() == expected
    with all_seeded(7):
        assert drawn() == found[0]
    assert found[0] != found[2]


@pytest.mark.parametrize("other", [all_seeded, torch_seeded])
def test_another_thread_waits_until_the_generators_are_free(other):
    entered = threading.Event()

    def draw():
        with other(1):
            entered.set()

    with torch_seeded(0), all_seeded(0):  # one thread may do so twice
        thread = threading.Thread(target=draw)
        thread.start()
        assert not entered.wait(0.2)
    thread.join(60)
    assert entered.is_set()

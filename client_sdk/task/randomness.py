"""Random numbers that are functions of a seed, in code that draws from generators of its process.

Python, NumPy and PyTorch have one such generator each for all threads. So while a thread has seeded
them here, the others wait, and afterwards the generators are as before.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import Iterator

import numpy as np

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """What PyTorch draws in it on the CPU is a function of the seed."""
    import torch  # not for all: a client of another library has none

    with _one_at_a_time, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        yield


@contextlib.contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """The same of Python, NumPy, and PyTorch where it has been imported."""
    of_torch = torch_seeded(seed) if "torch" in sys.modules else contextlib.nullcontext()
    with _one_at_a_time, of_torch:
        of_python, of_numpy = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)

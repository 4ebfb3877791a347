"""Where training processes come from on Linux: forks of a server that imports their libraries once.

A process that imports PyTorch by itself needs a second of a core. The server is multiprocessing's
own. It is a new process with one thread, which only imports: a fork of this process could copy
PyTorch's thread pools in an unknown state. The server ends with this process, and stays until then:
the next engine finds it ready. Other systems spawn each process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from typing import Any

from client_sdk import interrupts

AVAILABLE = sys.platform == "linux"

# What a task of the classic run needs; `client_sdk.task.pictures` imports PyTorch.
PICTURES = ("client_sdk.task.local", "client_sdk.task.pictures", "torch.multiprocessing")

# A training process has one core. Without these, OpenBLAS and OpenMP make a thread a core, and a
# fork does not copy threads.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start(libraries: Iterable[str]) -> None:
    """Start the server, which imports these modules, and return at once; once, where available.

    A module that the server cannot import is left to the training processes. Raises OSError.
    """
    if not AVAILABLE:
        return
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(libraries))
    path = os.pathsep.join(folder for folder in sys.path if folder)
    resource_tracker.ensure_running()  # started within the context, it would let Ctrl-C through
    # Without the working folder, which may hold a random.py of the user's own.
    variables = _ONE_THREAD | {"PYTHONSAFEPATH": "1", "PYTHONPATH": path}
    with _environment(variables), interrupts.kept_from_children():
        forkserver.ensure_running()


def loaded_libraries() -> list[str]:
    """What this process has imported and its training processes will need."""
    ours = [
        name for name in sys.modules if name.startswith(("client_sdk.task.", "client_sdk.data."))
    ]
    others = [name for name in ("torch.multiprocessing", "sklearn") if name in sys.modules]
    return [*others, *ours]


def context() -> Any:
    """The way to start processes: of the server, or by spawning.

    PyTorch's multiprocessing passes tensors in shared memory by reference, once it is imported.
    """
    if "torch" in sys.modules:
        import torch.multiprocessing  # noqa: F401
    return multiprocessing.get_context("forkserver" if AVAILABLE else "spawn")


@contextmanager
def killed_after(seconds: float) -> Iterator[None]:
    """End the server if the context takes longer: its start of a process raises EOFError then.

    The next engine starts a new server.
    """
    timer = threading.Timer(seconds, _kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill() -> None:
    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that start inside; OMP_NUM_THREADS of a user's own stays."""
    before = dict(os.environ)
    os.environ.update(variables | {name: before[name] for name in _ONE_THREAD if name in before})
    try:
        yield
    finally:
        for name in variables:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]

"""Local training in worker processes: one a core, with the data set in shared memory.

Each worker trains one client at a time on one core: the threads of PyTorch and of twenty clients
would fight for the cores. Workers run the compiled loop (`client_sdk.task.compiled.native`) where
this machine has it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Self, TypeVar

import torch
import torch.multiprocessing

from client_sdk import interrupts
from client_sdk.data.dataset import Dataset
from client_sdk.data.holdout import hold_out
from client_sdk.data.seeds import derive_seed
from client_sdk.errors import BadSettings, DataError, TrainingFailed
from client_sdk.task.compiled.native import Kernel, Unavailable, compile_kernel
from client_sdk.task.model_file import load_bytes
from client_sdk.task.models import ModelSpec, build
from client_sdk.task.train import (
    Evaluation,
    LocalUpdate,
    TrainSettings,
    evaluate,
    local_update,
    pick_device,
)
from serverless_fl.wire.turns import Train

T = TypeVar("T")

_state: dict[str, object] = {}  # of a worker: the data set and the model's shape


def usable_cores() -> int:
    """The cores that this process may use (containers and taskset limit them)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class TrainingPool:
    """Trains clients of one data set side by side. Use it as a context manager.

    `kernel` chooses the loop: "native" is machine code on the CPU, also where there is a GPU;
    "torch" is PyTorch, on the GPU where there is one; "auto" is native where this machine can
    compile it and has no GPU. `loop` says in words what trains, once the pool is prepared.

    Entering calls `start` and `prepare`. A caller that has something else to do while the processes
    import PyTorch calls them itself. `train` and `evaluate` raise TrainingFailed where a worker
    process died, or where there is too little memory.
    """

    loop = ""

    def __init__(
        self, dataset: Dataset, spec: ModelSpec, workers: int | None = None, kernel: str = "auto"
    ) -> None:
        self.workers = workers or usable_cores()
        self._dataset, self._spec, self._wanted = dataset, spec, kernel
        self._pool: ProcessPoolExecutor | None = None
        self._kernel: Kernel | None = None

    def start(self) -> None:
        """Start the processes, which import PyTorch for seconds; once.

        Raises DataError where shared memory has no room for the data.
        """
        if self._pool is not None:
            return
        self._share()
        # Spawned, not forked: a fork would copy PyTorch's thread pool in an unknown state.
        self._pool = ProcessPoolExecutor(
            self.workers,
            mp_context=torch.multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._dataset, self._spec),
        )
        with interrupts.kept_from_children():
            for _ in range(self.workers):  # the executor starts a process when a job arrives
                self._pool.submit(_do_nothing)

    def _share(self) -> None:
        """Hand the data set to the workers by reference. Raises DataError."""
        parts = (self._dataset.train_x, self._dataset.train_y)
        try:
            for tensor in parts:
                tensor.share_memory_()
        except RuntimeError as error:
            size = sum(tensor.nbytes for tensor in parts) / 1e6
            raise DataError(
                f"The machine's shared memory has no room for {size:.0f} MB of training data: "
                "in a container, give it more of /dev/shm (docker run --shm-size)."
            ) from error

    def prepare(self) -> None:
        """Compile the loop, which may take a second, or load it.

        Raises BadSettings where `kernel` is "native" and this machine has no such loop.
        """
        self._kernel, self.loop = _choose(self._spec, self._wanted)

    def __enter__(self) -> Self:
        self.start()
        try:
            self.prepare()
        except BadSettings:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        processes = list((getattr(self._pool, "_processes", None) or {}).values())
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:  # one may be in the middle of ten epochs
            process.terminate()
        for process in processes:
            process.join(5)

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, task: Train
    ) -> LocalUpdate:
        """Train one client for one round, on the next free core."""
        return await self._run(_train, client_id, list(indices), weights, task, self._kernel)

    async def evaluate(
        self, client_id: str, indices: Sequence[int], weights: bytes, seed: int
    ) -> Evaluation:
        """Measure a model on the examples that one client holds out, on the next free core."""
        return await self._run(_evaluate, client_id, list(indices), weights, seed)

    async def _run(self, job: Callable[..., T], *arguments: object) -> T:
        assert self._pool is not None  # noqa: S101
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, job, *arguments)
        except BrokenProcessPool as error:
            raise TrainingFailed(
                "A training process died; is the machine out of memory? Fewer --workers need less."
            ) from error
        except (MemoryError, RuntimeError) as error:  # PyTorch's allocator raises the latter
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            raise TrainingFailed(
                "Training needs more memory than there is: fewer --workers, a smaller --batch-size "
                "or a smaller --image-size need less."
            ) from error


def _choose(spec: ModelSpec, kernel: str) -> tuple[Kernel | None, str]:
    """The compiled loop, if it is to train, and what trains in words. Raises BadSettings."""
    device = pick_device().type
    if kernel == "torch" or (kernel == "auto" and device != "cpu"):
        return None, f"PyTorch on {device}"
    try:
        compiled = compile_kernel(spec)
    except Unavailable as reason:
        if kernel == "native":
            raise BadSettings(f"--kernel native cannot be had here: {reason}.") from reason
        return None, f"PyTorch on {device} (no machine code: {reason})"
    return compiled, f"machine code by {compiled.compiler} on cpu"


def _start_worker(dataset: Dataset, spec: ModelSpec) -> None:
    # A terminal sends Ctrl-C to the whole group of processes; the parent alone handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _state["dataset"], _state["spec"] = dataset, spec


def _end_with_parent() -> None:
    """End this process when its parent is killed, which cannot end it any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101
    parent.join()  # returns when the pipe from the parent closes
    os._exit(1)


def _do_nothing() -> None:
    """A job that makes the executor start a process."""


def _train(
    client_id: str, indices: list[int], weights: bytes, task: Train, kernel: Kernel | None
) -> LocalUpdate:
    dataset, spec = _loaded()
    settings, seed = task.training, task.training.seed
    mine, held_out = hold_out(indices, derive_seed(seed, "holdout", client_id))
    return local_update(
        weights,
        spec,
        dataset.normalise(dataset.train_x[mine]),
        dataset.train_y[mine],
        dataset.normalise(dataset.train_x[held_out]),
        dataset.train_y[held_out],
        TrainSettings(
            epochs=settings.local_epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        ),
        derive_seed(seed, "train", task.round, client_id),
        kernel.train if kernel else None,
    )


def _evaluate(client_id: str, indices: list[int], weights: bytes, seed: int) -> Evaluation:
    dataset, spec = _loaded()
    _, held_out = hold_out(indices, derive_seed(seed, "holdout", client_id))
    model = build(spec)
    load_bytes(model, weights)
    return evaluate(model, dataset.normalise(dataset.train_x[held_out]), dataset.train_y[held_out])


def _loaded() -> tuple[Dataset, ModelSpec]:
    """What `_start_worker` got."""
    dataset, spec = _state["dataset"], _state["spec"]
    assert isinstance(dataset, Dataset)  # noqa: S101
    assert isinstance(spec, ModelSpec)  # noqa: S101
    return dataset, spec

"""Local training in worker processes: as many as there are cores, one data set in shared memory.

PyTorch's threads and twenty clients' threads would fight for the cores; here each worker trains
one client at a time on one core, and the processes share the data set's pages. They run the
compiled loop (`client_sdk.task.compiled.native`) where it can be had.
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
from client_sdk.data.datasets import Dataset
from client_sdk.data.hold_out import split
from client_sdk.errors import DataError, TrainingFailed
from client_sdk.task.compiled.native import Kernel, Unavailable, compile_kernel
from client_sdk.task.models import ModelSpec, build, load_bytes
from client_sdk.task.train import (
    Evaluation,
    LocalUpdate,
    TrainSettings,
    derive_seed,
    evaluate,
    local_update,
    pick_device,
)
from serverless_fl.wire.turns import Train

T = TypeVar("T")

_state: dict[str, object] = {}  # a worker's own: the data set and the model's shape


def usable_cores() -> int:
    """The cores that this process may use (containers and taskset limit them)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class TrainingPool:
    """Trains clients of one data set side by side. Use it as a context manager.

    `start` starts the processes, which import PyTorch meanwhile; entering does the rest: `kernel`
    is "native" (machine code on the CPU, also where there is a GPU), "torch" (on the GPU where
    there is one) or "auto": native where this machine can compile it and has no GPU. `loop` then
    says in words what trains. Raises TrainingFailed from `train` where a worker process died (out
    of memory, say), from `start` DataError where the data finds no room in shared memory, and on
    entering Unavailable where native cannot be had.
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
        """Start the processes, if they are not."""
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
            for _ in range(self.workers):  # PyTorch takes seconds to import: they begin now
                self._pool.submit(_idle)

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

    def __enter__(self) -> Self:
        self.start()
        try:
            self._kernel, self.loop = _choose(self._spec, self._wanted)
        except Unavailable:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        processes = list((getattr(self._pool, "_processes", None) or {}).values())
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:  # a client may be in the middle of ten epochs
            process.terminate()
        for process in processes:
            process.join(5)

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, task: Train
    ) -> LocalUpdate:
        """One client's local training for one round, on the next free core."""
        return await self._run(_train, client_id, list(indices), weights, task, self._kernel)

    async def evaluate(
        self, client_id: str, indices: Sequence[int], weights: bytes, seed: int
    ) -> Evaluation:
        """A model on the examples that one client holds out, on the next free core."""
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
    device = pick_device().type
    if kernel == "torch" or (kernel == "auto" and device != "cpu"):
        return None, f"PyTorch on {device}"
    try:
        compiled = compile_kernel(spec)
    except Unavailable as reason:
        if kernel == "native":
            raise
        return None, f"PyTorch on {device} (no machine code: {reason})"
    return compiled, f"machine code by {compiled.compiler} on cpu"


def _start_worker(dataset: Dataset, spec: ModelSpec) -> None:
    # Ctrl-C goes to the whole group of processes; only the first is to handle it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _state["dataset"], _state["spec"] = dataset, spec


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers, which would wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101
    parent.join()  # until the pipe from it ends
    os._exit(1)


def _idle() -> None:
    """Nothing: by the time that it is done, a worker has started."""


def _train(
    client_id: str, indices: list[int], weights: bytes, task: Train, kernel: Kernel | None
) -> LocalUpdate:
    dataset, spec = _own()
    settings, seed = task.training, task.training.seed
    mine, held_out = split(indices, derive_seed(seed, "holdout", client_id))
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
    dataset, spec = _own()
    _, held_out = split(indices, derive_seed(seed, "holdout", client_id))
    model = build(spec)
    load_bytes(model, weights)
    return evaluate(model, dataset.normalise(dataset.train_x[held_out]), dataset.train_y[held_out])


def _own() -> tuple[Dataset, ModelSpec]:
    dataset, spec = _state["dataset"], _state["spec"]
    assert isinstance(dataset, Dataset)  # noqa: S101
    assert isinstance(spec, ModelSpec)  # noqa: S101
    return dataset, spec

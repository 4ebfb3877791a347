"""Local training in worker processes: one a core.

Each worker trains one client at a time on one core: the threads of PyTorch and of twenty clients
would fight for the cores. A torch tensor of the data lies in shared memory, and all else is copied
to each worker once. On Linux the workers are forks of one server (`fork_server`).
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing.connection
import os
import pickle  # nosec B403  (bytes of this process, for its own children)
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from client_sdk import interrupts
from client_sdk.data.data import Arrays, Data
from client_sdk.engines import fork_server
from client_sdk.engines.engine import lacks_memory, limit_threads, too_little_memory
from client_sdk.errors import BadSettings, DataError, TrainingFailed
from client_sdk.task.task import Task

T = TypeVar("T")

START_SECONDS = 300.0  # until the first process answers; a busy machine needs a while

_state: dict[str, Data] = {}  # of a worker


def usable_cores() -> int:
    """The cores that this process may use (containers and taskset limit them)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Processes:
    """Trains clients side by side in processes, `workers` of them: by default one a core.

    The task and the data must be picklable: `start` and `use` raise BadSettings where they are not.
    A script that starts processes needs `if __name__ == "__main__":`, because each process imports
    the script again.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or usable_cores()
        self._pool: ProcessPoolExecutor | None = None
        self._first: Future[None] | None = None  # a job that any process can do at once
        self._task = b""

    @property
    def description(self) -> str:
        """How many processes there are, in words."""
        return f"{self.workers} training process" + ("es" if self.workers > 1 else "")

    def start(self, data: Data) -> None:
        """Start the import of the libraries, which takes seconds; once.

        Raises DataError where shared memory has no room for the data, and BadSettings.
        """
        if self._pool is not None:
            return
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise BadSettings(
                "A training process imports this script again: put its last lines below `if "
                '__name__ == "__main__":`, or train in this process, with engine=InLine().'
            )
        fork_server.start(fork_server.loaded_libraries())
        context = fork_server.context()
        _share(data)
        _pickled(data, "data set")
        self._pool = ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=_start_worker, initargs=(data,)
        )
        if not fork_server.AVAILABLE:
            self._start_processes()

    def use(self, task: Task) -> None:
        """Give the workers the task, once they run.

        Raises BadSettings where it cannot be pickled, and TrainingFailed where no worker starts.
        """
        self._task = _pickled(task, "task")
        if fork_server.AVAILABLE:  # its first fork waits for the import
            self._start_processes()

    def _start_processes(self) -> None:
        """Start the processes. The executor starts one when a job arrives."""
        assert self._pool is not None  # noqa: S101
        try:
            with interrupts.kept_from_children(), fork_server.killed_after(START_SECONDS):
                self._first = self._pool.submit(_do_nothing)
                for _ in range(1, self.workers):
                    self._pool.submit(_do_nothing)
        except (EOFError, OSError) as error:
            raise _did_not_start() from error
        running: Any = self._pool
        parts = (running._processes, running._result_queue)
        threading.Thread(target=_end_after_a_death, args=parts, daemon=True, name="deaths").start()

    async def run(self, job: Callable[..., T], *arguments: Any) -> T:
        """Run a job on the next free core."""
        assert self._pool is not None  # noqa: S101
        assert self._first is not None  # noqa: S101
        loop = asyncio.get_running_loop()
        try:
            if not self._first.done():
                await _answer(self._first)
            return await loop.run_in_executor(self._pool, _run, job, self._task, *arguments)
        except BrokenProcessPool as error:
            raise TrainingFailed(
                "A training process died; is the machine out of memory? Fewer --workers need less."
            ) from error
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            raise too_little_memory() from error

    def close(self) -> None:
        """End the processes, also in the middle of a job."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        running: Any = pool
        processes, answers = running._processes, running._result_queue
        # A thread may be sending a job that nobody reads any more; this process's end would wait.
        running._call_queue.cancel_join_thread()
        pool.shutdown(wait=False, cancel_futures=True)
        _kill(processes, answers)
        for process in list(processes.values()):
            process.join(5)


_closing = threading.Lock()


def _kill(processes: Mapping[int, BaseProcess], answers: Any) -> None:
    """End an executor's processes at once, also in the middle of a job or an answer.

    The executor's thread waits for the rest of an answer until all writing ends of the pipe are
    closed, and the interpreter waits for the thread when it exits. This process writes no answers.
    """
    for process in list(processes.values()):
        process.kill()
    with _closing:  # two threads that close it at once would close another file of that number
        answers._writer.close()


def _end_after_a_death(processes: Mapping[int, BaseProcess], answers: Any) -> None:
    """End all of an executor's processes once one has died.

    A process that dies in the middle of an answer holds a lock that the others need to answer. The
    executor waits for the rest of the answer then, and notices nothing.
    """
    while not multiprocessing.connection.wait([p.sentinel for p in list(processes.values())], 1.0):
        pass  # the executor may have started another process
    _kill(processes, answers)


async def _answer(first: Future[None]) -> None:
    """Wait until a process has done its first job. Raises TrainingFailed where none does."""
    done = asyncio.wrap_future(first)
    if not (await asyncio.wait([done], timeout=START_SECONDS))[0]:
        raise _did_not_start()
    done.result()


def _did_not_start() -> TrainingFailed:
    return TrainingFailed(
        "The training processes did not start; is the machine out of memory, or its disk slow? "
        "engine=InLine() trains in this process."
    )


def _share(data: Data) -> None:
    """Move torch tensors into shared memory. Raises DataError."""
    tensors = [
        column
        for column in (data.columns if isinstance(data, Arrays) else ())
        if hasattr(column, "share_memory_")
    ]
    try:
        for tensor in tensors:
            tensor.share_memory_()
    except RuntimeError as error:
        size = sum(tensor.nbytes for tensor in tensors) / 1e6
        raise DataError(
            f"The machine's shared memory has no room for {size:.0f} MB of training data: "
            "in a container, give it more of /dev/shm (docker run --shm-size)."
        ) from error


def _pickled(found: object, what: str) -> bytes:
    """The bytes of an object, for other processes. Raises BadSettings, which names the trouble."""
    way_out = "move it into a module of its own, or train in this process, with engine=InLine()"
    try:
        data = multiprocessing.reduction.ForkingPickler.dumps(found)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise BadSettings(
            f"The {what} cannot be sent to other processes ({error}): {way_out}."
        ) from error
    main = sys.modules.get("__main__")
    if b"__main__" in bytes(data) and not hasattr(main, "__file__"):
        raise BadSettings(
            f"The {what} has a class or function of a notebook, which other processes cannot "
            f"import: {way_out}."
        )
    return bytes(data)


def _start_worker(data: Data) -> None:
    # A terminal sends Ctrl-C to the whole group of processes; the parent alone handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _state["data"] = data


def _end_with_parent() -> None:
    """End this process when its parent is killed, which cannot end it any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101
    parent.join()  # returns when the pipe from the parent closes
    os._exit(1)


def _do_nothing() -> None:
    """A job that makes the executor start a process."""


def _run(job: Callable[..., T], task: bytes, *arguments: Any) -> T:
    return job(_loaded(task), _state["data"], *arguments)


@functools.lru_cache(maxsize=1)
def _loaded(data: bytes) -> Task:
    task: Task = pickle.loads(data)  # noqa: S301  (of this worker's own parent)  # nosec B301
    limit_threads(1)
    return task

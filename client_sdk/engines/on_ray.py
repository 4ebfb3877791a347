"""Local training on a Ray cluster, of one machine or of many (extra `ray`).

Ray moves the jobs, and runs those of a lost machine again on another one. A job is a function of
its arguments, so the update is the same wherever, and however often, it is computed.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import pickle  # nosec B403  (for its error's class)
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from client_sdk import hints
from client_sdk.data.data import Data
from client_sdk.engines.engine import lacks_memory, limit_threads, too_little_memory
from client_sdk.errors import BadSettings, TrainingFailed
from client_sdk.task.task import Task

T = TypeVar("T")

RETRIES = 3  # of a job whose worker or machine died
CONNECT_SECONDS = 10.0


class Ray:
    """Trains each client as a task of a Ray cluster, on `cpus` cores and `gpus` GPUs.

    Uses the cluster that this process is connected to, or else the one that RAY_ADDRESS names;
    where there is neither, Ray starts one on this machine, which `close` ends. The data travel to
    each machine once, and a worker unpacks them once. Choose it where one machine has too few
    cores; on one machine `Processes` starts sooner and needs no other package.

    The machines need the same Python, this package, and the module of a task that is not part of
    it: connect with `ray.init(runtime_env={"working_dir": "."})` beforehand to send a folder along.
    """

    def __init__(self, *, cpus: float = 1, gpus: float = 0) -> None:
        self.cpus, self.gpus = cpus, gpus
        self.workers = 1
        self._ray: Any = None
        self._own = False  # whether this engine started or joined the cluster
        self._job: Any = None
        self._data: Any = None
        self._task: Any = None

    @property
    def description(self) -> str:
        """How many jobs run at the same time, in words."""
        return f"Ray, {self.workers} client{'s' if self.workers > 1 else ''} at a time"

    def start(self, data: Data) -> None:
        """Connect to the cluster and hand it the data; once.

        Raises BadSettings where Ray is not installed, the cluster cannot be reached or is too
        small, or the data cannot be pickled.
        """
        if self._ray is not None:
            return
        ray = _import_ray()
        if not ray.is_initialized():
            _connect(ray)
            self._own = True
        self._ray = ray
        self.workers = self._places(ray.cluster_resources())
        self._job = ray.remote(
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )(_run)
        self._data = self._put(data, "data set")

    def _places(self, resources: dict[str, float]) -> int:
        """How many jobs the cluster has room for. Raises BadSettings for none."""
        needs = {"CPU": self.cpus, "GPU": self.gpus}
        places = min(int(resources.get(name, 0) // need) for name, need in needs.items() if need)
        if not places:
            has = ", ".join(f"{resources.get(name, 0):g} {name}" for name in needs)
            wants = ", ".join(f"{need:g} {name}" for name, need in needs.items())
            raise BadSettings(f"A client needs {wants}, and the Ray cluster has {has}.")
        return places

    def use(self, task: Task) -> None:
        """Hand the cluster the task. Raises BadSettings where it cannot be pickled."""
        self._task = self._put(task, "task")

    def _put(self, found: object, what: str) -> Any:
        """A reference in a list: a job that gets a list fetches what it holds itself, once."""
        try:
            return [self._ray.put(found)]
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise BadSettings(
                f"The {what} cannot be sent to a Ray cluster ({error}): "
                "train in this process, with engine=InLine()."
            ) from error

    async def run(self, job: Callable[..., T], *arguments: Any) -> T:
        """Run a job on the cluster's next free cores."""
        errors = self._ray.exceptions
        waiting = self._job.remote(job, self._task, self._data, arguments)
        try:
            found: T = await waiting
        except asyncio.CancelledError:
            self._ray.cancel(waiting)
            raise
        except errors.RayTaskError as error:  # what the job itself raised
            cause = error.cause
            if lacks_memory(cause):
                raise too_little_memory() from error
            raise cause from error
        except errors.OutOfMemoryError as error:
            raise too_little_memory() from error
        except errors.RayError as error:
            raise TrainingFailed(
                f"The Ray cluster lost a client's training {RETRIES + 1} times "
                f"({type(error).__name__}): `ray status` says which of its machines are there."
            ) from error
        return found

    def close(self) -> None:
        """Leave the cluster, and end it if it was started for this engine."""
        ray, self._ray = self._ray, None
        if ray is not None and self._own:
            ray.shutdown()


def _import_ray() -> Any:
    """Raises BadSettings where it is missing."""
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise BadSettings(
            f"The engine Ray needs the package ray: {hints.install('serverless-fl[ray]')}."
        ) from error


def _connect(ray: Any) -> None:
    """Connect to a cluster, or start one. Raises BadSettings."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a party's runs are nobody's statistics
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns each time
    # Without an address Ray joins whichever cluster somebody started last on this machine.
    where = os.environ.get("RAY_ADDRESS") or "local"
    options = {"include_dashboard": False} if where == "local" else {}
    try:
        _require_listener(where)
        ray.init(where, log_to_driver=False, logging_level="WARNING", **options)
    except Exception as error:  # Ray raises plain ones, too
        raise BadSettings(
            f"Ray cannot start a cluster on this machine: {error}"
            if where == "local"
            else f"There is no Ray cluster at RAY_ADDRESS={where}: {error}"
        ) from error


def _require_listener(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT. Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


def _run(job: Callable[..., T], task: list[Any], data: list[Any], arguments: tuple[Any, ...]) -> T:
    """Run a job in a worker of the cluster."""
    return job(_loaded(task[0]), _held(data[0]), *arguments)


@functools.lru_cache(maxsize=1)
def _held(reference: Any) -> Data:
    data: Data = _import_ray().get(reference)
    return data


@functools.lru_cache(maxsize=1)
def _loaded(reference: Any) -> Task:
    ray = _import_ray()
    task: Task = ray.get(reference)
    cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    limit_threads(max(1, int(cores)))
    return task

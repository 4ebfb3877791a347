"""The local loop as machine code, compiled for this machine's processor.

`kernel.c`, with `layers.h`, does what `client_sdk.task.train.train` does. A machine with a C
compiler compiles it once for each shape of network (`kernel_cache`). Before the first use in each
run, the result is compared with the readable loop (`agreement`), whether it is new or kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shlex
import shutil
import subprocess  # nosec B404
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from client_sdk.data.seeds import SeededRandom
from client_sdk.errors import DataError
from client_sdk.task.compiled import kernel_cache
from client_sdk.task.compiled.agreement import disagreement
from client_sdk.task.models import ModelSpec
from client_sdk.task.settings import TrainSettings

SOURCE = Path(__file__).with_name("kernel.c")
_FLAGS = ("-std=gnu11", "-O3", "-shared", "-fPIC")
_TUNING = ("-march=native", "-mcpu=native", "-O3")  # the first that the compiler knows
_SECONDS = 60.0  # for the compiler
_NO_MEMORY = -1.0
_FAULTS = {  # what the loop in kernel.c returns in place of a loss
    -2.0: "The compiled loop was given a pointer that cannot be one.",
    -3.0: "The compiled loop was given an impossible number of examples.",
    -4.0: "The batch size must be at least 1.",
    -5.0: "The learning rate must be from 0 to 1000.",
    -6.0: "The momentum must be from 0 to 1.",
    -7.0: "A label is no class of the network.",
    -8.0: "An example's number is not below the number of examples.",
    -9.0: "The weight decay must be from 0 to 10.",
}


class Unavailable(Exception):
    """Why this machine trains with PyTorch's own operators instead."""


@dataclass(frozen=True)
class Kernel:
    """A compiled loop for networks of one shape.

    `code` is the shared library. Other processes of this machine may load it, too.
    """

    spec: ModelSpec
    code: bytes
    compiler: str

    def train(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, settings: TrainSettings, seed: int
    ) -> float:
        """Train in place as `client_sdk.task.train.train` does, on the CPU.

        Machine code reads and writes where it is told to, so everything is checked before. Raises
        DataError for settings out of range; ValueError for a model, images [N, C, H, W] or labels
        [N] of other shapes or types than the network's; MemoryError; and OSError where the library
        cannot be loaded.
        """
        settings.check()
        parameters = list(model.parameters())
        self._check(parameters, x, y)
        weights = nn.utils.parameters_to_vector(parameters).detach().contiguous()
        momenta, x, y = torch.zeros_like(weights), x.contiguous(), y.contiguous()
        epoch = _loaded(self.code)
        draws = SeededRandom(seed)
        total = 0.0
        for _ in range(settings.epochs):
            order = torch.from_numpy(draws.permutation(len(y)))
            total = epoch(
                *(tensor.data_ptr() for tensor in (weights, momenta, x, y, order)),
                len(y),
                settings.batch_size,
                settings.learning_rate,
                settings.momentum,
                settings.weight_decay,
            )
            if total == _NO_MEMORY:
                raise MemoryError("There is no memory for the local loop.")
            if total < 0:
                raise ValueError(_FAULTS.get(total, f"The compiled loop failed ({total:g})."))
        nn.utils.vector_to_parameters(weights, parameters)
        return total / len(y)

    def _check(self, parameters: list[nn.Parameter], x: torch.Tensor, y: torch.Tensor) -> None:
        """Raises ValueError where machine code would read or write beside these tensors."""
        spec = self.spec
        if [tuple(p.shape) for p in parameters] != spec.shapes():
            raise ValueError(f"The model's parameters must be of the shapes of {spec}.")
        if any(p.dtype != torch.float32 for p in parameters):
            raise ValueError("The model's parameters must be float32.")
        if x.shape != (len(y), spec.in_channels, spec.height, spec.width) or y.dim() != 1:
            raise ValueError(f"images of shape {list(x.shape)} for {spec}")
        if x.dtype != torch.float32 or y.dtype != torch.int64 or not len(y):
            raise ValueError("images must be float32 and labels int64, and there must be some")
        tensors = (*parameters, x, y)
        if any(t.device.type != "cpu" or t.layout != torch.strided for t in tensors):
            raise ValueError("The model, images and labels must be dense and on the CPU.")
        if not 0 <= int(y.min()) <= int(y.max()) < spec.classes:
            raise ValueError(f"labels must be 0 to {spec.classes - 1}")


@functools.cache
def _loaded(code: bytes) -> Any:
    """Load the library, and give its function. A loaded library no longer needs its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.so"
        path.write_bytes(code)
        epoch = ctypes.CDLL(str(path)).epoch_with_decay
    epoch.restype = ctypes.c_double
    epoch.argtypes = [*[ctypes.c_void_p] * 5, *[ctypes.c_int64] * 2, *[ctypes.c_float] * 3]
    return epoch


def compile_kernel(spec: ModelSpec) -> Kernel:
    """The loop for this network, compiled by $CC, cc, gcc or clang, and compared with `train`.

    Raises Unavailable where there is no such compiler, or where its result cannot be loaded or does
    not agree with the readable loop.
    """
    try:
        spec.check()
    except (ValueError, TypeError, DataError) as reason:
        raise Unavailable(f"the network cannot be compiled: {reason}") from reason
    compiler = _compiler()
    sources = SOURCE, SOURCE.with_name("layers.h")
    key = kernel_cache.key(sources, [*compiler, *_FLAGS, *_TUNING, *_shape(spec)])
    kept = kernel_cache.get(key)
    if kept is not None:
        kernel = Kernel(spec, kept, Path(compiler[0]).name)
        with contextlib.suppress(Unavailable):  # a new compilation may agree
            _compare(kernel)
            return kernel
    kernel = Kernel(spec, _compiled(compiler, spec), Path(compiler[0]).name)
    _compare(kernel)
    kernel_cache.put(key, kernel.code)
    return kernel


def _compiled(compiler: Sequence[str], spec: ModelSpec) -> bytes:
    """The shared library. Raises Unavailable."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kernel.so"
        for tuning in _TUNING:
            command = [*compiler, *_FLAGS, tuning, *_shape(spec)]
            error = _run([*command, "-o", str(out), str(SOURCE), "-lm"])
            if error is None:
                break
        else:
            raise Unavailable(f"{compiler[0]} cannot compile it: {error}")
        if not out.exists():
            raise Unavailable(f"{compiler[0]} cannot compile it: it wrote nothing")
        return out.read_bytes()


def _compiler() -> list[str]:
    if os.name != "posix":
        raise Unavailable("it is written for Linux and macOS")
    chosen = shlex.split(os.environ.get("CC", ""))
    for words in [chosen] if chosen else [["cc"], ["gcc"], ["clang"]]:
        path = shutil.which(words[0])
        if path:
            return [path, *words[1:]]
    raise Unavailable(f"there is no C compiler ({chosen[0] if chosen else 'cc, gcc, clang'})")


def _run(command: Sequence[str]) -> str | None:
    """Run the compiler; gives its first error, or None."""
    try:
        done = subprocess.run(  # noqa: S603  (a compiler of the user's choice)  # nosec B603
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    return (lines or ["it failed"])[0][:200]


def _shape(spec: ModelSpec) -> list[str]:
    values = {
        "CHANNELS": spec.in_channels,
        "HEIGHT": spec.height,
        "WIDTH": spec.width,
        "CONV1": spec.conv[0],
        "CONV2": spec.conv[1],
        "KERNEL": spec.kernel,
        "PADDING": spec.padding,
        "HIDDEN": spec.hidden,
        "CLASSES": spec.classes,
    }
    return [f"-D{name}={value}" for name, value in values.items()]


def _compare(kernel: Kernel) -> None:
    """Raise Unavailable unless the kernel agrees with the readable loop, up to rounding."""
    try:
        fault = disagreement(kernel.train, kernel.spec)
    except (OSError, MemoryError) as error:
        raise Unavailable(f"it does not run: {error}") from error
    if fault:
        raise Unavailable(fault)

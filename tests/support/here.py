"""Commands in this process, for tests that look at what a command does, not at its process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from client_sdk.cli import command_line, join_command, run_command
from client_sdk.engines.in_line import InLine
from client_sdk.engines.processes import Processes
from client_sdk.results import plots


class TrainingHere(InLine):
    """Trains in a thread of this process: a process of its own imports PyTorch for two seconds."""

    def __init__(self, workers=1):
        super().__init__()


class SlowTraining(TrainingHere):
    """Each update takes two seconds longer."""

    async def run(self, job, *arguments):
        await asyncio.sleep(2)
        return await super().run(job, *arguments)


def dot(*_):
    """In place of a plot, which takes a second: one run in a process of its own draws its plots."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, format="PNG")
    return file.getvalue()


def run_here(*arguments, training=TrainingHere, **more):
    """As `tests.support.processes.run`; only an embedded coordinator is a process of its own."""
    [done] = run_together(arguments, training=training, **more)
    return done


def run_together(*commands, training=TrainingHere, **more):
    """Several commands at the same time, each in a thread; what they say is each one's whole."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as here,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        for module in (run_command, join_command):
            here.setattr(module, "Processes", training)
        if training is not Processes:
            here.setattr(command_line.fork_server, "start", lambda libraries: None)
        for plot in ("rounds", "evaluation"):
            here.setattr(plots, plot, dot)
        for name, value in more.items():
            here.setenv(name, value)
        if len(commands) == 1:  # in this thread, which may be the one that takes signals
            codes = [command_line.run(list(commands[0]))]
        else:
            with ThreadPoolExecutor(len(commands)) as threads:
                codes = list(threads.map(command_line.run, map(list, commands)))
    said = stdout.getvalue(), stderr.getvalue()
    return [
        subprocess.CompletedProcess(command, code, *said)
        for command, code in zip(commands, codes, strict=True)
    ]

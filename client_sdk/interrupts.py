"""Ctrl-C and SIGTERM end a command with one sentence and exit code 130, at any moment.

A command exits at once until it has work to end in order: a KeyboardInterrupt in the middle of
PyTorch's import would print a traceback. Its child processes notice that it is gone. This module
imports the standard library only, because it is imported before everything else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130  # 128 and the number of SIGINT, as shells have it
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_sentence = ["Interrupted."]


def explain(sentence: str) -> None:
    """Set the sentence that an interruption prints from now on."""
    _sentence[0] = sentence


def sentence() -> str:
    """The sentence that an interruption prints."""
    return _sentence[0]


def leave_at_once() -> None:
    """From now on either signal ends this process with the sentence. Call it in the main thread."""
    for number in _handled_signals():
        signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, f"error: {sentence()}\n".encode())
    os._exit(EXIT_CODE)


@contextmanager
def cancelling() -> Iterator[None]:
    """Let the first signal cancel the running task, and the second exit at once."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # noqa: S101
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _handled_signals()}

    def cancel() -> None:
        restore(dict.fromkeys(before, _leave))
        task.cancel()

    def restore(handlers: Mapping[signal.Signals, signal._HANDLER]) -> None:
        for number, handler in handlers.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    for number in before:
        loop.add_signal_handler(number, cancel)
    try:
        yield
    finally:
        restore(before)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Block Ctrl-C for the processes that this thread starts inside the context.

    A terminal sends Ctrl-C to all processes of the group, and a process that is importing would
    print a traceback. This process gets a blocked signal afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _handled_signals() -> list[signal.Signals]:
    """The signals to handle: a shell's background jobs ignore Ctrl-C, and stay so."""
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

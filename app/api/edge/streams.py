"""The open streams of a process: how many there may be, and their end with the server."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

MAX_STREAMS = 200  # of one process; later readers are told to poll
MAX_OF_ONE = 50  # of one address (a /64 of IPv6), so that no reader takes all places


class Live:
    """The open streams of this process. `enabled`: there may be streams."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._places: Counter[str] = Counter()  # taken places by address
        self.closing = asyncio.Event()

    @property
    def open(self) -> int:
        """How many streams there are, including those whose first view is still being read."""
        return self._places.total()

    def has_place(self, address: str) -> bool:
        return self.open < MAX_STREAMS and self._places[address] < MAX_OF_ONE

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Count one more stream of this address."""
        self._places[address] += 1
        try:
            yield
        finally:
            self._places[address] -= 1
            if not self._places[address]:
                del self._places[address]

    async def pause(self, seconds: float) -> bool:
        """Wait so many seconds. Returns True at once when the server is about to stop."""
        try:
            async with asyncio.timeout(seconds):
                return await self.closing.wait()
        except TimeoutError:
            return False

    @contextmanager
    def ending_with_the_server(self, also: Callable[[], None]) -> Iterator[None]:
        """On SIGINT and SIGTERM end the streams, call `also`, then call the server's own handlers.

        The end of the lifespan is too late: before it, the server waits for all answers to be
        complete. A stream never ends by itself, and other answers wait for an aggregation.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

        def close(number: int, frame: FrameType | None) -> None:
            if not loop.is_closed():  # an entry without the end of a lifespan may have closed it
                loop.call_soon_threadsafe(self.closing.set)
                loop.call_soon_threadsafe(also)
            handler = before[signal.Signals(number)]
            assert callable(handler)  # noqa: S101  (others are left alone)
            handler(number, frame)

        wrapped = [s for s, handler in before.items() if callable(handler)]
        for number in wrapped:
            signal.signal(number, close)
        try:
            yield
        finally:
            self.closing.set()
            also()
            for number in wrapped:
                if signal.getsignal(number) is close:
                    signal.signal(number, before[number])

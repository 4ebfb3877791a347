"""Server-sent events: a view of an experiment after each of its changes.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Annotated, Any

from fastapi import Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.bodies.experiments import experiment_body
from app.api.edge import routing
from app.api.edge.auth import ExperimentId, Service, Viewers
from app.api.edge.errors import responses
from app.api.edge.rate import network
from app.service.coordinator import Coordinator, ExperimentDetails
from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import Busy, CoordinatorError, NotFound
from serverless_fl.wire.bounds import MAX_ROUNDS

router = routing.router("/experiments", tags=["Watch"])
CHECK_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
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


STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events named `experiment`, each an ExperimentView as JSON. Comments between"
        " them show that the connection is open. The stream ends with the experiment.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/{experiment_id}/events",
    summary="Watch an experiment",
    response_class=StreamingResponse,
    responses={**STREAM, **responses(404, 422, 503)},
    dependencies=[Viewers],
)
async def watch_experiment(
    request: Request,
    service: Service,
    experiment_id: ExperimentId,
    after_round: Annotated[
        int, Query(ge=0, le=MAX_ROUNDS, description="The last closed round that the caller knows")
    ] = 0,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """Sends the experiment as it is now, and again after every change. The history of an event
    leaves out rounds that earlier events have shown as closed. Answers 404 where the platform
    cannot stream (FL_LIVE): poll the experiment instead, after its `retry_after`. A stream reads
    only; clients' polls and the tick advance the experiment.
    """
    live: Live = request.app.state.live
    if not live.enabled:
        raise NotFound("This coordinator does not stream (FL_LIVE): poll the experiment instead.")
    address = network(request.client.host if request.client else None)
    if not live.has_place(address):
        raise Busy("Too many are watching already: poll the experiment instead.")
    if last_event_id is not None and last_event_id.isdecimal():
        after_round = int(last_event_id)
    with ExitStack() as place:
        place.enter_context(live.place(address))
        mark = await service.watch.mark(experiment_id)
        first = await service.views.as_stored(experiment_id, after_round)
        stream = _stream(live, service, first, mark, after_round)
        return _Streaming(stream, place.pop_all())


class _Streaming(StreamingResponse):
    """Frees its place at its end, also if the caller leaves before its beginning."""

    def __init__(self, stream: AsyncIterator[str], place: ExitStack) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(stream, media_type="text/event-stream", headers=headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


async def _stream(
    live: Live, service: Coordinator, found: ExperimentDetails, mark: object, after_round: int
) -> AsyncIterator[str]:
    try:
        yield "retry: 2000\n\n"
        while True:
            view = experiment_body(found)
            after_round = max([after_round, *(r.number for r in view.history if r.closed_at)])
            yield f"event: experiment\nid: {after_round}\ndata: {view.model_dump_json()}\n\n"
            if view.ended_at:
                return
            quiet = 0.0
            while (now := await service.watch.mark(view.id)) == mark:
                if await live.pause(CHECK_SECONDS):
                    return
                quiet += CHECK_SECONDS
                if quiet >= HEARTBEAT_SECONDS:
                    quiet = 0.0
                    yield ": quiet\n\n"
            mark = now
            found = await service.views.as_stored(view.id, after_round)
    except CoordinatorError as error:  # as when the store is away; a browser connects again
        log_event("stream ended early", WARNING, cause=error.message)

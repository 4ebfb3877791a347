"""Server-sent events: a view of an experiment after each of its changes.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.bodies.experiments import experiment_body
from app.api.edge import routing
from app.api.edge.auth import ExperimentId, Service, Viewers, may_see_rounds
from app.api.edge.errors import responses
from app.api.edge.rate import network
from app.api.edge.streams import Live
from app.service.coordinator import Coordinator, ExperimentDetails
from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import Busy, CoordinatorError, NotFound
from serverless_fl.wire.bounds import MAX_ROUNDS

router = routing.router("/experiments", tags=["Watch"])
CHECK_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0


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
    cannot stream (FL_LIVE), and, where the cohorts are secret, to all but the admin and the owner,
    because the moments of events tell about updates: poll the experiment instead, after its
    `retry_after`. A stream reads only; clients' polls and the tick advance the experiment.
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
        if not await may_see_rounds(request.scope, service, first.experiment):
            raise NotFound("The cohorts of this experiment are secret: poll it instead.")
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

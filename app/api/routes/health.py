"""Routes for monitoring: whether this process is up and ready, and what it has done."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import PlainTextResponse

from app.api.edge import routing
from app.api.edge.auth import Service
from app.api.edge.errors import responses
from app.telemetry import metrics
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.domain.experiment import ExperimentState

router = routing.router(tags=["Watch"], versioned=False)
# `app.main` leaves it out where a platform keeps no process for long.
scraped = routing.router(tags=["Watch"], versioned=False)


@router.head("/health", include_in_schema=False)
@router.get("/health", summary="Is the process up?")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@router.head("/ready", include_in_schema=False)
@router.get("/ready", summary="Does the database keep what is written?", responses=responses(503))
async def ready(service: Service) -> dict[str, str]:
    """Writes to the database at most once a second, and waits at most two seconds. Answers 503 if
    the database cannot be written, was deleted or replaced, or has lost its log.
    """
    await service.health.ready()
    return {"status": "ready"}


@scraped.head("/metrics", include_in_schema=False)
@scraped.get(
    "/metrics",
    summary="Metrics, for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics(request: Request, service: Service) -> PlainTextResponse:
    """Figures of the process that answers: each worker counts for itself. They hold no secrets,
    names or ids.
    """
    gauges: list[str] = []
    try:
        states = await service.health.experiments_by_state()
    except StoreUnavailable:
        states = {}  # the process's own figures matter most while the store is away
    if states:
        gauges += metrics.gauge("fl_experiments", "Experiments there are", "state", states)
        running = {"": states[ExperimentState.RUNNING]}  # a running experiment has one open round
        gauges += metrics.gauge("fl_open_rounds", "Rounds that are open", "", running)
    streams = {"": float(request.app.state.live.open)}
    gauges += metrics.gauge("fl_event_streams", "Readers of /events", "", streams)
    held = {"": float(service.long_polls.waiting)}
    gauges += metrics.gauge("fl_held_polls", "Polls whose answer is held back", "", held)
    text = metrics.render(gauges)
    return PlainTextResponse(text, headers={"Content-Type": metrics.CONTENT_TYPE})

"""What machines ask of this process: is it up, is it ready, how much has it done?"""

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
# Where the platform keeps a process long enough for it.
scraped = routing.router(tags=["Watch"], versioned=False)


@router.head("/health", include_in_schema=False)
@router.get("/health", summary="Is the process up?")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@router.head("/ready", include_in_schema=False)
@router.get("/ready", summary="Does the database keep what is written?", responses=responses(503))
async def ready(service: Service) -> dict[str, str]:
    """Writes to it at most once a second, and waits no longer than two. 503 where it cannot be
    written, was deleted or replaced, or has lost its log.
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
    """Of the process that answers: each worker counts for itself. No secrets, names or ids."""
    gauges: list[str] = []
    try:
        states = await service.health.experiments_by_state()
    except StoreUnavailable:
        states = {}  # what the process counted is there all the same, now more than ever
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

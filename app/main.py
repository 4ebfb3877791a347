"""The coordinator's application, as `python -m app` serves it. The only place that wires."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app.api.edge import errors, routing
from app.api.edge.envelope import Envelope
from app.api.edge.guard import Guard
from app.api.edge.observe import Observed
from app.api.edge.prefix import BasePath
from app.api.edge.rate import RateLimit
from app.api.edge.reading import Reading
from app.api.edge.start import FaultsInASentence
from app.api.routes import (
    access,
    compressed_models,
    events,
    experiments,
    health,
    models,
    page,
    participation,
    quick,
)
from app.config import BadSettings, Settings, read_settings
from app.service.coordinator import Context, Coordinator, Limits, Repository
from app.service.tick import ticking
from app.store.local_key import local_admin_key
from app.store.port import Blobs, DirectBlobs, Documents
from app.telemetry import logs, trace
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.domain.prices import BadPrices, Prices

DESCRIPTION = """
Parties who may not share their data train one model together. This coordinator holds no data and
trains nothing: it enrols **clients**, hands each its random part of the data set, draws a
**cohort** every **round**, takes the cohort's weights and averages them into the next **model
version**.

1. The admin creates an experiment and uploads its initial weights.
2. Clients subscribe with the enrolment key, and get a token and a shard.
3. Each asks for its round status: it trains, waits, or is done.
4. Whoever has a key downloads the models.

Weights are safetensors files. Nothing is ever unpickled.
"""
TAGS = [
    {"name": "Run an experiment", "description": "With the admin key."},
    {"name": "Take part", "description": "With the enrolment key, then with the client's token."},
    {"name": "Models", "description": "With any key to the experiment."},
    {"name": "Watch", "description": "Without a key."},
]

# What pages of other origins may send and read, beyond what browsers let through anyway.
REQUEST_HEADERS = ("Authorization", "Idempotency-Key", "If-None-Match", "If-Range", "Range")
ANSWER_HEADERS = (
    "Content-Range",
    "ETag",
    "Retry-After",
    "Server-Timing",
    "X-Model-Version",
    "X-Request-Id",
)


def create_app(settings: Settings | None = None, *, callers_known: bool = False) -> FastAPI:
    """Wire an application. The store is opened with the application's lifespan.

    `callers_known`: the platform says where a caller is, and not the caller. Raises BadSettings,
    BadPrices.
    """
    settings = settings or read_settings()
    prices = Prices.load(settings.prices)  # whoever edits it learns at the start what is wrong
    admin_key, previous_key = (
        key.get_secret_value() if key else None
        for key in (settings.admin_key, settings.admin_key_previous)
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(settings.log_format, settings.log_level)
        for name, meant in settings.unknown.items():
            logs.log_event("unknown setting", logs.WARNING, name=name, meant=meant)
        if settings.otel_endpoint is not None:
            try:
                trace.start(settings.otel_endpoint, app.version)
            except RuntimeError as error:  # the variable may be meant for others: no reason to stop
                logs.log_event("no traces", logs.WARNING, cause=str(error))
        try:
            key = admin_key or _made_admin_key(settings)
            documents, blobs = await _open_store(settings)
        except StoreUnavailable as error:
            app.state.fault = error.message
            raise
        limits = Limits(
            part_bytes=settings.part_bytes,
            max_model_bytes=settings.max_model_bytes,
            answer_bytes=settings.answer_bytes,
            lease_seconds=settings.lease_seconds,
            step_seconds=settings.step_seconds,
            step_updates=settings.step_updates,
            abandon_seconds=settings.abandon_days * 86400,
            max_experiments=settings.max_experiments,
            max_clients=settings.max_clients,
            poll_min_seconds=settings.poll_min_seconds,
            poll_max_seconds=settings.poll_max_seconds,
            hold_seconds=settings.hold_seconds,
        )
        context = Context(repo=Repository(documents), blobs=blobs, limits=limits, prices=prices)
        app.state.admin_key = key
        app.state.coordinator = Coordinator(context, key, previous_key)
        store = "mongodb" if settings.mongodb_url else "sqlite"
        logs.log_event("coordinator started", version=app.version, store=store, process=os.getpid())
        async with ticking(app.state.coordinator.ticks, settings.tick_seconds):
            with live.ending_with_the_server(app.state.coordinator.stopping):
                yield
        await app.state.coordinator.close()
        await documents.close()
        logs.log_event("coordinator stopped", process=os.getpid())
        trace.stop()

    app = FastAPI(
        title="Serverless federated learning",
        version="0.1.0",
        summary="A stateless coordinator for federated learning",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        servers=[{"url": "."}],  # beside the document, whatever prefix a gateway puts before it
        lifespan=lifespan,
        separate_input_output_schemas=False,
        docs_url=None,  # ours needs no network
        redoc_url=None,
    )
    app.state.live = live = events.Live(settings.live)
    app.state.reading = Reading()
    errors.install(app)
    routing.install(
        app,
        [
            participation.router,  # first, as they are what nearly all requests are for
            *(
                *experiments.routers,
                models.router,
                compressed_models.router,
                events.router,
                *access.routers,
            ),
            *(page.router, health.router),
            *([health.scraped] if settings.metrics == "on" else []),
        ],
    )
    quick.install(app)
    _add_middleware(app, settings, callers_known or bool(settings.proxies))
    return app


def _add_middleware(app: FastAPI, settings: Settings, callers_known: bool) -> None:
    """From the inside out: what is added last is met first."""
    app.add_middleware(
        Guard,
        max_body=settings.part_bytes,
        loopback_only=settings.admin_key is None,
        rate=RateLimit(
            settings.rate_per_second, settings.rate_burst, factor=settings.rate_address_factor
        )
        if settings.rate_per_second
        else None,
        callers_known=callers_known,
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["DELETE", "GET", "POST", "PUT"],
            allow_headers=REQUEST_HEADERS,
            expose_headers=ANSWER_HEADERS,
        )
    app.add_middleware(Observed)
    app.add_middleware(Envelope)
    if base := settings.base_path.rstrip("/"):
        app.add_middleware(BasePath, base=base)
    app.add_middleware(FaultsInASentence)


async def _open_store(settings: Settings) -> tuple[Documents, Blobs]:
    """The adapters are imported here, each only where it is used: they cost start-up time."""
    from app.store.identity import identified
    from app.store.observed import observed

    documents: Documents
    blobs: Blobs
    if settings.mongodb_url is not None:
        from app.store.mongo import open_mongo

        url = settings.mongodb_url.get_secret_value()
        documents, blobs = await open_mongo(url, settings.mongodb_database)
        adapter = blob_adapter = "mongodb"
    else:
        from app.store.sqlite import open_sqlite

        documents, blobs = await open_sqlite(settings.data_dir / "coordinator.sqlite3")
        adapter = blob_adapter = "sqlite"
    if settings.s3_bucket is not None:
        from app.store.s3 import S3Blobs

        if find_spec("boto3") is None:
            raise StoreUnavailable(
                f"FL_S3_BUCKET needs boto3: {sys.executable} -m pip install 'serverless-fl[aws]'."
            )
        blobs = S3Blobs(
            settings.s3_bucket,
            url_seconds=settings.s3_url_seconds,
            public_endpoint=settings.s3_public_endpoint,
        )
        blob_adapter = "s3"
    blobs = identified(documents, blobs)
    if settings.s3_bucket is not None and isinstance(blobs, DirectBlobs):
        from app.store.s3_check import tell_unenforced

        await tell_unenforced(documents, blobs, settings.s3_bucket)
    return observed(documents, blobs, adapter, blob_adapter)


def _made_admin_key(settings: Settings) -> str:
    """Without FL_ADMIN_KEY: one for this machine, kept in the data directory."""
    key, path = local_admin_key(settings.data_dir)
    # A log is kept and read by others: there the key has no place.
    shown = f"Admin key: {key}\n" if sys.stderr.isatty() else ""
    print(
        f"{shown}The admin key is kept in {path}; FL_ADMIN_KEY is not set, so only callers on this "
        "machine are answered.",
        file=sys.stderr,
    )
    return key


def __getattr__(name: str) -> FastAPI:
    """`app`, for servers: made when it is asked for, as the serverless entries make their own."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        made = globals()[name] = create_app()
    except (BadSettings, BadPrices) as error:
        raise SystemExit(f"error: {error}") from error  # a server would print a traceback
    return made

"""The coordinator's application: only this file wires settings, stores, service and routes."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app.api.edge import auth, errors, routing
from app.api.edge.certificates import ClientCertificates
from app.api.edge.concurrent_parts import ConcurrentParts
from app.api.edge.envelope import Envelope
from app.api.edge.guard import Guard
from app.api.edge.late_routes import Application
from app.api.edge.observe import Observed
from app.api.edge.prefix import BasePath
from app.api.edge.rate import RateLimit
from app.api.edge.start import StartFaults
from app.api.edge.streams import Live
from app.api.routes import health, participation, quick
from app.config import BadSettings, Settings, read_settings
from app.service.coordinator import Context, Coordinator, Repository
from app.service.tick import ticking
from app.store.local_key import local_admin_key
from app.store.port import (
    Blobs,
    DirectBlobs,
    Documents,
    Helper,
    TokenIssuer,
    WakeUps,
    Webhooks,
)
from app.telemetry import logs
from serverless_fl import __version__, tracing
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.domain.prices import BadPrices, Prices

DESCRIPTION = """
Parties that may not share their data train one model together. This coordinator holds no data and
trains nothing. It enrols **clients** and gives each a random part of the data set. Every **round**
it draws a **cohort**, takes the cohort's weights and averages them into the next **model version**.

1. An admin or an owner creates an experiment and uploads its initial weights.
2. Each client subscribes with the enrolment key, and gets a token and a shard.
3. Each client asks for its round status, and trains, waits, or is done.
4. Everybody with a key to the experiment downloads the models.

Weights are safetensors files. The coordinator never unpickles anything.
"""
TAGS = [
    {"name": "Run an experiment", "description": "With the admin key, or the owner's."},
    {"name": "Take part", "description": "With the enrolment key, then with the client's token."},
    {"name": "Models", "description": "With any key to the experiment."},
    {"name": "Watch", "description": "Without a key, unless the operator has closed it."},
]

# Headers that pages of other origins may send and read, beside those that browsers always allow.
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
    """Wire an application. Its lifespan opens and closes the store.

    `callers_known`: the platform, and not the caller, gives a caller's address. Raises BadSettings,
    BadPrices.
    """
    settings = settings or read_settings()
    if settings.role == "helper":
        return _create_helper(settings, callers_known=callers_known)
    prices = Prices.load(settings.prices)  # at the start, so that the operator sees an error
    issuer = _issuer(settings)
    admin_key, previous_key = (
        key.get_secret_value() if key else None
        for key in (settings.admin_key, settings.admin_key_previous)
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        _begin_to_log(settings, app)
        try:
            key = admin_key or _local_admin_key(settings)
            documents, blobs = await _open_store(settings)
        except StoreUnavailable as error:
            app.state.fault = error.message
            raise
        context = Context(
            repo=Repository(documents),
            blobs=blobs,
            limits=settings.limits,
            prices=prices,
            webhooks=_webhooks(settings),
            wake_ups=_wake_ups(settings),
            helper=_helper(settings),
        )
        app.state.admin_key = key
        app.state.coordinator = Coordinator(
            *(context, key, previous_key, settings.person_keys), issuer, settings.claim_names
        )
        store = "mongodb" if settings.mongodb_url else "sqlite"
        logs.log_event("coordinator started", version=app.version, store=store, process=os.getpid())
        ticks = app.state.coordinator.ticks
        async with (
            ticking(ticks, settings.tick_seconds),
            ticks.waking.promptly(settings.tick_seconds),
        ):
            with live.ending_with_the_server(app.state.coordinator.stopping):
                yield
        await app.state.coordinator.close()
        await documents.close()
        logs.log_event("coordinator stopped", process=os.getpid())
        tracing.stop()

    app = Application(
        title="Serverless federated learning",
        version=__version__,
        summary="A stateless coordinator for federated learning",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        servers=[{"url": "."}],  # relative to the document, so that a gateway's prefix stays
        lifespan=lifespan,
        separate_input_output_schemas=False,
        docs_url=None,  # FastAPI's page loads scripts from the network; `page` serves another
        redoc_url=None,
    )
    app.state.live = live = Live(settings.live)
    app.state.public_views = settings.public_views
    app.state.onnx_dir = settings.onnx_dir
    app.state.reading = ConcurrentParts()
    errors.install(app)
    app.state.certificates = ClientCertificates(
        None if settings.client_certificates == "off" else settings.client_certificate_form,
        settings.client_certificates == "required",
        settings.proxies,
    )
    auth.declare_callers(app, issuer=settings.oidc_issuer, public_views=settings.public_views)
    routing.install(
        app,
        [
            participation.router,  # first, because nearly all requests go to these routes
            health.router,
            *([health.scraped] if settings.metrics == "on" else []),
        ],
        late=_other_routers,
    )
    quick.install(app)
    _add_middleware(app, settings, callers_known or bool(settings.proxies))
    return app


def _other_routers() -> Iterator[APIRouter]:
    """Give the routers that a poll does not need; to import them slows a cold start."""
    from app.api.routes import (
        access,
        compressed_models,
        events,
        experiments,
        masking,
        model_state,
        models,
        page,
    )

    yield masking.router
    yield from experiments.routers
    yield from (models.router, compressed_models.router, model_state.router, events.router)
    yield from access.routers
    yield page.router


def _create_helper(settings: Settings, *, callers_known: bool) -> FastAPI:
    """Wire an application in the role `helper`, which answers another operator's coordinator."""
    # Imported here: a coordinator needs none of it, and it brings the package of ciphers.
    from app.api.routes import helper
    from app.service.helper.helping import Helping
    from app.service.helper.service import HelperService
    from serverless_fl.privacy.secure import pin_file

    keys = (settings.admin_key, settings.admin_key_previous)
    given, previous_key = (key.get_secret_value() if key else None for key in keys)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        _begin_to_log(settings, app)
        try:
            key = given or _local_admin_key(settings)
            documents, blobs = await _open_store(settings)
            context = Context(repo=Repository(documents), blobs=blobs, limits=settings.limits)
            pins = pin_file.read(settings.pins) if settings.pins else None
            helping = await Helping.of(context, settings.helper_fewest, pins)
        except StoreUnavailable as error:
            app.state.fault = error.message
            raise
        app.state.admin_key = key
        app.state.coordinator = HelperService(context, helping, key, previous_key)
        logs.log_event(
            "helper started",
            version=app.version,
            fingerprint=helping.helper.key.hex(),
            process=os.getpid(),
        )
        yield
        await documents.close()
        logs.log_event("helper stopped", process=os.getpid())
        tracing.stop()

    app = FastAPI(
        title="Serverless federated learning: a helper",
        version=__version__,
        summary="Tells another operator's coordinator sums of masks",
        openapi_tags=[{"name": "Help", "description": "For one coordinator, with this one's key."}],
        servers=[{"url": "."}],
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    errors.install(app)
    routing.install(app, [helper.router, health.router])
    _add_middleware(app, settings, callers_known or bool(settings.proxies))
    return app


def _begin_to_log(settings: Settings, app: FastAPI) -> None:
    logs.configure(settings.log_format, settings.log_level)
    for name, meant in settings.unknown.items():
        logs.log_event("unknown setting", logs.WARNING, name=name, meant=meant)
    if settings.otel_endpoint is not None:
        try:
            tracing.start(settings.otel_endpoint, app.version, "serverless-fl", "server,otel")
        except RuntimeError as error:  # the variable may be meant for another program
            logs.log_event("no traces", logs.WARNING, cause=str(error))


def _add_middleware(app: FastAPI, settings: Settings, callers_known: bool) -> None:
    """Add the middleware from the inside out: a request passes the last one first."""
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
            allow_methods=["DELETE", "GET", "PATCH", "POST", "PUT"],
            allow_headers=REQUEST_HEADERS,
            expose_headers=ANSWER_HEADERS,
        )
    app.add_middleware(Observed)
    app.add_middleware(Envelope)
    if base := settings.base_path.rstrip("/"):
        app.add_middleware(BasePath, base=base)
    app.add_middleware(StartFaults)


async def _open_store(settings: Settings) -> tuple[Documents, Blobs]:
    """Open the stores. Only the adapters in use are imported, because imports slow the start."""
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


def _webhooks(settings: Settings) -> Webhooks | None:
    urls, secret = settings.webhooks
    if not urls:
        return None
    from app.store.webhooks import HttpWebhooks

    return HttpWebhooks(urls, secret)


def _wake_ups(settings: Settings) -> WakeUps | None:
    rules = settings.wake_rules
    if rules is None:
        return None
    from app.store.wake_ups import CheckedWakeUps

    return CheckedWakeUps(rules)


def _issuer(settings: Settings) -> TokenIssuer | None:
    """Give the issuer of people's tokens. Raises BadSettings if its packages are missing."""
    if not settings.oidc_issuer:
        return None
    from app.store.oidc import OidcIssuer

    if find_spec("jwt") is None or find_spec("httpx") is None:
        raise BadSettings(
            "FL_OIDC_ISSUER needs PyJWT and httpx: "
            f"{sys.executable} -m pip install 'serverless-fl[oidc]'"
        )
    return OidcIssuer(settings.oidc_issuer, settings.oidc_audience)


def _helper(settings: Settings) -> Helper | None:
    if settings.helper_url is None or settings.helper_key is None:
        return None
    from app.store.helper import HttpHelper

    return HttpHelper(settings.helper_url, settings.helper_key.get_secret_value())


def _local_admin_key(settings: Settings) -> str:
    """Give the admin key in the data directory, and make it if it is missing."""
    key, path = local_admin_key(settings.data_dir)
    # Only on a terminal: a log file is kept, and other people read it.
    shown = f"Admin key: {key}\n" if sys.stderr.isatty() else ""
    print(
        f"{shown}The admin key is in {path}. FL_ADMIN_KEY is not set, so the coordinator answers "
        "only callers on this machine.",
        file=sys.stderr,
    )
    return key


def __getattr__(name: str) -> FastAPI:
    """Make `app` when a server asks for it, because the serverless entries make their own."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        application = globals()[name] = create_app()
    except (BadSettings, BadPrices) as error:
        raise SystemExit(f"error: {error}") from error  # a server would print a traceback
    return application

"""The coordinator's application: `uvicorn app.main:app`. The only place that wires."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from app.api import errors, experiments, participation
from app.api.guard import Guard
from app.config import Settings
from app.service import Context, Coordinator, Limits, Repository
from app.store.port import Blobs, Documents

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


def create_app(settings: Settings | None = None) -> FastAPI:
    """Wire an application. The store is opened with the application's lifespan."""
    settings = settings or Settings()
    admin_key = settings.admin_key.get_secret_value() if settings.admin_key else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        key = admin_key or _local_admin_key(settings.data_dir)
        documents, blobs = await _open_store(settings)
        limits = Limits(
            part_bytes=settings.part_bytes,
            max_model_bytes=settings.max_model_bytes,
            answer_bytes=settings.answer_bytes,
            lease_seconds=settings.lease_seconds,
            poll_min_seconds=settings.poll_min_seconds,
            poll_max_seconds=settings.poll_max_seconds,
        )
        context = Context(repo=Repository(documents), blobs=blobs, limits=limits)
        app.state.admin_key = key
        app.state.coordinator = Coordinator(context, key)
        yield
        await documents.close()

    app = FastAPI(
        title="Serverless federated learning",
        version="0.1.0",
        summary="A stateless coordinator for federated learning",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    errors.install(app)
    for router in (*experiments.routers, participation.router):
        app.include_router(router, prefix="/v1", responses=errors.responses(403, 413, 500))

    @app.get("/health", tags=["Watch"], summary="Is the process up?")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app.add_middleware(Guard, max_body=settings.part_bytes, loopback_only=admin_key is None)
    return app


async def _open_store(settings: Settings) -> tuple[Documents, Blobs]:
    """The adapters are imported here, each only where it is used: they cost start-up time."""
    if settings.mongodb_url is not None:
        from app.store.mongo import open_mongo

        return await open_mongo(settings.mongodb_url.get_secret_value(), settings.mongodb_database)
    from app.store.sqlite import open_sqlite

    return await open_sqlite(settings.data_dir / "coordinator.sqlite3")


def _local_admin_key(data_dir: Path) -> str:
    """Without FL_ADMIN_KEY: one for this machine, kept in the data directory, printed."""
    path = data_dir / "admin-key"
    data_dir.mkdir(parents=True, exist_ok=True)
    # Written whole and then linked into place, so that of several workers exactly one makes it.
    draft = data_dir / f".admin-key-{os.getpid()}-{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    key = path.read_text().strip()
    print(
        f"Admin key: {key}\n(kept in {path}; FL_ADMIN_KEY is not set, so only callers on this "
        "machine are answered)",
        file=sys.stderr,
    )
    return key


app = create_app()

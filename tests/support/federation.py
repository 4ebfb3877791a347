"""A small federation without training: real store, real application, a clock that tests turn."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx
import numpy as np
import pytest
import safetensors.numpy

from app.config import Settings
from app.main import create_app
from app.service.coordinator import Context, Coordinator, Limits, Repository
from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from serverless_fl.wire.config import ExperimentConfig

# For tests that are about what a store keeps, or about processes that write at once.
BOTH_STORES = pytest.mark.parametrize("fresh_store", ["sqlite", "mongo"], indirect=True)
ADMIN_KEY = "an-admin-key-for-tests"


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def weights(value: float, **more: np.ndarray) -> bytes:
    return safetensors.numpy.save({"w": np.full((2, 3), value, np.float32), **more})


def value_of(data: bytes) -> float:
    values = safetensors.numpy.load(data)["w"]
    assert (values == values.flat[0]).all()
    return float(values.flat[0])


def config(**changes) -> ExperimentConfig:
    settings = {
        "dataset": "toy",
        "dataset_size": 40,
        "model": "toy",
        "clients": 4,
        "clients_per_round": 2,
        "rounds": 2,
        "deadline_seconds": 60,
    }
    return ExperimentConfig(**(settings | changes))


def key_of(number: int) -> str:
    """The client key with which `Federation.enrol` enrols."""
    return hashlib.sha256(f"client {number}".encode()).hexdigest()


@dataclass
class Member:
    """An enrolled client that uploads what a test tells it to."""

    api: CoordinatorClient
    experiment_id: str
    id: str

    @property
    def token(self) -> str:
        return self.api.connection.key

    async def status(self):
        return await self.api.status(self.experiment_id)

    async def upload(self, number: int, value: float, examples: int = 10, **metrics: float):
        return await self.upload_bytes(number, weights(value), examples, **metrics)

    async def upload_bytes(self, number: int, data: bytes, examples: int = 10, **metrics: float):
        """Every other client brings it in one request, the others in parts and a commit."""
        at_once = int(self.id.rpartition("-")[2]) % 2 == 0
        return await self.api.upload_update(
            self.experiment_id, number, data, examples, metrics, 1 << 20, at_once=at_once
        )


@dataclass
class Federation:
    """One application over a store, with its admin's client; `another` is a second process."""

    documents: object
    blobs: object
    clock: Clock = field(default_factory=Clock)
    limits: Limits = field(default_factory=lambda: Limits(lease_seconds=30))
    admin: CoordinatorClient = None  # type: ignore[assignment]
    app: object = None

    def coordinator(self, documents=None, blobs=None, **changes) -> Coordinator:
        context = Context(
            repo=Repository(documents or self.documents),
            blobs=blobs or self.blobs,
            clock=self.clock,
            monotonic=self.clock,
            limits=self.limits,
            jitter=lambda: 0.5,
        )
        return Coordinator(replace(context, **changes), ADMIN_KEY)

    @asynccontextmanager
    async def serving(self, coordinator: Coordinator | None = None) -> AsyncIterator[None]:
        """Answer over ASGI; the store is the test's, so the application's lifespan stays out."""
        self.app = create_app(Settings(admin_key=ADMIN_KEY))
        self.app.state.coordinator = coordinator or self.coordinator()
        self.app.state.admin_key = ADMIN_KEY
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with CoordinatorClient(
            "http://coordinator", ADMIN_KEY, retry=Retry(give_up_after=0), transport=transport
        ) as admin:
            self.admin = admin
            yield

    @property
    def http(self) -> httpx.AsyncClient:
        return self.admin.connection.http

    async def create(self, initial: bytes | None = None, **changes) -> tuple[str, str]:
        """An enrolling experiment: its id and enrolment key."""
        once = hashlib.sha256(f"create-{changes}".encode()).hexdigest()
        made = await self.admin.create_experiment("toy", config(**changes), once)
        await self.admin.upload_initial_model(made.id, initial or weights(0), made.part_bytes)
        return made.id, made.enrolment_key

    async def enrol(self, experiment_id: str, key: str, number: int) -> Member:
        subscription = await self.admin.using(key).subscribe(
            experiment_id, key_of(number), f"c{number}", shard=True
        )
        return Member(self.admin.using(subscription.token), experiment_id, subscription.client_id)

    async def start(self, **changes) -> tuple[str, dict[str, Member]]:
        """A running experiment with all its clients, by id."""
        experiment_id, key = await self.create(**changes)
        clients = changes.get("min_clients") or changes.get("clients", 4)
        members = [await self.enrol(experiment_id, key, n) for n in range(clients)]
        return experiment_id, {member.id: member for member in members}

    async def cohort(self, experiment_id: str) -> list[str]:
        shown = await self.admin.experiment(experiment_id)
        return shown.current_round.cohort

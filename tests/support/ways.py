"""The ways in to a coordinator: what carries a request to it, and the sizes that it may have."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from app.config import Settings
from app.entry import openwhisk
from app.main import create_app
from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from examples import lambda_gateway, openwhisk_gateway
from examples.containers import Container
from examples.gateway import Call
from serverless_fl.wire.schema import CreatedExperiment
from tests.support import shapes
from tests.support.federation import ADMIN_KEY, Member, config, weights
from tests.support.sample import sample

LAMBDA_PART_BYTES = 4 * 1024**2
Carrier = tuple[str, httpx.AsyncBaseTransport | None]  # base URL; None for TCP
Shape = Callable[[Call], dict[str, Any]]


@dataclass(frozen=True)
class Way:
    """One way in. `answer_bytes` is the most of a model that one answer holds."""

    name: str
    open: Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Carrier]]
    part_bytes: int = 8 * 1024**2
    answer_bytes: int | None = None
    containers: str = ""  # the fixture that holds them
    memory: int = 0  # bytes that the platform gives a container


def settings_of(request: pytest.FixtureRequest, store: str, folder: Path) -> dict[str, str]:
    """The coordinator's settings, for processes and, without the prefix, for `Settings`."""
    helper: dict[str, str] = request.getfixturevalue("helper").settings
    if store == "sqlite":
        return helper | {"FL_DATA_DIR": str(folder)}
    return helper | {
        "MONGODB_URL": request.getfixturevalue("mongodb_url"),
        "FL_MONGODB_DATABASE": f"conformance_{secrets.token_hex(4)}",
    }


def asgi_way(store: str) -> Way:
    @asynccontextmanager
    async def open_(request: pytest.FixtureRequest) -> AsyncIterator[Carrier]:
        named = settings_of(request, store, request.getfixturevalue("tmp_path"))
        fields = {k.removeprefix("FL_").lower(): v for k, v in named.items()}
        app = create_app(Settings(admin_key=ADMIN_KEY, **fields))
        async with app.router.lifespan_context(app):
            yield "http://coordinator", httpx.ASGITransport(app, raise_app_exceptions=False)

    return Way(f"asgi-{store}", open_)


def tcp_way(store: str) -> Way:
    @asynccontextmanager
    async def open_(request: pytest.FixtureRequest) -> AsyncIterator[Carrier]:
        yield request.getfixturevalue(f"{store}_server").url, None

    return Way(f"uvicorn-{store}", open_)


@asynccontextmanager
async def through(gateway: Starlette) -> AsyncIterator[Carrier]:
    async with gateway.router.lifespan_context(gateway):
        yield "https://platform.example", httpx.ASGITransport(gateway)


@asynccontextmanager
async def api_at(carrier: AbstractAsyncContextManager[Carrier], way: Way) -> AsyncIterator[Api]:
    """No call is tried again: what goes wrong here shows."""
    retry = Retry(give_up_after=0)
    async with (
        carrier as (url, transport),
        CoordinatorClient(url, ADMIN_KEY, retry=retry, transport=transport) as admin,
    ):
        yield Api(admin, way)


def through_lambda(
    containers: Sequence[Container], shape: Shape = lambda_gateway.http_api
) -> AbstractAsyncContextManager[Carrier]:
    return through(lambda_gateway.create_app([c.url for c in containers], shape))


def invoke(container: Container, event: dict[str, Any], seconds: float = 60) -> Any:
    """Lambda's answer to an event that comes through no gateway."""
    url = container.url + lambda_gateway.INVOKE
    return httpx.post(url, json=event, timeout=seconds, trust_env=False).json()


def through_openwhisk(
    containers: Sequence[Container], bound: Mapping[str, str]
) -> AbstractAsyncContextManager[Carrier]:
    return through(openwhisk_gateway.create_app([c.url for c in containers], bound))


def lambda_way(shape: Shape) -> Way:
    def open_(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Carrier]:
        return through_lambda(request.getfixturevalue("lambda_containers"), shape)

    size = LAMBDA_PART_BYTES
    name = f"lambda-{shape.__name__}".replace("_", "-")
    return Way(name, open_, size, size, "lambda_containers", 1024 * 1024**2)


def openwhisk_way() -> Way:
    def open_(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Carrier]:
        bound = request.getfixturevalue("openwhisk_parameters")
        return through_openwhisk(request.getfixturevalue("openwhisk_containers"), bound)

    size = openwhisk.PART_BYTES
    return Way("openwhisk", open_, size, size, "openwhisk_containers", 512 * 1024**2)


WAYS = [
    asgi_way("sqlite"),
    asgi_way("mongo"),
    tcp_way("sqlite"),
    tcp_way("mongo"),
    lambda_way(lambda_gateway.http_api),
    lambda_way(shapes.function_url),
    lambda_way(shapes.rest_api),
    lambda_way(shapes.load_balancer),
    openwhisk_way(),
]
# HTTP and the sizes of bodies differ from way to way, and their tests take each. What a round does
# with what arrived differs by none: its tests take a way of each kind, and both stores.
EACH_KIND = pytest.mark.parametrize(
    "way",
    sample(
        WAYS,
        [
            asgi_way("sqlite"),
            tcp_way("mongo"),
            lambda_way(lambda_gateway.http_api),
            openwhisk_way(),
        ],
    ),
    ids=lambda way: way.name,
    indirect=True,
)


@dataclass
class Api:
    """A coordinator at the end of one way, and what its callers do."""

    admin: CoordinatorClient
    way: Way
    key: str = ADMIN_KEY

    async def send(
        self, method: str, path: str, key: str | None = "", **options: Any
    ) -> httpx.Response:
        """One request as it is: no retries, no reading of the answer. None sends no key."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key or self.key}"
        return await self.admin.connection.http.request(method, path, headers=headers, **options)

    async def create(self, name: str = "x", **changes: Any) -> CreatedExperiment:
        return await self.admin.create_experiment(name, config(**changes), secrets.token_hex(8))

    async def enrol(self, made: CreatedExperiment, number: int, name: str = "") -> Member:
        client_key = f"{number:04}" * 10
        got = await self.admin.using(made.enrolment_key).subscribe(made.id, client_key, name)
        return Member(self.admin.using(got.token), made.id, got.client_id)

    async def start(self, initial: bytes | None = None, **changes: Any) -> tuple[str, list[Member]]:
        """A running experiment and its clients, by slot."""
        made = await self.create(**changes)
        await self.admin.upload_initial_model(made.id, initial or weights(0), made.part_bytes)
        members = [await self.enrol(made, n) for n in range(config(**changes).clients)]
        return made.id, sorted(members, key=lambda m: m.id)


def is_problem(response: httpx.Response, status: int, code: str) -> bool:
    """Asserts that it is this problem (RFC 9457), whole."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["detail"].endswith(".")
    return True

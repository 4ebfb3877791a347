"""Each way in is opened once for the session; a test gets them in turn, all or one of each kind."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from examples.containers import Container
from examples.lambda_local import LambdaContainer
from examples.openwhisk_local import OpenWhiskContainer
from tests.support.federation import ADMIN_KEY
from tests.support.helper_server import HelperServer, serving_helper
from tests.support.processes import Server
from tests.support.ways import WAYS, Api, Way, api_at, settings_of


@pytest.fixture(scope="session")
def helper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HelperServer]:
    """The helper of all coordinators."""
    with serving_helper(tmp_path_factory.mktemp("helper")) as helper:
        yield helper


@pytest.fixture(scope="session")
def sqlite_server(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Server]:
    settings = settings_of(request, "sqlite", tmp_path_factory.mktemp("conformance"))
    with Server(FL_ADMIN_KEY=ADMIN_KEY, **settings) as server:
        yield server


@pytest.fixture(scope="session")
def mongo_server(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Server]:
    settings = settings_of(request, "mongo", tmp_path_factory.getbasetemp())
    # It lives as long as the session, and nx-27017 keeps all databases in one: its ticks would end
    # the rounds of other tests, whose clocks stand in 1970.
    with Server(FL_ADMIN_KEY=ADMIN_KEY, FL_TICK_SECONDS="0", **settings) as server:
        yield server


@pytest.fixture(scope="session")
def lambda_containers(
    mongodb_url: str, helper: HelperServer, tmp_path_factory
) -> Iterator[list[Container]]:
    """Two, so that one request's container is not the next one's."""
    settings = helper.settings | {
        "MONGODB_URL": mongodb_url,
        "FL_MONGODB_DATABASE": f"conformance_{secrets.token_hex(4)}",
        "FL_ADMIN_KEY": ADMIN_KEY,
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    with (
        (tmp_path_factory.mktemp("lambda") / "log").open("wb") as log,
        LambdaContainer(settings, log) as a,
        LambdaContainer(settings, log) as b,
    ):
        yield [a, b]


@pytest.fixture(scope="session")
def openwhisk_parameters(mongodb_url: str, helper: HelperServer) -> dict[str, str]:
    return helper.settings | {
        "MONGODB_URL": mongodb_url,
        "FL_MONGODB_DATABASE": f"conformance_{secrets.token_hex(4)}",
        "FL_ADMIN_KEY": ADMIN_KEY,
    }


@pytest.fixture(scope="session")
def openwhisk_containers(tmp_path_factory) -> Iterator[list[Container]]:
    with (
        (tmp_path_factory.mktemp("openwhisk") / "log").open("wb") as log,
        OpenWhiskContainer({}, log) as a,
        OpenWhiskContainer({}, log) as b,
    ):
        yield [a, b]


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture
async def api(way: Way, request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    async with api_at(way.open(request), way) as api:
        yield api

"""Routes that are added when a request, or a document, first asks for them."""

import httpx
import pytest

from app.api.edge.late_routes import Application
from app.api.edge.routing import install, router


async def name() -> str:
    return "told"


def part(path):
    found = router()
    found.get(path)(name)
    return found


@pytest.fixture
def loads():
    return []


@pytest.fixture
def app(loads):
    def late():
        loads.append("late")
        yield part("/late")
        yield part("/later")

    made = Application()
    install(made, [part("/early")], late)
    return made


@pytest.fixture
async def http(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        yield client


async def test_a_request_that_an_early_route_answers_loads_nothing(http, loads):
    assert (await http.get("/v1/early")).json() == "told"
    assert loads == []


async def test_another_request_loads_the_others_once_and_each_is_answered(http, loads):
    assert (await http.get("/v1/later")).json() == "told"
    assert (await http.get("/v1/late")).json() == "told"
    assert (await http.get("/v1/late/")).status_code == 307
    assert (await http.post("/v1/late")).status_code == 405
    assert (await http.get("/v1/never")).status_code == 404
    assert (await http.get("/v1/early")).json() == "told"
    assert loads == ["late"]


def test_the_document_has_the_late_routes(app, loads):
    assert list(app.openapi()["paths"]) == ["/v1/early", "/v1/late", "/v1/later"]
    assert len(app.routes) == len(app.router.routes) - 1
    assert loads == ["late"]


async def test_a_load_that_fails_is_tried_again(loads):
    def late():
        loads.append("late")
        if len(loads) == 1:
            raise ImportError("gone for a moment")
        return [part("/late")]

    app = Application()
    install(app, [], late)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        assert (await http.get("/v1/late")).status_code == 500
        assert (await http.get("/v1/late")).json() == "told"

"""A route is worked out when it is first used, and answers as one that was worked out at once."""

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from app.api.edge import late_route
from app.api.edge.routing import Route, install, router
from serverless_fl.wire.base import Body


async def echo(number: int) -> dict[str, int]:
    """Say the number."""
    return {"number": number}


def route():
    part = router("/echoes")
    part.get("/{number}", summary="Echo")(echo)
    return part.routes[-1]


def test_what_a_request_is_matched_by_is_there_and_the_rest_when_it_is_looked_at():
    found = route()
    assert found.path == "/v1/echoes/{number}"
    assert found.methods == {"GET"}
    assert "dependant" not in vars(found)
    assert [field.name for field in found.dependant.path_params] == ["number"]
    assert found.description == "Say the number."
    with pytest.raises(AttributeError):
        found.nothing  # noqa: B018


def test_without_the_switch_a_route_is_worked_out_at_once(monkeypatch):
    monkeypatch.setattr(late_route, "ON", False)
    assert "dependant" in vars(route())


@pytest.mark.parametrize("on", [True, False])
async def test_requests_and_the_openapi_document_are_the_same_with_and_without_the_switch(
    monkeypatch, on
):
    monkeypatch.setattr(late_route, "ON", on)
    app, found = FastAPI(), APIRouter(prefix="/v1/echoes", route_class=Route)
    found.get("/{number}", summary="Echo")(echo)
    install(app, [found])
    (last,) = found.routes
    assert ("dependant" in vars(last)) is not on
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        assert (await http.get("/v1/echoes/3")).json() == {"number": 3}
        assert (await http.get("/v1/echoes/three")).status_code == 422
        assert (await http.post("/v1/echoes/3")).status_code == 405
    assert "dependant" in vars(last)
    assert app.openapi()["paths"]["/v1/echoes/{number}"]["get"]["summary"] == "Echo"


@pytest.mark.parametrize("on", [True, False])
async def test_a_body_waits_for_its_validator_until_its_route_is_worked_out(monkeypatch, on):
    class Letter(Body):
        words: int

    async def send(letter: Letter) -> int:
        return letter.words

    send.__annotations__ = {"letter": Letter, "return": int}
    assert not Letter.__pydantic_complete__
    monkeypatch.setattr(late_route, "ON", on)
    app, part = FastAPI(), router("/letters")
    part.post("")(send)
    install(app, [part])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        assert (await http.post("/v1/letters", json={"words": 3})).json() == 3
        assert (await http.post("/v1/letters", json={"words": "3"})).status_code == 422
    assert app.openapi()["components"]["schemas"]["Letter"]["required"] == ["words"]

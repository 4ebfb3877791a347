"""A route is worked out when it is first used, and answers as one that was worked out at once."""

import pytest

from app.api.edge import late_route
from app.api.edge.routing import router


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


async def test_a_request_and_the_openapi_document_make_the_whole_route(federation):
    routes = {found.name: found for found in federation.app.router.routes}
    status, metrics = routes["get_status"], routes["read_metrics"]
    assert "dependant" not in vars(status)
    answer = await federation.http.get(status.path.replace("{experiment_id}", "none"))
    assert answer.status_code == 401
    assert "dependant" in vars(status)
    assert status.path in federation.app.openapi()["paths"]
    assert "dependant" in vars(metrics)

"""The page and the documentation behind a path prefix that the coordinator knows nothing of."""

from __future__ import annotations

import threading

import httpx
import pytest
import uvicorn
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from examples.containers import free_port
from tests.support.plain_http import create
from tests.support.sample import sample

PREFIX = "/api/v1/web/guest/federated/coordinator.http"


@pytest.fixture(scope="module")
def prefixed(http):
    """A gateway that takes the prefix off, as OpenWhisk does and a stage of API Gateway."""

    async def forward(request: Request) -> Response:
        if request.path_params["path"].endswith("/events"):
            return Response(status_code=404)  # it does not stream
        url = f"{str(http.base_url).removesuffix('/v1/')}/{request.path_params['path']}"
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.get(url, params=request.query_params)
        kept = {k: v for k, v in answer.headers.items() if k in ("content-type", "etag")}
        return Response(answer.content, answer.status_code, headers=kept)

    app, port = Starlette(routes=[Route(f"{PREFIX}/{{path:path}}", forward)]), free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{port}{PREFIX}"
    server.should_exit = True
    thread.join()


def test_the_page_finds_its_files_and_the_api(http, open_page, prefixed):
    experiment, _ = create(http, "behind a prefix")
    page = open_page().page
    page.goto(f"{prefixed}/")
    page.get_by_role("link", name="behind a prefix").click()
    expect(page.get_by_role("heading", name="behind a prefix")).to_be_visible()
    assert experiment in page.url


DARK = "rgb(28, 32, 34)"  # Swagger UI's own


@pytest.mark.parametrize("behind", sample(["prefixed", "nothing"], ["prefixed"]))
def test_the_documentation_needs_no_network_and_tries_calls(open_page, server, prefixed, behind):
    base = {"prefixed": prefixed, "nothing": server.url}[behind]
    page = open_page(color_scheme="dark").page
    page.goto(f"{base}/docs")
    expect(page.locator("html")).to_have_css("background-color", DARK)
    page.locator("#operations-Watch-health_health_get .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    answers = page.locator(".responses-table.live-responses-table")
    expect(answers).to_contain_text('"status": "ok"')
    expect(page.locator(".request-url")).to_contain_text(f"{base}/health")
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).not_to_have_css("background-color", DARK)

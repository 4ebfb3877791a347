"""What every answer carries: a request id, security headers, and CORS where it is asked for."""

import logging
import re
from contextlib import asynccontextmanager

import httpx
import pytest

from app.config import Settings
from app.main import create_app
from tests.support.federation import ADMIN_KEY
from tests.support.plain_http import bearer

API = "default-src 'none'; frame-ancestors 'none'"


@asynccontextmanager
async def caller(federation, base_url="http://coordinator", **settings):
    app = create_app(Settings(admin_key=ADMIN_KEY, **settings))
    app.state.coordinator = federation.app.state.coordinator
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as http:
        yield http


async def answers(http, federation):
    """One of each kind: good, not found, not allowed, no key, malformed, too large, broken."""

    async def broken(*_):
        raise RuntimeError

    experiment, _ = await federation.create()

    federation.app.state.coordinator.views.round = broken
    yield await http.get("/health")
    yield await http.get("/v1/experiments")
    yield await http.get("/v1/experiments/none")
    yield await http.get("/nowhere")
    yield await http.delete("/v1/experiments")
    yield await http.post("/v1/experiments", json={})
    yield await http.get("/v1/experiments?limit=x")
    yield await http.post("/v1/experiments", content=b"x" * (9 * 1024**2))
    yield await http.get(f"/v1/experiments/{experiment}/rounds/1")


async def test_every_answer_is_guarded_against_sniffing_framing_and_caching(federation):
    seen = set()
    async for answer in answers(federation.http, federation):
        seen.add(answer.status_code)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"] == API
        assert answer.headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert seen == {200, 401, 404, 405, 413, 422, 500}


async def test_a_route_that_says_how_it_may_be_cached_is_heard(federation):
    experiment, key = await federation.create()
    answer = await federation.http.get(
        f"/v1/experiments/{experiment}/models/0", headers=bearer(key)
    )
    assert answer.headers.get_list("cache-control") == ["private, no-cache"]


async def test_https_is_asked_for_only_where_it_was_used(federation):
    async with caller(federation, "https://coordinator") as http:
        answer = await http.get("/v1/experiments")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("path", ["/", "/static/page.js"])
async def test_the_page_may_use_its_own_files_and_nothing_else(federation, path):
    policy = (await federation.http.get(path)).headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_the_docs_load_nothing_from_elsewhere(federation):
    answer = await federation.http.get("/docs")
    assert answer.status_code == 200
    (policy,) = answer.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'self';")
    assert "http" not in policy
    assert "script-src" not in policy  # its own files only, and no inline script
    assert re.findall(r'<script defer src="([^"]*)"></script>', answer.text)
    assert "//" not in answer.text


async def test_a_request_id_is_in_the_answer_its_problem_and_its_log_line(federation, caplog):
    caplog.set_level(logging.INFO, "app")
    async for answer in answers(federation.http, federation):
        ident = answer.headers["x-request-id"]
        if answer.status_code >= 400:
            assert answer.json()["request_id"] == ident
            lines = [r.getMessage() for r in caplog.records if ident in r.getMessage()]
            assert [line for line in lines if line.startswith("request request_id=")], lines
            assert f"code={answer.json()['code']}" in lines[-1]
    given = await federation.http.get("/nowhere", headers={"X-Request-ID": "mine-1"})
    assert given.headers["x-request-id"] == given.json()["request_id"] == "mine-1"
    forged = await federation.http.get("/nowhere", headers={"X-Request-ID": "a\tb"})
    assert forged.headers["x-request-id"] != "a\tb"


async def test_a_log_line_cannot_be_forged(federation, caplog):
    caplog.set_level(logging.INFO, "app")
    for path in ("/v1/{}", "/v1/experiments/{}", "/v1/experiments/{}/rounds/{}"):
        await federation.http.get(path.replace("{}", "%0Arequest%20forged:%20all%20is%20well"))
    assert len(caplog.records) >= 3
    assert not any("\n" in r.getMessage() or "forged" in r.getMessage() for r in caplog.records)


async def test_what_is_logged_far_below_carries_the_id_too(federation, caplog, monkeypatch):
    """Here: an aggregation that fails while a client commits its update."""

    async def broken(*_):
        raise RuntimeError("no such luck")

    monkeypatch.setattr("app.service.aggregation.finish.aggregate", broken)
    experiment, members = await federation.start()
    for client in await federation.cohort(experiment):
        await members[client].upload(1, 1.0)
    (record,) = [r for r in caplog.records if "aggregation failed" in r.getMessage()]
    assert re.search(rf"request_id=[0-9a-f]{{16}} experiment={experiment} ", record.getMessage())
    assert record.getMessage().endswith(" round=1")


PREFLIGHT = {
    "Origin": "https://there.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


async def test_other_origins_are_kept_out_unless_they_are_let_in(federation):
    closed = await federation.http.options("/v1/experiments", headers=PREFLIGHT)
    assert closed.status_code == 405
    assert "access-control-allow-origin" not in closed.headers
    origins = "https://there.example, https://elsewhere.example:8443"
    async with caller(federation, cors_origins=origins) as http:
        preflight = await http.options("/v1/experiments", headers=PREFLIGHT)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://there.example"
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        assert preflight.headers["x-request-id"]
        assert preflight.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-credentials" not in preflight.headers
        refused = await http.post("/v1/experiments", json={}, headers=PREFLIGHT)
        assert refused.status_code == 401  # and the page can read why
        assert refused.headers["access-control-allow-origin"] == "https://there.example"
        assert "ETag" in refused.headers["access-control-expose-headers"]
        too_large = await http.post(
            "/v1/experiments", content=b"x" * (9 * 1024**2), headers=PREFLIGHT
        )
        assert too_large.status_code == 413
        assert too_large.headers["access-control-allow-origin"] == "https://there.example"
        other = PREFLIGHT | {"Origin": "https://evil.example"}
        for answer in (
            await http.options("/v1/experiments", headers=other),
            await http.get("/v1/experiments", headers=other),
        ):
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("wrong", ["there.example", "https://there.example/", "https://a/b, *"])
def test_what_is_no_origin_is_refused_at_the_start(wrong):
    with pytest.raises(ValueError, match="must be an origin"):
        Settings(cors_origins=wrong)

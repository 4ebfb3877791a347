"""A file that cannot be read is an error of its own, and never a 200 with fewer bytes."""

import dataclasses
import re

import httpx
import numpy as np
import pytest

from app.service.coordinator import Limits
from serverless_fl.domain.errors import StoreDenied, StoreUnavailable
from tests.support.federation import Federation, weights
from tests.support.plain_http import bearer

PART = 100


@pytest.fixture
async def started(store):
    """A federation whose blob store fails as `blobs.fault` says, from the n-th read on."""

    class Failing:
        fault, after = None, 0

        def __getattr__(self, name):
            return getattr(store.blobs, name)

        async def get(self, key):
            self.after -= 1
            if self.fault is None or self.after >= 0:
                return await store.blobs.get(key)
            if isinstance(self.fault, Exception):
                raise self.fault
            return None

    blobs = Failing()
    federation = Federation(store.documents, blobs)
    federation.limits = Limits(part_bytes=PART)
    async with federation.serving():
        experiment, _ = await federation.create(initial=weights(1, big=np.arange(300.0)))
        federation.limits = dataclasses.replace(federation.limits, answer_bytes=1 << 20)
        yield federation, f"/v1/experiments/{experiment}/models/0", blobs


FAULTS = {
    "gone": ("gone", 404, "file-gone"),
    "away": (StoreUnavailable("secret-host is away."), 503, "store-unavailable"),
    "denied": (StoreDenied("secret-host says no."), 503, "store-denied"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("ranged", [False, True])
async def test_a_file_that_cannot_be_read_is_a_problem(started, fault, ranged):
    federation, path, blobs = started
    blobs.fault, status, code = FAULTS[fault]
    headers = {"Range": "bytes=0-9"} if ranged else {}
    answer = await federation.http.get(path, headers=headers | authorised(federation))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "content-range" not in answer.headers and "etag" not in answer.headers
    assert "secret-host" not in answer.text


@pytest.mark.parametrize("fault", FAULTS)
async def test_where_answers_are_sent_whole_a_later_part_is_a_problem_too(started, fault):
    """Lambda sends what there is when the application ends: a 200 would be short."""
    federation, path, blobs = started
    federation.app.state.coordinator = federation.coordinator()
    assert federation.app.state.coordinator.context.limits.answer_bytes
    blobs.fault, status, code = FAULTS[fault]
    blobs.after = 1
    answer = await federation.http.get(path, headers=authorised(federation))
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_download_that_breaks_off_is_told_in_one_line(started, fault, caplog):
    federation, path, blobs = started
    blobs.fault, _, code = FAULTS[fault]
    blobs.after = 1
    sent = await raw(federation.app, path, authorised(federation))
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 200 and len(sent[1]["body"]) == PART
    assert sent[1]["more_body"]  # never ended: the server closes the connection
    told = [r for r in caplog.records if "download broke off" in r.getMessage()]
    assert len(told) == 1 and f"code={code}" in told[0].getMessage()
    assert not re.search(r"Traceback", caplog.text)


async def test_nothing_is_read_for_a_file_that_the_caller_has(started):
    federation, path, blobs = started
    etag = (await federation.http.get(path, headers=authorised(federation))).headers["etag"]
    blobs.fault = StoreUnavailable("away")
    headers = {"If-None-Match": etag} | authorised(federation)
    assert (await federation.http.get(path, headers=headers)).status_code == 304


def authorised(federation):
    return bearer(federation.admin.connection.key)


async def raw(app, path, headers):
    """What the application sends a server."""
    request = httpx.Request("GET", f"http://coordinator{path}", headers=headers)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(k.lower(), v) for k, v in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("coordinator", 80),
        "state": {},
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent

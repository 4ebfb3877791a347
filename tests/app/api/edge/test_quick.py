"""The quick way of polls and uploads answers as FastAPI's own does, in whatever form they come."""

import hashlib

import pytest

from app.api.edge.routing import Route
from tests.support.federation import weights
from tests.support.plain_http import bearer


async def both(federation, method, path, monkeypatch, **more):
    """The answer by way of the quick handler, and the one without it."""
    answers = []
    for quick in (True, False):
        with monkeypatch.context() as patch:
            for route in federation.app.router.routes:
                if isinstance(route, Route) and not quick:
                    patch.setattr(route, "shortcut", None)
            answers.append(await federation.http.request(method, f"/v1{path}", **more))
    return answers


def essence(answer):
    """What must not depend on the way: pauses are by the clock, which stands still."""
    own = ("x-request-id", "server-timing")
    headers = {k: v for k, v in answer.headers.items() if k not in own}
    body = answer.json()
    body.pop("request_id", None)
    return answer.status_code, headers, body


@pytest.fixture
async def member(federation):
    """A client of the cohort, its token, and the experiment's path."""
    experiment, key = await federation.create(clients=1, clients_per_round=1)
    found = await federation.enrol(experiment, key, 0)
    return found, found.api.connection.key, f"/experiments/{experiment}"


async def test_a_poll_is_answered_alike(federation, member, monkeypatch):
    _, token, path = member
    quick, slow = await both(
        federation, "GET", f"{path}/status", monkeypatch, headers=bearer(token)
    )
    assert essence(quick) == essence(slow)
    assert quick.json()["action"] == "train"


async def test_an_upload_is_answered_alike(federation, member, monkeypatch):
    _, token, path = member
    data = weights(1)
    sha = hashlib.sha256(data).hexdigest()
    part = f"{path}/rounds/1/update/parts/0?sha256={sha}"
    sent = {
        "content": data,
        "headers": bearer(token) | {"Content-Type": "application/octet-stream"},
    }
    quick, slow = await both(federation, "PUT", part, monkeypatch, **sent)
    assert essence(quick) == essence(slow)
    assert quick.json() == {"number": 0, "sha256": sha, "size": len(data)}
    commit = {"sha256": sha, "parts": [sha], "num_examples": 3, "metrics": {"loss": 1}}
    sent = {"json": commit, "headers": bearer(token)}
    quick, slow = await both(federation, "POST", f"{path}/rounds/1/update", monkeypatch, **sent)
    assert essence(quick) == essence(slow)
    assert quick.status_code == 200


@pytest.mark.parametrize("metrics", ["", '&metrics={"loss":1,"a.b:c":0.5}', "&metrics=%7B%7D"])
async def test_an_upload_in_one_request_is_answered_alike(federation, member, monkeypatch, metrics):
    _, token, path = member
    data = weights(1)
    sha = hashlib.sha256(data).hexdigest()
    sent = {
        "content": data,
        "headers": bearer(token) | {"Content-Type": "application/octet-stream"},
    }
    whole = f"{path}/rounds/1/update?sha256={sha}&num_examples=3{metrics}"
    quick, slow = await both(federation, "PUT", whole, monkeypatch, **sent)
    assert essence(quick) == essence(slow)
    assert quick.json()["num_examples"] == 3 and quick.json()["size"] == len(data)
    context = federation.app.state.coordinator.context
    stored = await context.repo.update(path.rpartition("/")[2], 1, 0)
    assert stored.metrics == ({"loss": 1, "a.b:c": 0.5} if "loss" in metrics else {})


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "invalid-request"),
        ("sha256=S", "invalid-request"),
        ("sha256=S&num_examples=0", "invalid-request"),
        ("sha256=S&num_examples=-1", "invalid-request"),
        ("sha256=S&num_examples=99999999999", "invalid-request"),
        ("sha256=S&num_examples=1&more=1", "invalid-request"),
        ("sha256=S&num_examples=1&metrics=", "invalid-request"),
        ("sha256=S&num_examples=1&metrics=[]", "invalid-request"),
        ("sha256=S&num_examples=1&metrics=%22x%22", "invalid-request"),
        ('sha256=S&num_examples=1&metrics={"a":NaN}', "invalid-request"),
        ('sha256=S&num_examples=1&metrics={"a":true}', "invalid-request"),
        ('sha256=S&num_examples=1&metrics={"a":"1"}', "invalid-request"),
        ('sha256=S&num_examples=1&metrics={"a b":1}', "invalid-request"),
        ('sha256=S&num_examples=1&metrics={"a":1e31}', "invalid-request"),
        ("sha256=S&num_examples=1&metrics=%ff", "invalid-request"),
        ("sha256=S&num_examples=1", "digest-mismatch"),
        ("num_examples=1&sha256=S", "digest-mismatch"),
        ("sha256=S&num_examples=1&sha256=S", "digest-mismatch"),
    ],
)
async def test_an_upload_in_one_request_that_is_none_is_told_so_as_ever(
    federation, member, monkeypatch, query, code
):
    _, token, path = member
    url = f"{path}/rounds/1/update?{query.replace('S', 'a' * 64)}"
    sent = {"content": weights(1), "headers": bearer(token)}
    quick, slow = await both(federation, "PUT", url, monkeypatch, **sent)
    assert essence(quick) == essence(slow)
    assert (quick.status_code, quick.json()["code"]) == (422, code)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/status", {}, 401),
        ("GET", "/status", {"Authorization": "Bearer"}, 401),
        ("GET", "/status", {"Authorization": "Basic dTpw"}, 401),
        ("GET", "/status", {"Authorization": "Bearer 0.tok_wrong"}, 401),
        ("GET", "/status", {"Authorization": "bearer TOKEN"}, 200),
        ("GET", "/status?unknown=1", {"Authorization": "Bearer TOKEN"}, 200),
        ("POST", "/status", {"Authorization": "Bearer TOKEN"}, 405),
        ("PUT", "/rounds/1/update/parts/0", {"Authorization": "Bearer TOKEN"}, 422),
        (
            "PUT",
            f"/rounds/1/update/parts/x?sha256={'a' * 64}",
            {"Authorization": "Bearer TOKEN"},
            422,
        ),
        (
            "PUT",
            f"/rounds/0/update/parts/0?sha256={'a' * 64}",
            {"Authorization": "Bearer TOKEN"},
            422,
        ),
        (
            "PUT",
            f"/rounds/1/update/parts/0?sha256={'A' * 64}",
            {"Authorization": "Bearer TOKEN"},
            422,
        ),
        (
            "PUT",
            f"/rounds/9/update/parts/0?sha256={'a' * 64}",
            {"Authorization": "Bearer TOKEN"},
            409,
        ),
        ("POST", "/rounds/1/update", {"Authorization": "Bearer TOKEN"}, 422),
    ],
)
async def test_what_is_not_well_formed_is_told_so_as_ever(
    federation, member, monkeypatch, method, path, headers, status
):
    _, token, base = member
    headers = {name: value.replace("TOKEN", token) for name, value in headers.items()}
    sent = {"headers": headers, "content": b"x" if method == "PUT" else b""}
    quick, slow = await both(federation, method, base + path, monkeypatch, **sent)
    assert essence(quick) == essence(slow)
    assert quick.status_code == status


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b'{"sha256": "x"}', "application/json"),
        (b'{"sha256": "S", "parts": ["S"], "num_examples": 1.0}', "application/json"),
        (b'{"sha256": "S", "parts": ["S"], "num_examples": "1"}', "application/json"),
        (b'{"sha256": "S", "parts": ["S"], "num_examples": true}', "application/json"),
        (b'{"sha256": "S", "parts": ["S"], "num_examples": 1, "more": 1}', "application/json"),
        (
            b'{"sha256": "S", "parts": ["S"], "num_examples": 1, "metrics": {"a": NaN}}',
            "application/json",
        ),
        (b'{"sha256": "S", "parts": ["S"], "num_examples": 1}', "text/plain"),
    ],
)
async def test_a_commit_that_is_no_commit_is_told_so_as_ever(
    federation, member, monkeypatch, body, kind
):
    _, token, path = member
    sent = {
        "content": body.replace(b'"S"', b'"' + b"a" * 64 + b'"'),
        "headers": bearer(token) | {"Content-Type": kind},
    }
    quick, slow = await both(federation, "POST", f"{path}/rounds/1/update", monkeypatch, **sent)
    assert essence(quick) == essence(slow)
    assert quick.status_code == 422

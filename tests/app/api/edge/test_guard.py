"""What a request must be before anybody reads its body or believes its headers."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from starlette.exceptions import HTTPException

from app.api.edge.guard import PROBES, Guard
from app.api.edge.rate import RateLimit
from app.api.edge.routing import LIST_BYTES
from app.config import Settings
from app.main import create_app
from tests.support.federation import ADMIN_KEY, Clock
from tests.support.plain_http import bearer

JSON = (b"content-type", b"application/json")


async def ask(app, method="GET", path="/v1/experiments", headers=(), body=None, **scope):
    """Status, headers and problem of a request, as raw as a server hands it over.

    `body` None: whoever reads it fails the test.
    """
    sent = []

    async def receive():
        assert body is not None, "the body is read"
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    path, _, query = path.partition("?")
    known = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": list(headers),
        "scheme": "http",
        "server": ("c", 80),
        "client": ("192.0.2.7", 1),
        "state": {},
    }
    await app(known | scope, receive, send)
    start, *rest = sent
    content = b"".join(message.get("body", b"") for message in rest)
    given = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], given, json.loads(content) if content else None


def authorization(secret):
    return (b"authorization", f"Bearer {secret}".encode())


def operations_with_a_body(app):
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                yield method.upper(), path


async def test_no_body_is_read_of_whoever_shows_no_key(federation):
    experiment, _ = await federation.create()
    found = list(operations_with_a_body(federation.app))
    assert len(found) >= 12
    for method, template in found:
        path = template.replace("{experiment_id}", experiment).replace("{version}", "0")
        path = path.replace("{number}", "1").replace("{part}", "0")
        for key in (None, "a-key-of-nobody", "0.tok_made-up"):
            headers = [JSON, *([authorization(key)] if key else [])]
            query = f"?sha256={'0' * 64}&num_examples=1"
            status, _, problem = await ask(federation.app, method, path + query, headers)
            assert (status, problem["code"]) == (401, "unauthenticated"), (method, path, key)


async def test_an_id_that_is_none_is_refused_before_the_body_is_read(federation):
    status, _, problem = await ask(
        federation.app, "POST", "/v1/experiments/NONE/clients", [JSON, authorization("x")]
    )
    assert (status, problem["code"]) == (422, "invalid-request")
    assert "experiment_id" in problem["detail"]


@pytest.mark.parametrize("announced", [True, False])
async def test_json_is_as_large_as_it_need_be_and_no_larger(federation, announced):
    body = b'{"name": "' + b"x" * 70_000 + b'"}'
    length = [(b"content-length", b"%d" % len(body))] if announced else []
    headers = [JSON, authorization(ADMIN_KEY), *length]
    status, _, problem = await ask(
        federation.app, "POST", "/v1/experiments", headers, None if announced else body
    )
    assert (status, problem["code"]) == (413, "too-large")
    assert "65536" in problem["detail"]


async def test_a_commit_may_name_twenty_thousand_parts(federation):
    experiment, _ = await federation.create()
    body = json.dumps({"sha256": "0" * 64, "parts": ["0" * 64] * 20_000}).encode()
    headers = [JSON, authorization(ADMIN_KEY)]
    path = f"/v1/experiments/{experiment}/initial-model"
    status, _, problem = await ask(federation.app, "POST", path, headers, body)
    assert (status, problem["code"]) not in ((413, "too-large"), (422, "invalid-request"))


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "Content-Length", "Content-Type", "Host", "Range", "Idempotency-Key"),
        *("Content-Encoding", "Transfer-Encoding", "If-Range", "Last-Event-Id", "X-Request-Id"),
    ],
)
async def test_a_header_that_must_be_one_is_not_two(federation, name):
    """Two readers of such a request may each believe another of the two."""
    value = {
        "Content-Length": b"0",
        "Authorization": b"Bearer " + ADMIN_KEY.encode(),
        "Content-Encoding": b"identity",
    }
    header = (name.lower().encode(), value.get(name, b"a"))
    assert (await ask(federation.app, headers=[header], body=b""))[0] == 200
    status, _, problem = await ask(federation.app, headers=[header, header])
    assert (status, problem["code"]) == (400, "repeated-header")
    assert name in problem["detail"]


async def test_headers_that_may_repeat_may(federation):
    twice = [(b"accept", b"a"), (b"accept", b"b"), (b"via", b"c"), (b"via", b"d")]
    assert (await ask(federation.app, headers=twice))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        b"[",
        b"a b",
        b"a:b",
        b"a:65536",
        b"a:1:2",
        b"[::1",
        b"[:::::]",
        b"a/b",
        b"a@b",
        b"\xff",
        b"::1",
    ],
)
@pytest.mark.parametrize("path", ["/v1/experiments", "/nowhere", "/v1/experiments/"])
async def test_a_host_that_is_none_is_a_bad_request(federation, host, path):
    status, _, problem = await ask(federation.app, path=path, headers=[(b"host", host)])
    assert (status, problem["code"]) == (400, "malformed-host")


@pytest.mark.parametrize(
    "host",
    [
        *(b"", b"a", b"a_b.example.org:8000", b"a:", b"a:65535"),
        *(b"[::1]", b"[2001:db8::1]:443", b"1.2.3.4:1"),
    ],
)
async def test_a_host_that_is_one_is_taken(federation, host):
    assert (await ask(federation.app, headers=[(b"host", host)]))[0] == 200


@pytest.mark.parametrize("length", [b"-5", b"1_0", b"+1", b"x", b"9" * 30, b""])
async def test_a_length_that_is_none_is_a_bad_request(federation, length):
    status, _, problem = await ask(federation.app, headers=[(b"content-length", length)])
    assert (status, problem["code"]) == (400, "malformed-length")


@pytest.mark.parametrize(
    "value",
    [
        "Bearer {} extra",
        "Bearer extra {}",
        "Bearer {},Bearer {}",
        "Bearer\t{}",
        "Basic {}",
        "{}",
        "Bearer",
        "Bearer ",
        "BearerBearer {}",
    ],
)
async def test_what_stands_beside_a_key_makes_it_no_key(federation, value):
    header = (b"authorization", value.replace("{}", ADMIN_KEY).encode())
    status, given, _ = await ask(federation.app, path="/v1/key", headers=[header])
    assert (status, given["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("value", ["Bearer {}", "bearer {}", "BEARER  {}", "Bearer {} "])
async def test_the_scheme_is_read_as_http_has_it(federation, value):
    header = (b"authorization", value.replace("{}", ADMIN_KEY).encode())
    assert (await ask(federation.app, path="/v1/key", headers=[header]))[0] == 204


@pytest.mark.parametrize("value", ["Bearer {} extra", "Bearer {},Bearer {}"])
async def test_what_stands_beside_a_token_makes_it_no_token(federation, value):
    experiment, members = await federation.start()
    token = next(iter(members.values())).api.connection.key
    header = (b"authorization", value.replace("{}", token).encode())
    for what in ("status", "shard"):
        path = f"/v1/experiments/{experiment}/{what}"
        assert (await ask(federation.app, path=path, headers=[header]))[0] == 401
        assert (await ask(federation.app, path=path, headers=[authorization(token)]))[0] == 200


def guarded(work=None, **settings):
    """The guard alone, before an app that reads the whole body and answers with its length."""

    async def app(scope, receive, send):
        status, body = 200, b""
        try:
            body = (await receive())["body"]
        except HTTPException as error:  # as FastAPI does
            status = error.status_code
        await (work(send) if work else answer(status, body, send))

    async def answer(status, body, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % len(body)})

    return Guard(app, **{"max_body": 100_000, "loopback_only": False} | settings)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("method", "max_body", "limit"),
    [("POST", LIST_BYTES + 5, LIST_BYTES), ("PUT", LIST_BYTES + 5, LIST_BYTES + 5), ("POST", 9, 9)],
)
async def test_a_body_of_exactly_the_limit_is_taken(announced, method, max_body, limit):
    guard = guarded(max_body=max_body)
    for size in (limit, limit + 1):
        headers = [(b"content-length", b"%d" % size)] if announced else []
        status, _, told = await ask(guard, method, headers=headers, body=b"x" * size)
        assert status == (200 if size == limit else 413)
        if size == limit:
            assert told == limit


async def test_a_pause_is_told_in_whole_seconds_and_is_long_enough():
    clock = Clock()
    guard = guarded(rate=RateLimit(0.4, 1, factor=1, clock=clock))
    assert (await ask(guard, body=b""))[0] == 200
    status, given, problem = await ask(guard)
    assert (status, given["retry-after"]) == (429, "3")  # 2.5 s
    assert "Wait 3 s" in problem["detail"]
    clock.now += 2.4
    assert (await ask(guard))[1]["retry-after"] == "1"  # never 0, which is at once
    clock.now += 0.1
    assert (await ask(guard, body=b""))[0] == 200


async def test_a_probe_is_not_limited():
    guard = guarded(rate=RateLimit(0.001, 1, factor=1, clock=Clock()))
    for path in ("/v1/experiments", *PROBES, *PROBES):
        assert (await ask(guard, path=path, body=b""))[0] == 200
    assert (await ask(guard))[0] == 429


async def test_a_defect_is_answered_without_its_words_and_logged(caplog):
    async def broken(send):
        raise RuntimeError("a secret")

    status, _, problem = await ask(guarded(broken), body=b"")
    assert (status, problem["code"]) == (500, "internal-error")
    assert "secret" not in json.dumps(problem)
    (record,) = caplog.records
    assert (record.levelname, record.exc_info[0]) == ("ERROR", RuntimeError)


async def test_an_answer_that_breaks_off_is_not_followed_by_another():
    """The server then closes the connection, by which the caller knows."""
    sent = []

    async def breaking(send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sent.append("a start")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await ask(guarded(breaking), body=b"")
    assert sent == ["a start"]


def keyless(tmp_path, **settings):
    return create_app(Settings(admin_key=None, data_dir=tmp_path, **settings))


@pytest.mark.parametrize(
    "client",
    [
        ("192.0.2.7", 1),
        ("127.0.0.2", 1),
        ("127.1.2.3", 1),
        ("::ffff:127.0.0.1", 1),
        ("::ffff:7f00:1", 1),
        ("0:0:0:0:0:0:0:1", 1),
        ("localhost", 1),
        ("testclient", 1),
        ("unix:", 0),
        ("", 0),
        ("0.0.0.0", 1),
        None,
    ],
)
async def test_this_machine_is_its_two_loopback_addresses_and_nothing_else(tmp_path, client):
    status, _, problem = await ask(keyless(tmp_path), path="/health", client=client)
    assert (status, problem["code"]) == (403, "loopback-only")


@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    "header", ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: ::1", None]
)
async def test_who_comes_through_a_proxy_is_not_on_this_machine(tmp_path, client, header):
    name, _, value = (header or "").partition(": ")
    headers = [(name.lower().encode(), value.encode())] if header else []
    status, *_ = await ask(keyless(tmp_path), path="/health", headers=headers, client=(client, 1))
    assert status == (403 if header else 200)


async def statuses(federation, callers, **settings):
    """Of requests from these (address, X-Forwarded-For), where each address may make two."""
    app = create_app(
        Settings(
            admin_key=ADMIN_KEY,
            rate_per_second=0.001,
            rate_burst=2,
            rate_address_factor=1,
            **settings,
        )
    )
    app.state.coordinator = federation.app.state.coordinator
    found = []
    for address, forwarded in callers:
        headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
        found.append((await ask(app, headers=headers, client=(address, 1)))[0])
    return found


async def test_whoever_chooses_its_address_shares_one_bucket(federation):
    """As uvicorn hands requests over where it believes the proxies of its own machine."""
    made_up = [(f"10.0.0.{n}", f"9.9.9.9, 10.0.0.{n}") for n in range(4)]
    assert await statuses(federation, made_up) == [200, 200, 429, 429]
    told = await statuses(federation, made_up, trusted_proxies="127.0.0.1")
    assert told == [200] * 4


async def test_a_header_that_the_server_does_not_believe_changes_nothing(federation):
    lies = [("192.0.2.7", f"10.0.0.{n}") for n in range(4)]
    assert await statuses(federation, lies) == [200, 200, 429, 429]


async def test_an_address_that_is_no_ip_is_limited_as_one_unknown(federation):
    callers = [("not-an-ip", ""), ("another", ""), ("unix:", ""), ("192.0.2.7", "")]
    assert await statuses(federation, callers) == [200, 200, 429, 200]


async def test_a_caller_that_hangs_up_in_its_body_is_no_error(federation, caplog):
    async def gone():
        return {"type": "http.disconnect"}

    experiment, _ = await federation.create()
    sent = []

    async def send(message):
        sent.append(message)

    path = f"/v1/experiments/{experiment}/initial-model/parts/0"
    scope = {
        **{"type": "http", "method": "PUT", "path": path, "raw_path": path.encode()},
        **{
            "headers": [authorization(ADMIN_KEY)],
            "query_string": b"sha256=" + b"0" * 64,
            "root_path": "",
        },
        **{"client": ("192.0.2.7", 1), "server": ("c", 80), "scheme": "http", "state": {}},
    }
    await federation.app(scope, gone, send)
    assert not sent
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


async def test_a_client_sends_so_many_parts_at_once_and_no_more(federation):
    experiment, members = await federation.start()
    token = next(iter(members.values())).api.connection.key
    federation.app.state.reading.at_once = 2
    path = f"/v1/experiments/{experiment}/rounds/1/update/parts/0?sha256={'0' * 64}"
    go_on = asyncio.Event()

    async def slow():
        await go_on.wait()
        yield b"x"

    def put(headers):
        headers = headers | bearer(token)
        return asyncio.create_task(federation.http.put(path, content=slow(), headers=headers))

    first = [put({}), put({"X-Way": "FastAPI's", "Content-Encoding": "identity"})]
    await asyncio.sleep(0.05)
    refused = await federation.http.put(path, content=b"x", headers=bearer(token))
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    assert int(refused.headers["retry-after"]) > 0
    go_on.set()
    answers = await asyncio.gather(*first)
    assert [a.json()["code"] for a in answers] == ["digest-mismatch"] * 2
    again = await federation.http.put(path, content=b"x", headers=bearer(token))
    assert again.json()["code"] == "digest-mismatch"


@pytest.mark.parametrize("path", ["/docs/", "/v1/experiments/", "/health/"])
async def test_a_last_slash_too_many_leads_to_the_path_without_it(federation, path):
    """By a reference: a gateway's stage or base path stands before it, and Host is the caller's."""
    headers = [(b"host", b"evil.example")]
    status, given, _ = await ask(federation.app, path=f"{path}?a=b", headers=headers)
    assert status == 307
    to = given["location"]
    for before in ("", "/stage", "/a/b.http"):
        led = httpx.URL(f"https://c.example{before}{path}?a=b").join(to)
        assert str(led) == f"https://c.example{before}{path.rstrip('/')}?a=b"


@pytest.mark.parametrize(
    "path", ["//evil.example/", "/nowhere/", "/v1/", "/docs//", "/v1/%0d%0aX/"]
)
async def test_what_leads_nowhere_is_not_found(federation, path):
    status, given, problem = await ask(federation.app, path=path)
    assert (status, problem["code"]) == (404, "not-found")
    assert "location" not in given


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_may_ask_by_head(federation, path):
    answer = await federation.http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")

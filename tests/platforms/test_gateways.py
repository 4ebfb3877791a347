"""Events of gateways as the entries read them: hosts, repeated headers, base paths, bodies."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from mangum import Mangum

from app.api.edge.certificates import PASSED, PLATFORM
from app.api.edge.prefix import BasePath
from app.config import Settings
from app.entry.gateways import AnyRequest, is_request
from app.entry.openwhisk import RawWebAction
from app.main import create_app
from examples.gateway import Call
from examples.lambda_gateway import http_api
from tests.support.federation import ADMIN_KEY
from tests.support.shapes import function_url, load_balancer, rest_api

SHAPES = [http_api, function_url, rest_api, load_balancer]
every_shape = pytest.mark.parametrize("shape", SHAPES)


def event_of(shape, path="/v1/experiments", method="GET", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return shape(Call(method, path, "", {"host": "c.example"} | named, b"", "192.0.2.7"))


def scope_of(event):
    """What the application is given of an event."""
    found = {}

    async def app(scope, receive, send):
        found.update(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    adapter(BasePath(app))(event, None)
    return found


def adapter(app):
    return Mangum(app, lifespan="off", custom_handlers=[AnyRequest])


@pytest.fixture(autouse=True)
def loop():
    """Mangum runs on the loop that is set."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield
    asyncio.set_event_loop(None)
    made.close()


class Echo:
    """The real application without a store: whatever needs one is a 500."""

    def __init__(self):
        self.app = create_app(Settings(admin_key=ADMIN_KEY, live=False), callers_known=True)

    def __call__(self, event):
        answer = adapter(BasePath(self.app))(event, None)
        body = answer.get("body") or "null"
        if answer.get("isBase64Encoded"):
            body = base64.b64decode(body)
        headers = answer.get("headers") or {}
        return answer["statusCode"], headers, body


@pytest.fixture(scope="module")
def function():
    return Echo()


@every_shape
@pytest.mark.parametrize(
    "host", ["[", "a:b", "a:1:2", "a:99999", "[::1", "a b", "\u0142", "\ud800"]
)
def test_a_host_that_is_none_is_a_bad_request_and_no_failed_invocation(function, shape, host):
    status, _, body = function(event_of(shape, host=host))
    assert (status, json.loads(body)["code"]) == (400, "malformed-host")


@every_shape
@pytest.mark.parametrize("host", ["[::1]:443", "c.example:8443", "[2001:db8::1]", ""])
def test_a_host_that_is_one_is_taken(function, shape, host):
    assert function(event_of(shape, "/health", host=host))[0] == 200


@every_shape
@pytest.mark.parametrize("port", ["x", "", "-1", "443, 80"])
def test_a_port_is_not_asked_for(function, shape, port):
    event = event_of(shape, "/health")
    for field in ("headers", "multiValueHeaders"):
        if field in event:
            event[field]["X-Forwarded-Port"] = port if field == "headers" else [port]
    assert function(event)[0] == 200


@pytest.mark.parametrize("shape", [rest_api, load_balancer])
@pytest.mark.parametrize("name", ["Authorization", "Host", "Content-Type"])
def test_headers_that_came_twice_are_still_two(function, shape, name):
    event = event_of(shape, "/health")
    event["multiValueHeaders"] = {name: ["a", "b"]}
    answer = function(event)
    assert (answer[0], json.loads(answer[2])["code"]) == (400, "repeated-header")


@every_shape
def test_the_caller_is_who_the_gateway_says(shape):
    event = event_of(shape, x_forwarded_for="10.9.9.9")
    if shape is load_balancer:
        event["headers"]["x-forwarded-for"] = "10.9.9.9, 192.0.2.7"
    assert scope_of(event)["client"] == ("192.0.2.7", 0)


@every_shape
@pytest.mark.parametrize("proto", ["https,http", "ftp", "", "javascript"])
def test_the_scheme_is_one_that_there_is(shape, proto):
    assert scope_of(event_of(shape, x_forwarded_proto=proto))["scheme"] in ("http", "https")


def staged(path, stage="prod"):
    event = event_of(http_api, path)
    event["requestContext"]["stage"] = stage
    return event


@pytest.mark.parametrize(
    ("path", "within"),
    [
        ("/prod/v1/experiments", "/v1/experiments"),
        ("/prod/", "/"),
        ("/prod/docs", "/docs"),
        ("/prod/docs/", "/docs/"),
        ("/prod/static/abc/x.js", "/static/abc/x.js"),
        ("/prod/health", "/health"),
        # A domain of one's own shows no stage.
        ("/v1/experiments", "/v1/experiments"),
        ("/production/v1/x", "/production/v1/x"),
        ("/prod/nowhere", "/prod/nowhere"),
    ],
)
def test_a_stage_is_no_part_of_our_path(path, within):
    assert scope_of(staged(path))["path"] == within


def test_a_stage_called_as_our_own_path_is_told_apart():
    assert scope_of(staged("/v1/v1/experiments", "v1"))["path"] == "/v1/experiments"
    assert scope_of(staged("/v1/experiments", "v1"))["path"] == "/v1/experiments"
    assert scope_of(staged("/v1/", "v1"))["path"] == "/"


@pytest.mark.parametrize("base", ["", "/fl", "/a/b"])
@pytest.mark.parametrize("path", ["/v1/experiments/x/status", "/health", "/docs/", "/v1/x%20y"])
def test_a_rest_apis_base_path_is_no_part_of_our_path(base, path):
    event = event_of(rest_api, base + path)
    event["pathParameters"] = {"proxy": path.lstrip("/")}
    assert scope_of(event)["path"].rstrip("/") == path.rstrip("/").replace("%20", " ")


@pytest.mark.parametrize("path", ["/fl", "/fl/"])
def test_a_rest_apis_base_path_alone_is_the_page(function, path):
    event = event_of(rest_api, path) | {"resource": "/", "pathParameters": None}
    status, headers, body = function(event)
    if path.endswith("/"):
        assert (status, "<!doctype html>" in str(body)) == (200, True)
    else:  # without the slash the page's files would be looked for beside it
        assert (status, headers["location"]) == (307, "fl/")


@pytest.mark.parametrize("path", ["/prod/docs/", "/prod"])
def test_no_answer_leads_out_of_its_stage(function, path):
    status, headers, _ = function(staged(path))
    assert (status, headers["location"]) == (307, {"/prod": "prod/"}.get(path, "../docs"))


def test_headers_may_be_missing():
    for field in ("headers", "multiValueHeaders"):
        event = event_of(http_api)
        event[field] = None
        assert scope_of(event)["path"] == "/v1/experiments"


@pytest.mark.parametrize(
    "event", [{}, {"tick": True}, [], "x", None, 7, {"Records": []}, {"requestContext": "x"}]
)
def test_what_is_no_request_is_none(event):
    assert not is_request(event)
    assert is_request(event_of(http_api))


def action(body="", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    event = {
        **{"__ow_method": "post", "__ow_path": "/v1/x", "__ow_query": "", "__ow_body": body},
        "__ow_headers": named,
    }
    return RawWebAction(event, None, None)


DOCUMENT = '{"config": {}}'
B64 = base64.b64encode(DOCUMENT.encode()).decode()


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        ("application/json", B64, DOCUMENT),
        ("application/json; charset=utf-8", B64, DOCUMENT),
        ("application/octet-stream", B64, DOCUMENT),
        (None, B64, DOCUMENT),
        ("application/x-www-form-urlencoded", DOCUMENT, DOCUMENT),
        ("application/x-www-form-urlencoded", "abcd", "abcd"),  # which is base64 as well
        ("Application/X-WWW-Form-Urlencoded; charset=utf-8", "a=b", "a=b"),
        ("text/plain", DOCUMENT, DOCUMENT),
        ("TEXT/PLAIN", "abcd", "abcd"),
        ("text/csv", "abcd", "abcd"),
        ("application/xml", "<a/>", "<a/>"),
        ("application/soap+xml", "<a/>", "<a/>"),
        ("application/javascript", "abcd", "abcd"),
        ("application/problem+json", DOCUMENT, DOCUMENT),
        ("application/json", "%%%", "%%%"),
        ("application/json", "", ""),
    ],
)
def test_an_actions_body_is_base64_for_binary_types_only(kind, body, found):
    headers = {"content_type": kind} if kind else {}
    assert action(body, **headers).body == found.encode()


@pytest.mark.parametrize("body", [None, {"a": 1}, "\ud800", "\u0142"])
def test_an_actions_body_is_never_a_failed_activation(body):
    assert isinstance(action(body, content_type="text/plain").body, bytes)
    assert isinstance(action(body).body, bytes)


def test_an_actions_headers_may_be_anything():
    scope = action(x_name="\u0142", x_other="\ud800", host="a:b:c", x_forwarded_proto="ftp").scope
    assert (scope["scheme"], dict(scope["headers"])[b"x-name"]) == ("https", b"?")


PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(("shape", "where"), [(http_api, "authentication"), (rest_api, "identity")])
def test_a_gateways_client_certificate_comes_beside_the_headers(shape, where):
    event = event_of(shape)
    assert scope_of(event)["state"][PASSED] is None
    event["requestContext"].setdefault(where, {})["clientCert"] = {"clientCertPem": PEM}
    assert scope_of(event)["state"][PASSED] == PEM


@every_shape
def test_the_header_of_a_client_certificate_is_a_load_balancers_alone(shape):
    event = event_of(shape, x_amzn_mtls_clientcert_leaf="forged where no load balancer is")
    assert scope_of(event)["state"][PLATFORM] is (shape is load_balancer)

"""The helper over HTTP, at a server on this machine."""

from __future__ import annotations

import json

import pytest

from app.store.helper import HttpHelper
from serverless_fl.domain.errors import HelperRefused, HelperUnavailable
from tests.support.local_server import QuietHandler, serving


class Answering(QuietHandler):
    def _answer(self):
        size = int(self.headers.get("Content-Length", "0"))
        self.server.got.append((self.command, self.path, self.headers, self.rfile.read(size)))
        status, body = self.server.answer
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer


@pytest.fixture(scope="module")
def server():
    with serving(Answering, got=[], answer=(200, b"{}")) as made:
        made.url += "/at"
        yield made


async def test_it_asks_with_its_key_below_the_helpers_path(server):
    server.got.clear()
    near = HttpHelper(server.url, "the-key")
    server.answer = 200, b'{"key": "k"}'
    assert await near.about() == {"key": "k"}
    server.answer = 200, b"words"
    assert await near.words({"first": 1}) == b"words"
    (get, post) = server.got
    assert get[:2] == ("GET", "/at/v1/helper")
    assert post[:2] == ("POST", "/at/v1/helper/words")
    assert json.loads(post[3]) == {"first": 1}
    assert post[2]["Authorization"] == "Bearer the-key"
    assert post[2]["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [409, 422])
async def test_a_refusal_is_the_helpers_own_sentence(server, status):
    detail = "Too few.\x1b[31m" + "x" * 900
    server.answer = status, json.dumps({"detail": detail}).encode()
    with pytest.raises(HelperRefused) as caught:
        await HttpHelper(server.url, "k").words({})
    assert caught.value.message.startswith("Too few.[31mxxx")
    assert len(caught.value.message) < 601


@pytest.mark.parametrize("status", [307, 401, 404, 429, 500, 503])
async def test_another_status_is_a_helper_that_is_away(server, status):
    server.answer = status, b"no problem at all"
    with pytest.raises(HelperUnavailable, match=f"status {status}: it gave no reason"):
        await HttpHelper(server.url, "k").words({})


@pytest.mark.parametrize("body", [b"[]", b"<html>"])
async def test_what_is_no_description_is_no_helper(server, body):
    server.answer = 200, body
    with pytest.raises(HelperUnavailable, match="The helper's answer is no"):
        await HttpHelper(server.url, "k").about()


async def test_an_address_at_which_nobody_answers_is_a_helper_that_is_away():
    """Port 9 of this machine: nobody serves it."""
    with pytest.raises(HelperUnavailable, match="The helper did not answer"):
        await HttpHelper("http://127.0.0.1:9", "k").about()
    with pytest.raises(HelperUnavailable, match="The helper did not answer"):
        await HttpHelper("https://127.0.0.1:9", "k").about()

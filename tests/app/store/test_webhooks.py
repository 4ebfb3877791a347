"""Webhooks over HTTP, to a server on this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket

import pytest

from app.store import webhooks
from app.store.webhooks import HttpWebhooks
from examples.containers import free_port
from tests.support.local_server import QuietHandler, serving

SECRET = bytes(range(32))


class Receiver(QuietHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        if self.server.status == 307:
            self.send_header("Location", "/elsewhere")
        self.end_headers()


@pytest.fixture
def receiver():
    with serving(Receiver, got=[], status=204) as server:
        server.url += "/hook?of=fl"
        yield server


async def test_a_message_is_signed_as_the_standard_says(receiver):
    hooks = HttpWebhooks([receiver.url], SECRET, clock=lambda: 1_700_000_000.9)
    assert await hooks.post(receiver.url, "exp/ended.1", b'{"type": "x"}') == ""
    ((path, headers, body),) = receiver.got
    assert (path, body) == ("/hook?of=fl", b'{"type": "x"}')
    assert headers["webhook-id"] == "exp/ended.1"
    assert headers["webhook-timestamp"] == "1700000000"
    assert headers["Content-Type"] == "application/json"
    signed = b'exp/ended.1.1700000000.{"type": "x"}'
    digest = hmac.new(SECRET, signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("status", [307, 400, 500])
async def test_another_answer_is_a_reason_and_no_redirect_is_followed(receiver, status):
    receiver.status = status
    hooks = HttpWebhooks([receiver.url], SECRET)
    assert await hooks.post(receiver.url, "n", b"{}") == f"status {status}"
    assert len(receiver.got) == 1


async def test_an_address_that_nobody_listens_at_is_a_reason():
    url = f"http://127.0.0.1:{free_port()}"
    assert await HttpWebhooks([url], SECRET).post(url, "n", b"{}") == "ConnectionRefusedError"


async def test_an_address_that_never_answers_costs_a_bounded_time(monkeypatch):
    monkeypatch.setattr(webhooks, "SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert await HttpWebhooks([url], SECRET).post(url, "n", b"{}") in (
            "no answer within 0.05 seconds",
            "TimeoutError",
        )

"""Wake-ups over HTTP to a server on this machine, and by a topic of SNS."""

from __future__ import annotations

import json
import socket

import pytest

from app.store import wake_ups
from app.store.wake_ups import CheckedWakeUps
from examples.containers import free_port
from serverless_fl.domain.signed_messages import require_signed
from serverless_fl.domain.wake_ups import WakeRules
from tests.app.store.test_webhooks import receiver  # noqa: F401

KEY, NOW = bytes(range(32)), 1_700_000_000.0


def wakers(*rules):
    return CheckedWakeUps(WakeRules(rules), clock=lambda: NOW)


async def test_a_wake_up_is_signed_with_the_clients_own_key(receiver):  # noqa: F811
    address = receiver.url.replace("127.0.0.1", "localhost")
    calling = wakers("127.0.0.0/8", f"localhost:{receiver.server_port}")
    assert await calling.call(address, KEY, "exp/wake.3.1.1.collecting", b"{}") == ""
    ((path, headers, body),) = receiver.got
    assert path == "/hook?of=fl"
    assert headers["Host"] == f"localhost:{receiver.server_port}"
    require_signed(KEY, {name.lower(): value for name, value in headers.items()}, body, NOW)


@pytest.mark.parametrize("status", [307, 401, 429, 500])
async def test_no_redirect_is_followed_and_another_answer_is_a_reason(receiver, status):  # noqa: F811
    receiver.status = status
    assert await wakers("127.0.0.1").call(receiver.url, KEY, "m", b"{}") == f"status {status}"
    assert len(receiver.got) == 1


async def test_a_name_that_leads_to_a_private_address_is_not_called(receiver):  # noqa: F811
    address = f"https://localhost:{receiver.server_port}/"
    calling = wakers(f"localhost:{receiver.server_port}")
    assert await calling.call(address, KEY, "m", b"{}") == (
        "its name leads to an address that is not allowed"
    )
    assert await calling.call(receiver.url, KEY, "m", b"{}") == "not allowed"
    assert receiver.got == []


async def test_a_name_is_resolved_once_and_the_checked_address_is_called(receiver, monkeypatch):  # noqa: F811
    """A name server that answers otherwise the second time leads the call nowhere else."""
    asked = []

    def resolve(host, port, *_, **__):
        if host == "127.0.0.1":  # `create_connection` reads numbers in the same way
            return real(host, port)
        asked.append(host)
        number = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    address = f"http://party.example:{receiver.server_port}/"
    calling = wakers(f"party.example:{receiver.server_port}", "127.0.0.1")
    assert await calling.call(address, KEY, "m", b"{}") == ""
    assert asked == ["party.example"]
    assert len(receiver.got) == 1


async def test_an_address_that_takes_the_call_and_works_on_it_is_woken(monkeypatch):
    monkeypatch.setattr(wake_ups, "ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert await wakers("127.0.0.1").call(address, KEY, "m", b"{}") == ""


async def test_an_address_that_nobody_listens_at_is_a_reason():
    address = f"http://127.0.0.1:{free_port()}"
    assert await wakers("127.0.0.1").call(address, KEY, "m", b"{}") == "ConnectionRefusedError"


async def test_a_topic_gets_the_message_with_its_signature(bucket):
    import boto3

    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    topic = sns.create_topic(Name="fl-north")["TopicArn"]
    queue = sqs.create_queue(QueueName="north")["QueueUrl"]
    where = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=where["Attributes"]["QueueArn"])
    assert await wakers(topic).call(topic, KEY, "m", b'{"a": 1}') == ""
    (got,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    found = json.loads(got["Body"])
    headers = {name: value["Value"] for name, value in found["MessageAttributes"].items()}
    require_signed(KEY, headers, found["Message"].encode(), NOW)
    gone = topic.replace("fl-north", "fl-south")
    assert await wakers(gone).call(gone, KEY, "m", b"{}") == "SNS answers NotFound"

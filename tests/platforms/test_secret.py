"""The secret that FL_SECRET_ID names: read again in time, in seconds, and never shown."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.config import BadSettings, Settings
from app.entry.secret import (
    FAILED_SECONDS,
    FRESH_SECONDS,
    WatchedSettings,
    secrets_of,
)
from serverless_fl.aws_secret import fetch_secret
from tests.support.federation import Clock

ROOT = Path(__file__).parents[2]


class Vault:
    """What is read; an exception is raised."""

    def __init__(self, *found, secret_id="s"):
        self.found, self.secret_id, self.asked = found[0], secret_id, 0

    def __call__(self):
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return Settings(admin_key=self.found, secret_id=self.secret_id)


OLD, NEW = "old" * 10, "new" * 10


@pytest.fixture
def vault():
    return Vault(OLD)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watched(vault, clock):
    return WatchedSettings(vault, clock=clock)


def key(watched):
    return watched.settings.admin_key.get_secret_value()


def test_it_is_read_again_after_some_minutes(vault, clock, watched):
    vault.found = NEW
    for _ in range(10):
        watched.read_again()
    assert (key(watched), vault.asked) == (OLD, 1)
    clock.now += FRESH_SECONDS
    watched.read_again()
    watched.read_again()
    assert (key(watched), vault.asked) == (NEW, 2)


def test_it_is_read_at_once_where_something_speaks_for_another_one(vault, clock, watched):
    vault.found = NEW
    clock.now += 1
    watched.read_again(urgent=True)
    assert key(watched) == NEW


def test_strangers_cannot_have_it_read_as_often_as_they_like(vault, clock, watched):
    for _ in range(100):
        clock.now += 0.1
        watched.read_again(urgent=True)
    assert vault.asked <= 12


@pytest.mark.parametrize("fault", [RuntimeError("away"), BadSettings("FL_ADMIN_KEY: too short.")])
def test_what_cannot_be_read_again_leaves_what_was_read(vault, clock, watched, fault, caplog):
    vault.found = fault
    clock.now += FRESH_SECONDS
    for _ in range(5):
        watched.read_again(urgent=True)
    assert (key(watched), vault.asked) == (OLD, 2)
    assert "secret not read again" in caplog.text
    vault.found = NEW
    clock.now += FAILED_SECONDS + 1
    watched.read_again(urgent=True)
    assert key(watched) == NEW


def test_settings_without_a_secret_are_read_once(clock):
    vault = Vault(OLD, secret_id=None)
    watched = WatchedSettings(vault, clock=clock)
    clock.now += 10 * FRESH_SECONDS
    watched.read_again(urgent=True)
    assert vault.asked == 1


def test_each_of_its_parts_is_a_change():
    settings = [
        Settings(admin_key=OLD),
        Settings(admin_key=NEW),
        Settings(admin_key=OLD, admin_key_previous=NEW),
        Settings(admin_key=OLD, mongodb_url="mongodb://a"),
        Settings(admin_key=OLD, mongodb_url="mongodb://b"),
        Settings(admin_key=OLD, webhook_secret=f"whsec_{'a' * 32}"),
        Settings(
            admin_key=OLD, webhook_secret=f"whsec_{'a' * 32}", webhook_urls="https://example.org"
        ),
    ]
    assert len({secrets_of(s) for s in settings}) == len(settings)
    assert secrets_of(Settings(admin_key=OLD)) == secrets_of(settings[0])


@pytest.fixture
def aws(aws_endpoint, monkeypatch):
    # moto imports a service at its first call, which a busy machine takes long for.
    monkeypatch.setattr("serverless_fl.aws_secret.READ_SECONDS", 60)
    return point_at(aws_endpoint, monkeypatch)


def point_at(url, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("secret_id", "code"),
    [("no-such-secret", "ResourceNotFoundException"), ("/no/such", "ParameterNotFound")],
)
def test_what_aws_refuses_is_said_in_a_sentence(aws, secret_id, code):
    with pytest.raises(RuntimeError) as caught:
        fetch_secret(secret_id)
    assert str(caught.value).startswith(f"The secret '{secret_id}' of FL_SECRET_ID cannot be read")
    assert str(caught.value).endswith(f"answers {code}.")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("secret_id", ["a-secret", "/a/parameter"])
@pytest.mark.parametrize("kind", ["nobody listens", "hangs"])
def test_a_service_that_does_not_answer_is_not_waited_for(monkeypatch, secret_id, kind):
    """As in a VPC without an endpoint. The number of tries and the time of each are bounded."""
    monkeypatch.setattr("serverless_fl.aws_secret.CONNECT_SECONDS", 0.3)
    monkeypatch.setattr("serverless_fl.aws_secret.READ_SECONDS", 0.3)
    taken = []
    with socket.create_server(("127.0.0.1", 0), backlog=10) as silent:
        silent.settimeout(20)
        point_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        if kind == "nobody listens":
            silent.close()
        else:
            thread = threading.Thread(
                target=lambda: taken.extend(silent.accept() for _ in range(2)), daemon=True
            )
            thread.start()
        with pytest.raises(
            RuntimeError, match=r"needs an interface endpoint .* or a NAT gateway\.$"
        ):
            fetch_secret(secret_id)
        if kind == "hangs":
            thread.join(20)
            assert len(taken) == 2  # one try, and one more
            for connection, _ in taken:
                connection.close()


ROTATED = """
import json, os, sys, time, boto3
import app.entry.aws_lambda as entry
from app.entry import secret
from app.store import mongo
from examples.gateway import Call
from examples.lambda_gateway import http_api

def put(**changed):
    known.update(changed)
    client.put_secret_value(SecretId=os.environ["FL_SECRET_ID"], SecretString=json.dumps(known))

def call(key):
    headers = {"host": "c", "authorization": f"Bearer {key}"}
    return entry.handler(http_api(Call("GET", "/v1/key", "", headers, b"")), None)["statusCode"]

def listed():
    event = http_api(Call("GET", "/v1/experiments", "", {"host": "c"}, b""))
    return entry.handler(event, None)["statusCode"]

secret.LEAST_SECONDS = 0
client = boto3.client("secretsmanager")
known = json.loads(client.get_secret_value(SecretId=os.environ["FL_SECRET_ID"])["SecretString"])
old, new, third = known["FL_ADMIN_KEY"], "new" * 10, "third" * 10
found = {"before": [call(old), call(new)]}
put(FL_ADMIN_KEY=new)
found["rotated"] = [call(new), call(old)]
put(FL_ADMIN_KEY=third)
entry.handler({"tick": True}, None)
found["after a tick"] = [call(new), call(third)]
put(FL_ADMIN_KEY="short")
found["a bad one"] = [call("short"), call(third)]
secret.FAILED_SECONDS = 0
entry._function.watched._due = 0
mongo.SELECTION_MS = 50
put(FL_ADMIN_KEY=third, MONGODB_URL="mongodb://127.0.0.1:9")
entry.handler({"tick": True}, None)
found["a database that is not there"] = [call(third), listed()]
print(json.dumps(found))
"""


def test_a_warm_container_takes_the_secret_that_there_is(aws, mongodb_url):
    import boto3

    name = f"fl-{secrets.token_hex(4)}"
    value = {"MONGODB_URL": mongodb_url, "FL_ADMIN_KEY": OLD}
    boto3.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(value))
    done = run(ROTATED, FL_SECRET_ID=name)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "before": [204, 401],
        "rotated": [204, 401],
        "after a tick": [401, 204],
        "a bad one": [401, 204],
        "a database that is not there": [204, 200],
    }


def run(code, **settings):
    import os

    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FL_", "MONGODB"))}
    database = f"secret_{secrets.token_hex(4)}"
    quiet = {"FL_MONGODB_DATABASE": database, "FL_LOG_LEVEL": "error", "FL_METRICS": "off"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | quiet | settings | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


MOVED = """
import json, os, boto3
import app.entry.aws_lambda as entry
from app.entry import secret
from examples.gateway import Call
from examples.lambda_gateway import http_api

secret.LEAST_SECONDS = 0
client = boto3.client("secretsmanager")
event = http_api(Call("GET", "/v1/experiments", "", {"host": "c"}, b""))
documents = entry._function.container.app.state.coordinator.context.repo.documents
before = entry._function.container
async def away(*_, **__):
    from serverless_fl.domain.errors import StoreUnavailable
    raise StoreUnavailable("moved")
entry._function.container.app.state.coordinator.views.experiments = away
found = [entry.handler(event, None)["statusCode"]]
url = os.environ["MOVED_TO"]
value = json.dumps({"MONGODB_URL": url, "FL_ADMIN_KEY": "old" * 10})
client.put_secret_value(SecretId=os.environ["FL_SECRET_ID"], SecretString=value)
found.append(entry.handler(event, None)["statusCode"])
found.append(entry._function.container is not before)
print(json.dumps(found))
"""


def test_a_warm_container_follows_its_database(aws, mongodb_url):
    import boto3

    name = f"fl-{secrets.token_hex(4)}"
    value = {"MONGODB_URL": mongodb_url, "FL_ADMIN_KEY": OLD}
    boto3.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(value))
    done = run(MOVED, FL_SECRET_ID=name, MOVED_TO=f"{mongodb_url}/?appName=moved")
    assert json.loads(done.stdout.splitlines()[-1]) == [503, 200, True]

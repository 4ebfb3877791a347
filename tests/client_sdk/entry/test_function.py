"""A client as a function: one turn an invocation, with data of its own bucket."""

from __future__ import annotations

import base64
import json
import queue
import secrets
import time
from pathlib import Path

import pytest

from client_sdk.cli import join_command
from client_sdk.entry import function
from client_sdk.entry.bucket import copy
from client_sdk.entry.function import handler, main, take_turn
from serverless_fl.domain.signed_messages import sign
from serverless_fl.domain.wake_ups import DUE, wake_key
from tests.support.digits import create_digits_experiment
from tests.support.here import run_here
from tests.support.local_server import QuietHandler, serving
from tests.support.own_files import LABEL, hospitals
from tests.support.processes import KEY, Server

SECRET = {"FL_ENROL_KEY": "e" * 40, "FL_CLIENT_KEY": "c" * 40}


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(function, "SCRATCH", tmp_path / "scratch")
    return tmp_path / "scratch"


@pytest.fixture
def server(tmp_path):
    with Server(FL_DATA_DIR=str(tmp_path / "db"), FL_WAKE_HOSTS="127.0.0.1") as server:
        yield server


class Door(QuietHandler):
    """Where the coordinator calls: what it sends waits until the party's function takes it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.woken.put((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(202)
        self.end_headers()


@pytest.fixture
def door():
    with serving(Door, woken=queue.Queue()) as server:
        yield server


def function_url_event(headers, body):
    """A request as a Function URL of Lambda gives it to the handler."""
    text = base64.b64encode(body).decode()
    http = {"http": {"method": "POST"}}
    return {"requestContext": http, "headers": headers, "body": text, "isBase64Encoded": True}


def web_action(headers, body):
    """A request as a raw web action of OpenWhisk gets it."""
    text = base64.b64encode(body).decode()
    return {"__ow_method": "post", "__ow_headers": headers, "__ow_body": text, "__ow_query": ""}


def test_functions_that_the_coordinator_wakes_finish_an_experiment(server, door, bucket, tmp_path):
    """After its first turn nobody polls: each further turn answers a call."""
    import boto3

    paths = hospitals(tmp_path, (60, 40))
    for path in paths:
        boto3.client("s3").upload_file(str(path), bucket, f"party/{path.name}")
    words = ("create", "--server", server.url, "--like", str(paths[0]), "--label", LABEL)
    few = ("--clients", "2", "--rounds", "2", "--local-epochs", "1", "--json")
    made = json.loads(run_here(*words, *few, FL_ADMIN_KEY=KEY).stdout)
    parties = {
        f"/{path.stem}": {
            "FL_WAKE_URL": f"{door.url}/{path.stem}",
            "FL_JOIN": f"--server {server.url} --experiment {made['id']} --name {path.stem} "
            f"--data s3://{bucket}/party/{path.name} --accept",
            "FL_ENROL_KEY": made["enrolment_key"],
            "FL_CLIENT_KEY": secrets.token_urlsafe(32),
            "FL_STATE_DIR": str(tmp_path / path.stem),
        }
        for path in paths
    }
    first, second = map(main, parties.values())
    assert "waiting" in first["said"][-2]
    assert first["said"][-1].startswith("The next turn is worth while in ")
    assert any("uploaded" in line for line in second["said"])
    with server.as_admin() as admin:
        while (shown := admin.get(f"/experiments/{made['id']}").json())["state"] != "completed":
            try:
                path, headers, body = door.woken.get(timeout=1)
            except queue.Empty:  # the last round is being aggregated
                continue
            assert main(parties[path] | web_action(headers, body)) == {"statusCode": 204}
        clients = admin.get(f"/experiments/{made['id']}/clients").json()
    assert (shown["state"], shown["enrolled"]) == ("completed", 2)
    assert {client["name"]: client["shard_size"] for client in clients} == {
        "hospital_a": 60,
        "hospital_b": 40,
    }
    assert {client["woken_by"] for client in clients} == {"127.0.0.1"}


WOKEN = {"type": DUE, "data": {"experiment": "x"}}


ENDED = {"type": "experiment.ended", "data": {"experiment": "x"}}


def signed(content, key=SECRET["FL_CLIENT_KEY"], at=None):
    body = json.dumps(content).encode()
    at = time.time() if at is None else at
    return sign(wake_key(key, "x"), "x/wake.0", body, at), body


@pytest.fixture
def turns(monkeypatch):
    """The turns that a function of the experiment x would take."""
    taken = []
    monkeypatch.setattr(function, "take_turn", lambda settings: taken.append(settings) or {})
    for name, value in (GOOD | SECRET).items():
        monkeypatch.setenv(name, value)
    return taken


def test_a_signed_request_or_message_takes_a_turn(turns):
    headers, body = signed(WOKEN)
    assert handler(function_url_event(headers, body), None) == {"statusCode": 204}
    plain = {"httpMethod": "POST", "headers": headers, "body": body.decode()}
    assert handler(plain, None) == {"statusCode": 204}
    assert main(web_action(headers, body)) == {"statusCode": 204}
    assert handler(topic_event(headers, body), None) == {}
    assert handler({"source": "aws.scheduler"}, None) == {}
    assert len(turns) == 5


def topic_event(headers, body):
    attributes = {name: {"Type": "String", "Value": value} for name, value in headers.items()}
    return {"Records": [{"Sns": {"Message": body.decode(), "MessageAttributes": attributes}}]}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (lambda: ({}, b"{}"), "not signed"),
        (lambda: signed(WOKEN, key="d" * 40), "another key"),
        (lambda: signed(WOKEN, at=1.0), "older, or newer"),
        (lambda: signed({"type": DUE, "data": {"experiment": "y"}}), "another experiment"),
        (lambda: signed(ENDED), "another experiment"),
        (lambda: signed(["x"]), "no wake-up"),
        (lambda: ({}, b"x" * 5000), "too long"),
    ],
)
def test_what_the_coordinator_has_not_signed_takes_none(turns, message, said):
    message = message()  # a signature is good for five minutes
    for answer in (handler(function_url_event(*message), None), main(web_action(*message))):
        assert answer["statusCode"] == 401
        assert said in answer["body"]
    with pytest.raises(RuntimeError, match=said):
        handler(topic_event(*message), None)
    assert turns == []


def test_a_web_action_that_is_not_raw_takes_none(turns):
    """There a caller could set parameters that the action has not bound."""
    headers, _ = signed(WOKEN)
    answer = main({"__ow_method": "post", "__ow_headers": headers, "FL_STATE_DIR": "/elsewhere"})
    assert answer == {
        "statusCode": 401,
        "body": "The action must be a raw web action (--web raw).",
    }
    assert turns == []


def test_a_request_to_a_function_without_an_experiment_is_its_own_error(turns, monkeypatch):
    monkeypatch.setenv("FL_JOIN", "--server http://x")
    with pytest.raises(RuntimeError, match="--experiment"):
        handler(function_url_event(*signed(WOKEN)), None)


def test_a_common_set_is_trained_in_the_function_itself(server, monkeypatch):
    """A function may start no processes: Lambda has no shared memory for them."""
    monkeypatch.setattr(join_command, "Processes", None)
    with server.as_admin() as admin:
        experiment, key = create_digits_experiment(admin, clients=1)
    words = f"--server {server.url} --experiment {experiment} --kernel torch"
    bound = {"FL_JOIN": words, "FL_ENROL_KEY": key, "FL_CLIENT_KEY": "c" * 40, "__ow_path": ""}
    assert any("uploaded" in line for line in main(bound)["said"])


def test_an_object_is_copied_again_when_it_changes_and_goes_when_it_is_gone(bucket, tmp_path):
    import boto3

    s3 = boto3.client("s3")
    for key in ("site/0/a.png", "site/1/b.png", "site-2/c.png"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())

    def copied():
        found = Path(copy(f"s3://{bucket}/site/", tmp_path))
        return {
            str(path.relative_to(found)): (path.read_text(), path.stat().st_mtime_ns)
            for path in found.rglob("*.png")
        }

    first = copied()
    assert {name: text for name, (text, _) in first.items()} == {
        "0/a.png": "site/0/a.png",
        "1/b.png": "site/1/b.png",
    }
    assert copied() == first
    s3.put_object(Bucket=bucket, Key="site/0/a.png", Body=b"changed")
    s3.delete_object(Bucket=bucket, Key="site/1/b.png")
    assert {name: text for name, (text, _) in copied().items()} == {"0/a.png": "changed"}


GOOD = {"FL_JOIN": "--server http://127.0.0.1:9 --experiment x", **SECRET}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"FL_JOIN": ""}, "FL_JOIN is missing"),
        ({"FL_JOIN": "--name 'north"}, "FL_JOIN cannot be read as a shell would"),
        ({"FL_JOIN": "--key-file=x"}, "FL_JOIN holds --key-file, which the function gives itself"),
        ({"FL_JOIN": "--server http://x --expriment x"}, "--expriment"),
        ({"FL_CLIENT_KEY": ""}, "FL_CLIENT_KEY is missing: it is a setting, or in the secret"),
        ({"FL_CLIENT_KEY": "short"}, "holds no client's key"),
        ({"FL_SECRET_ID": "no-such"}, "The secret 'no-such' of FL_SECRET_ID cannot be read"),
        (
            {"FL_JOIN": GOOD["FL_JOIN"] + " --data s3://no-such-bucket/x.csv"},
            "answers NoSuchBucket",
        ),
    ],
)
def test_what_is_wrong_is_said_as_an_error_of_the_function(bucket, changed, message, monkeypatch):
    for name, value in (GOOD | changed).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match=message):
        handler({"FL_JOIN": "an event cannot change whose client this is"}, None)


@pytest.mark.parametrize(
    ("key", "message"),
    [("nothing/there.csv", "There is nothing at s3://"), ("up/", "leads out of its folder")],
)
def test_a_place_without_data_is_said(bucket, tmp_path, key, message):
    import boto3

    boto3.client("s3").put_object(Bucket=bucket, Key="up/../../x", Body=b"x")
    with pytest.raises(RuntimeError, match=message):
        copy(f"s3://{bucket}/{key}", tmp_path)


def test_a_secret_has_both_keys(bucket, monkeypatch):
    import boto3

    text = json.dumps(SECRET)
    boto3.client("secretsmanager").create_secret(Name="a-party", SecretString=text)
    ran = []
    monkeypatch.setattr(function, "_run", lambda command: ran.append(command) or (0, "", ""))
    take_turn({"FL_JOIN": "--experiment x", "FL_SECRET_ID": "a-party"})
    (command,) = ran
    assert command[command.index("--enrol-key") + 1] == SECRET["FL_ENROL_KEY"]
    assert Path(command[command.index("--key-file") + 1]).read_text() == SECRET["FL_CLIENT_KEY"]

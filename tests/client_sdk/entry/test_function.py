"""A client as a function: one turn an invocation, with data of its own bucket."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from client_sdk.cli import join_command
from client_sdk.entry import function
from client_sdk.entry.bucket import copy
from client_sdk.entry.function import handler, main, take_turn
from tests.support.digits import create_digits_experiment
from tests.support.here import run_here
from tests.support.own_files import LABEL, hospitals
from tests.support.processes import KEY, Server

SECRET = {"FL_ENROL_KEY": "e" * 40, "FL_CLIENT_KEY": "c" * 40}


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(function, "SCRATCH", tmp_path / "scratch")
    return tmp_path / "scratch"


@pytest.fixture
def server(tmp_path):
    with Server(FL_DATA_DIR=str(tmp_path / "db")) as server:
        yield server


def test_functions_that_wake_now_and_then_finish_an_experiment(server, bucket, tmp_path):
    import boto3

    paths = hospitals(tmp_path, (60, 40))
    for path in paths:
        boto3.client("s3").upload_file(str(path), bucket, f"party/{path.name}")
    words = ("create", "--server", server.url, "--like", str(paths[0]), "--label", LABEL)
    few = ("--clients", "2", "--rounds", "2", "--local-epochs", "1", "--json")
    made = json.loads(run_here(*words, *few, FL_ADMIN_KEY=KEY).stdout)
    parties = [
        {
            "FL_JOIN": f"--server {server.url} --experiment {made['id']} --name {path.stem} "
            f"--data s3://{bucket}/party/{path.name} --accept",
            "FL_ENROL_KEY": made["enrolment_key"],
            "FL_CLIENT_KEY": secrets.token_urlsafe(32),
            "FL_STATE_DIR": str(tmp_path / path.stem),
        }
        for path in paths
    ]
    first = take_turn(parties[0])
    assert "waiting" in first["said"][-2]
    assert first["said"][-1].startswith("The next turn is worth while in ")
    said = first["said"]
    for _ in range(8):
        for party in parties:
            said += take_turn(party)["said"]
    with server.as_admin() as admin:
        shown = admin.get(f"/experiments/{made['id']}").json()
        clients = admin.get(f"/experiments/{made['id']}/clients").json()
    assert (shown["state"], shown["enrolled"]) == ("completed", 2)
    assert {client["name"]: client["shard_size"] for client in clients} == {
        "hospital_a": 60,
        "hospital_b": 40,
    }
    assert sum("uploaded" in line for line in said) == 4


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

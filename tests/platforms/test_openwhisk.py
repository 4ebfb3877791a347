"""The action server over TCP, with activations as OpenWhisk's controller shapes them."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import subprocess
import sys

import httpx
import numpy as np
import pytest

from client_sdk.client import CoordinatorClient
from client_sdk.connection import Retry
from examples.lambda_local import free_port, wait_for_port
from tests.federation import ADMIN_KEY, Member, config, value_of, weights

END = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
MIB = 1024 * 1024


class Action:
    """A container of the Docker action, its bound parameters, and what it has printed."""

    def __init__(self, bound, log):
        self.bound, self.port = bound, free_port()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("FL_", "MONGODB"))}
        self.log = log.open("wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "app.entry.openwhisk:action"),
                *("--port", str(self.port), "--no-access-log", "--log-level", "warning"),
            ],
            env=clean,
            stdout=self.log,
            stderr=self.log,
        )
        wait_for_port(self.port)
        init = {"value": {"name": "coordinator", "binary": False, "main": "main", "code": ""}}
        self.post("/init", init).raise_for_status()

    def post(self, path, body):
        return httpx.post(
            f"http://127.0.0.1:{self.port}{path}", json=body, timeout=60, trust_env=False
        )

    def run(self, **args):
        return self.post(
            "/run", {"value": self.bound | args, "activation_id": secrets.token_hex(16)}
        )

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.log.close()


@pytest.fixture(scope="module")
def bound(mongodb_url):
    database = f"openwhisk_{secrets.token_hex(4)}"
    return {
        "MONGODB_URL": mongodb_url,
        "FL_MONGODB_DATABASE": database,
        "FL_ADMIN_KEY": ADMIN_KEY,
    }


@pytest.fixture(scope="module")
def actions(bound, tmp_path_factory):
    """Two containers over one database."""
    folder = tmp_path_factory.mktemp("openwhisk")
    started = [Action(bound, folder / f"{n}.log") for n in range(2)]
    yield started
    for action in started:
        action.stop()


class Controller(httpx.AsyncBaseTransport):
    """Does with requests and results what OpenWhisk's controller does for a raw web action."""

    def __init__(self, actions):
        self.actions, self.turn, self.largest = actions, 0, 0

    async def handle_async_request(self, request):
        body = await request.aread()
        kind = request.headers.get("content-type", "")
        args = {
            "__ow_method": request.method.lower(),
            "__ow_path": request.url.path,
            "__ow_query": request.url.query.decode(),
            "__ow_headers": {k: request.headers[k] for k in request.headers},
            "__ow_body": (
                body.decode() if kind.startswith("text/") else base64.b64encode(body).decode()
            ),
        }
        self.turn += 1
        action = self.actions[self.turn % len(self.actions)]
        sent = len(str(args))
        response = await asyncio.to_thread(lambda: action.run(**args))
        self.largest = max(self.largest, sent, len(response.content))
        if response.status_code != 200:
            return httpx.Response(502, json=response.json())
        result = response.json()
        plain = result["headers"].get("content-type", "").startswith("text/")
        content = result["body"].encode() if plain else base64.b64decode(result["body"])
        stream = httpx.ByteStream(content)
        return httpx.Response(result["statusCode"], headers=result["headers"], stream=stream)


def client(actions):
    transport = Controller(actions)
    return transport, CoordinatorClient(
        "https://openwhisk.example", ADMIN_KEY, retry=Retry(give_up_after=0), transport=transport
    )


async def test_a_federated_round_through_the_controller(actions):
    _, connection = client(actions)
    async with connection as admin:
        made = await admin.create_experiment("x", config(clients=2, rounds=1), secrets.token_hex(8))
        assert made.part_bytes == 512 * 1024
        await admin.upload_initial_model(made.id, weights(0), made.part_bytes)
        members = []
        for n in range(2):
            got = await admin.using(made.enrolment_key).subscribe(made.id, f"{n}" * 40)
            members.append(Member(admin.using(got.token), made.id, got.client_id))
        assert (await members[0].status()).action == "train"
        await members[0].upload(1, 2.0)
        await members[1].upload(1, 4.0)
        assert value_of(await admin.download_model(made.id)) == 3.0
        shown = await admin.experiment(made.id)
        assert shown.state == "completed"
        missing = await admin._http.get("/v1/experiments/nobody")
        assert missing.headers["content-type"] == "application/problem+json"
        assert missing.json()["code"] == "not-found"
        docs = await admin._http.get("/docs")
        assert "swagger" in docs.text


async def test_a_larger_model_stays_under_the_limit_of_one_mebibyte(actions):
    data = weights(1, big=np.random.default_rng(0).normal(size=1_000_000).astype(np.float32))
    controller, connection = client(actions)
    async with connection as admin:
        made = await admin.create_experiment("x", config(), secrets.token_hex(8))
        await admin.upload_initial_model(made.id, data, made.part_bytes)
        assert await admin.download_model(made.id, 0, made.part_bytes) == data
    assert controller.largest < MIB


async def test_the_alarms_trigger_fires_deadlines(actions):
    _, connection = client(actions)
    async with connection as admin:
        settings = config(clients=2, rounds=1, deadline_seconds=0.5, quorum=1)
        made = await admin.create_experiment("x", settings, secrets.token_hex(8))
        await admin.upload_initial_model(made.id, weights(0), made.part_bytes)
        for n in range(2):
            got = await admin.using(made.enrolment_key).subscribe(made.id, f"{n}" * 40)
        await Member(admin.using(got.token), made.id, got.client_id).upload(1, 5.0)
        await asyncio.sleep(0.6)
        ticked = await asyncio.to_thread(actions[0].run)
        assert made.id in ticked.json()["advanced"]
        assert [m.version for m in await admin.models(made.id)] == [0, 1]


def test_each_activation_ends_its_log_on_both_streams(bound, tmp_path):
    action = Action(bound, tmp_path / "log")
    for _ in range(3):
        assert action.run(__ow_method="get", __ow_path="/health").json()["statusCode"] == 200
    action.stop()
    assert (tmp_path / "log").read_text().count(END) == 6  # both streams go to one file here


def test_missing_parameters_are_named_and_secrets_are_not(tmp_path):
    action = Action({"FL_ADMIN_KEY": "hunter2-hunter2-hunter2"}, tmp_path / "log")
    refused = action.run(__ow_method="get", __ow_path="/health")
    action.stop()
    assert refused.status_code == 502
    assert "bind MONGODB_URL and FL_ADMIN_KEY" in refused.json()["error"]
    assert "hunter2" not in refused.text + (tmp_path / "log").read_text()


def test_an_activation_without_sense_still_gets_a_result(bound, tmp_path):
    action = Action(bound, tmp_path / "log")
    for body in ({"value": {"__ow_method": "get", "__ow_body": "%%%"}}, {}, {"value": 7}):
        answer = action.post("/run", body)
        assert answer.status_code in (200, 502)
        assert answer.json()
    action.stop()

"""What only OpenWhisk has: the action server's protocol, bound parameters, alarms, and limits."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from app.entry.openwhisk import PART_BYTES
from examples.openwhisk_gateway import MAX_BYTES, RateLimit, create_app
from examples.openwhisk_local import OpenWhiskContainer
from tests.support.federation import ADMIN_KEY
from tests.support.ways import api_at, is_problem, openwhisk_way, through, through_openwhisk

END = b"XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
HEALTH = {"__ow_method": "get", "__ow_path": "/health", "__ow_query": ""}


ASKED = {"__ow_path": "/", "__ow_query": "", "__ow_headers": {}}


class Action(OpenWhiskContainer):
    """One container, its bound parameters, and what it has printed."""

    def __init__(self, bound, path):
        super().__init__({}, path.open("wb"))
        self.bound, self.path = bound, path

    def post(self, path, body):
        return httpx.post(self.url + path, json=body, timeout=60, trust_env=False)

    def run(self, **args):
        activation = {"value": self.bound | args, "activation_id": secrets.token_hex(16)}
        return self.post("/run", activation)

    def __exit__(self, *_):
        super().__exit__()
        self.log.close()

    @property
    def printed(self):
        return self.path.read_bytes()


@pytest.fixture(scope="module")
def bound(mongodb_url):
    database = f"openwhisk_{secrets.token_hex(4)}"
    return {
        "MONGODB_URL": mongodb_url,
        "FL_MONGODB_DATABASE": database,
        "FL_ADMIN_KEY": ADMIN_KEY,
    }


@pytest.fixture(scope="module")
def action(bound, tmp_path_factory):
    with Action(bound, tmp_path_factory.mktemp("openwhisk") / "log") as action:
        yield action


@pytest.fixture
async def api(action, bound):
    async with api_at(through_openwhisk([action], bound), openwhisk_way()) as api:
        yield api


async def test_the_alarms_trigger_fires_deadlines(api, action):
    experiment, members = await api.start(clients=2, rounds=1, deadline_seconds=1, quorum=1)
    await members[0].upload(1, 5.0)
    while experiment in (await asyncio.to_thread(action.run)).json()["advanced"]:
        await asyncio.sleep(0.2)
    assert [m.version for m in await api.admin.models(experiment)] == [0, 1]


async def test_a_payload_is_measured_after_base64(api):
    """What is under a mebibyte on the wire may be over it in the activation."""
    headers = {"Content-Type": "application/octet-stream"}
    largest = await api.send(
        "PUT", "/v1/nothing", content=b"x" * (MAX_BYTES * 3 // 4 - 2000), headers=headers
    )
    assert (largest.status_code, largest.json()["code"]) == (413, "too-large")  # the coordinator's
    assert str(PART_BYTES) in largest.json()["detail"]
    refused = await api.send("PUT", "/v1/nothing", content=b"x" * (MAX_BYTES * 3 // 4))
    assert (refused.status_code, refused.json().keys()) == (413, {"error"})  # the platform's


async def test_an_answer_that_no_result_holds_is_said_to_be_too_large(api):
    """150,000 indices are over a mebibyte as JSON: a problem, not a failed activation."""
    experiment, (member,) = await api.start(clients=1, clients_per_round=1, dataset_size=150_000)
    path = f"/v1/experiments/{experiment}/shard"
    refused = await api.send("GET", path, member.api.connection.key)
    assert is_problem(refused, 413, "answer-too-large")
    assert {"x-request-id", "content-security-policy"} <= refused.headers.keys()
    assert str(PART_BYTES) in refused.json()["detail"]


async def test_a_rate_limit_says_when_to_come_again(action, bound):
    now = 600.0
    rate = RateLimit(2, clock=lambda: now)
    async with api_at(through(create_app([action.url], bound, rate)), openwhisk_way()) as api:
        answers = [await api.send("GET", "/health") for _ in range(3)]
        assert [a.status_code for a in answers] == [200, 200, 429]
        now += 45
        refused = await api.send("GET", "/health")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "16")
        now += 16
        assert (await api.send("GET", "/health")).status_code == 200


def test_each_activation_ends_its_log_on_both_streams(bound, tmp_path):
    with Action(bound, tmp_path / "log") as action:
        for _ in range(3):
            assert action.run(**HEALTH).json()["statusCode"] == 200
    assert action.printed.count(END) == 6  # both streams go to one file here


def test_missing_parameters_are_named_and_secrets_are_not(tmp_path):
    with Action({"FL_ADMIN_KEY": "hunter2-hunter2-hunter2"}, tmp_path / "log") as action:
        refused = action.run(**HEALTH)
    assert refused.status_code == 502
    assert "bind MONGODB_URL and FL_ADMIN_KEY" in refused.json()["error"]
    assert b"hunter2" not in refused.content + action.printed


def test_a_caller_sets_no_settings_though_the_action_is_not_raw(bound, tmp_path):
    """OpenWhisk merges query and JSON body of such a call into the arguments."""
    with Action(bound, tmp_path / "log") as action:
        key = "a-key-of-the-callers-own"
        headers = {"authorization": f"Bearer {key}"}
        call = {"__ow_method": "get", "__ow_path": "/v1/key", "__ow_headers": headers}
        answer = action.run(**call, FL_ADMIN_KEY_PREVIOUS=key)
        assert answer.status_code == 502
        assert "must be a raw web action" in answer.json()["error"]
        assert action.run(**call, __ow_query="").json()["statusCode"] == 401


def test_an_activation_without_sense_still_gets_a_result(action):
    assert action.run(**HEALTH).json()["statusCode"] == 200  # it has its settings now
    page = action.post("/run", {"value": {**ASKED, "__ow_method": "get", "__ow_body": "%%%"}})
    assert (page.status_code, page.json()["statusCode"]) == (200, 200)  # a GET has no body
    assert "<!doctype html>" in page.json()["body"]
    for nothing in ({}, {"value": None}, {"value": {}}):
        tick = action.post("/run", nothing)
        assert (tick.status_code, list(tick.json())) == (200, ["advanced"])
    for value in (7, "text", [1], True):
        answer = action.post("/run", {"value": value})
        assert answer.status_code == 502, value
        assert answer.json() == {"error": "The activation failed."}


def test_the_first_activation_without_sense_says_what_is_missing(tmp_path):
    with Action({}, tmp_path / "log") as bare:
        for body in ({}, {"value": {**ASKED, "__ow_method": "get"}}):
            answer = bare.post("/run", body)
            assert answer.status_code == 502
            assert "bind MONGODB_URL and FL_ADMIN_KEY" in answer.json()["error"]


@pytest.mark.parametrize("path", ["", "/"])
def test_a_browser_that_left_out_the_slash_is_led_to_the_page(action, path):
    """Else the page's own files would be looked for beside the action."""
    call = {"__ow_method": "get", "__ow_path": path, "__ow_query": "", "__ow_headers": {}}
    body = {"value": action.bound | call, "action_name": "/guest/federated/coordinator"}
    answer = action.post("/run", body).json()
    if path:
        assert (answer["statusCode"], "<!doctype html>" in answer["body"]) == (200, True)
        return
    assert answer["statusCode"] == 308
    for asked in ("coordinator", "coordinator.http"):
        at = f"https://openwhisk/api/v1/web/guest/federated/{asked}"
        led = urljoin(at, answer["headers"]["location"])
        assert led == "https://openwhisk/api/v1/web/guest/federated/coordinator.http/"


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "application/xml", None]
)
async def test_a_body_that_is_no_json_is_refused_by_the_coordinator(api, kind):
    """As `curl -d` sends it. A failed activation would say nothing."""
    headers = {"Content-Type": kind} if kind else {}
    for content in (b'{"config": {}}', b"a=b", b"hello!", b"\xff\xfe"):
        refused = await api.send("POST", "/v1/experiments", content=content, headers=headers)
        assert is_problem(refused, 422, "invalid-request")


@pytest.mark.parametrize("host", ["[", "a:b:c", "\u0142"])
def test_a_host_that_is_none_is_a_bad_request(action, host):
    call = HEALTH | {"__ow_headers": {"host": host}}
    assert action.run(**call).json()["statusCode"] == 400


AWAY = {"MONGODB_URL": "mongodb://127.0.0.1:9", "FL_ADMIN_KEY": ADMIN_KEY}
HURRIED = "from app.store import mongo; mongo.SELECTION_MS = 100; import uvicorn; uvicorn.main()"


class Hurried(Action):
    """It looks for a database for a tenth of a second."""

    def command(self, port):
        python, _, _, *arguments = super().command(port)
        return [python, "-c", HURRIED, *arguments]


def test_a_container_that_finds_no_database_says_so_and_ends(tmp_path):
    """The platform puts another one in its place, and clients try again after a 503."""
    with Hurried(AWAY, tmp_path / "log") as action:
        answer = action.run(**HEALTH).json()
        assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "2")
        problem = json.loads(base64.b64decode(answer["body"]))
        assert problem["code"] == "store-unavailable"
        assert "127.0.0.1" not in problem["detail"]
        action._process.wait(20)
    assert action.printed.count(END) == 2
    assert ADMIN_KEY.encode() not in action.printed


def test_a_tick_that_finds_no_database_ends_the_container_too(tmp_path):
    with Hurried(AWAY, tmp_path / "log") as action:
        assert action.run().status_code == 502
        action._process.wait(20)


LEAKS = """
import os
import time
from app.entry import openwhisk
from app.store import mongo

mongo.SELECTION_MS = mongo.OPERATION_MS = 50
call = {"__ow_method": "get", "__ow_path": "/health", "__ow_query": "", "FL_ADMIN_KEY": "k" * 32}
away = call | {"MONGODB_URL": "mongodb://127.0.0.1:9/?timeoutMS=50"}

def fewest():  # the driver's own thread may still be closing a socket at one look
    looks = []
    for _ in range(20):
        looks.append(len(os.listdir("/proc/self/fd")))
        time.sleep(0.02)
    return min(looks)

openwhisk.main(away)
before = fewest()
assert [openwhisk.main(away)["statusCode"] for _ in range(3)] == [503] * 3
assert fewest() == before
mongo.SELECTION_MS = mongo.OPERATION_MS = 5000
print(openwhisk.main(call | {"MONGODB_URL": os.environ["THERE"]})["statusCode"])
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_what_could_not_be_opened_leaves_no_descriptors_behind(mongodb_url):
    done = subprocess.run(
        [sys.executable, "-c", LEAKS],
        env=os.environ | {"THERE": mongodb_url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "200" in done.stdout.splitlines()

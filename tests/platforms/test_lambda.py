"""The real Lambda runtime client under the real runtime interface emulator, and its events."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from client_sdk.client import CoordinatorClient
from client_sdk.connection import Retry
from examples.lambda_gateway import INVOKE
from examples.lambda_local import LambdaContainer, free_port, wait_for_port
from tests.e2e.processes import SMALL, model_of, run
from tests.federation import ADMIN_KEY, Member, config, value_of, weights


@pytest.fixture(scope="module")
def settings(mongodb_url):
    return {
        "MONGODB_URL": mongodb_url,
        "FL_MONGODB_DATABASE": f"lambda_{secrets.token_hex(4)}",
        "FL_ADMIN_KEY": ADMIN_KEY,
        "AWS_DEFAULT_REGION": "eu-west-1",
    }


@pytest.fixture(scope="module")
def containers(settings):
    """Three containers over one database, as Lambda starts them under load."""
    with (
        LambdaContainer(settings) as a,
        LambdaContainer(settings) as b,
        LambdaContainer(settings) as c,
    ):
        yield [a, b, c]


@pytest.fixture(scope="module")
def gateway(containers):
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "examples.lambda_gateway:app"),
            *("--port", str(port), "--log-level", "warning"),
        ],
        env=os.environ | {"EMULATORS": ",".join(c.url for c in containers)},
    )
    wait_for_port(port)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def invoke(container: LambdaContainer, event: dict) -> dict:
    return httpx.post(container.url + INVOKE, json=event, timeout=60, trust_env=False).json()


def http_api(method, path, headers, query, body):
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "http": {"method": method, "path": path, "sourceIp": "192.0.2.1"},
            "stage": "$default",
        },
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def function_url(method, path, headers, query, body):
    event = http_api(method, path, headers, query, body)
    event["requestContext"]["domainName"] = "abc.lambda-url.eu-west-1.on.aws"
    return event


def rest_api(method, path, headers, query, body):
    pairs = [pair.split("=") for pair in query.split("&") if pair]
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": dict(pairs) or None,
        "multiValueQueryStringParameters": {k: [v] for k, v in pairs} or None,
        "requestContext": {"identity": {"sourceIp": "192.0.2.1"}, "stage": "prod"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def load_balancer(method, path, headers, query, body):
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:x"}},
        "httpMethod": method,
        "path": path,
        "headers": {k.lower(): v for k, v in headers.items()}
        | {"x-forwarded-for": "192.0.2.1", "x-forwarded-port": "443", "x-forwarded-proto": "https"},
        "queryStringParameters": dict(pair.split("=") for pair in query.split("&") if pair),
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


SHAPES = [http_api, function_url, rest_api, load_balancer]


class EventTransport(httpx.AsyncBaseTransport):
    """Carries each request as an event of one shape, to the containers in turn."""

    def __init__(self, shape, containers):
        self.shape, self.containers, self.turn = shape, containers, 0

    async def handle_async_request(self, request):
        body = await request.aread()
        headers = {name: request.headers[name] for name in request.headers}
        event = self.shape(
            request.method, request.url.path, headers, request.url.query.decode(), body
        )
        self.turn += 1
        container = self.containers[self.turn % len(self.containers)]
        answer = await asyncio.to_thread(invoke, container, event)
        content = answer.get("body") or ""
        data = base64.b64decode(content) if answer["isBase64Encoded"] else content.encode()
        found = answer.get("headers") or {
            name: values[0] for name, values in answer.get("multiValueHeaders", {}).items()
        }
        return httpx.Response(answer["statusCode"], headers=found, stream=httpx.ByteStream(data))


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_round_through_every_shape_of_event(containers, shape):
    transport = EventTransport(shape, containers)
    async with CoordinatorClient(
        "https://api.example", ADMIN_KEY, retry=Retry(give_up_after=0), transport=transport
    ) as admin:
        made = await admin.create_experiment("x", config(clients=2, rounds=1), secrets.token_hex(8))
        assert made.part_bytes == 4 * 1024**2
        await admin.upload_initial_model(made.id, weights(0), made.part_bytes)
        for n in range(2):
            got = await admin.using(made.enrolment_key).subscribe(made.id, f"{n}" * 40)
            member = Member(admin.using(got.token), made.id, got.client_id)
            if n == 0:
                assert (await member.status()).action == "wait"
                first = member
        await first.upload(1, 2.0)
        await member.upload(1, 4.0)
        assert value_of(await admin.download_model(made.id)) == 3.0
        problem = await admin._http.get("/v1/experiments/nobody")
        assert problem.json()["code"] == "not-found"


async def test_a_model_of_twenty_megabytes_goes_through_in_parts(gateway):
    data = weights(1, big=np.random.default_rng(0).normal(size=5_000_000).astype(np.float32))
    async with CoordinatorClient(gateway, ADMIN_KEY) as admin:
        made = await admin.create_experiment("x", config(), secrets.token_hex(8))
        await admin.upload_initial_model(made.id, data, made.part_bytes)
        assert await admin.download_model(made.id, 0) == data


def test_the_whole_job_on_lambda_gives_the_same_bytes(gateway, quiet_run, tmp_path):
    done = run(*SMALL, "--server", gateway, "--out", str(tmp_path), FL_ADMIN_KEY=ADMIN_KEY)
    assert done.returncode == 0, done.stderr
    assert model_of(tmp_path) == model_of(quiet_run[0])


async def test_a_tick_fires_deadlines_though_nobody_asks(containers, gateway):
    async with CoordinatorClient(gateway, ADMIN_KEY) as admin:
        settings = config(clients=2, rounds=1, deadline_seconds=0.5, quorum=1)
        made = await admin.create_experiment("x", settings, secrets.token_hex(8))
        await admin.upload_initial_model(made.id, weights(0), made.part_bytes)
        members = []
        for n in range(2):
            got = await admin.using(made.enrolment_key).subscribe(made.id, f"{n}" * 40)
            members.append(Member(admin.using(got.token), made.id, got.client_id))
        await members[0].upload(1, 5.0)
        await asyncio.sleep(0.6)
        for event in (
            {"tick": True},
            {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
        ):
            answer = await asyncio.to_thread(invoke, containers[0], event)
        assert made.id not in answer["advanced"]  # the second tick finds it ended
        models = await admin.models(made.id)
        assert [m.version for m in models] == [0, 1]


async def test_containers_that_close_one_round_at_once_close_it_once(containers, gateway):
    async with CoordinatorClient(gateway, ADMIN_KEY) as admin:
        settings = config(clients=3, clients_per_round=3, rounds=1, quorum=1, deadline_seconds=1)
        made = await admin.create_experiment("x", settings, secrets.token_hex(8))
        await admin.upload_initial_model(made.id, weights(0), made.part_bytes)
        members = []
        for n in range(3):
            got = await admin.using(made.enrolment_key).subscribe(made.id, f"{n}" * 40)
            members.append(Member(admin.using(got.token), made.id, got.client_id))
        for member in members[:2]:
            await member.upload(1, 6.0)
        await asyncio.sleep(1.1)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda c: invoke(c, {"tick": True}), containers))
        round_ = await admin.round(made.id, 1)
        assert (round_.state, len(round_.reported), len(round_.missing)) == ("closed", 2, 1)
        assert len(await admin.models(made.id)) == 2


def start(**environment):
    """Import the entry as Lambda does; gives the process."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FL_", "MONGODB"))}
    return subprocess.run(
        [sys.executable, "-c", "import app.entry.aws_lambda"],
        env=clean | {"AWS_DEFAULT_REGION": "eu-west-1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_refuses_to_start_on_sqlite_and_says_what_to_set(tmp_path):
    refused = start(FL_ADMIN_KEY=ADMIN_KEY, FL_DATA_DIR=str(tmp_path))
    assert refused.returncode != 0
    assert "set MONGODB_URL, or FL_SECRET_ID" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_it_refuses_to_make_an_admin_key_of_its_own(mongodb_url):
    refused = start(MONGODB_URL=mongodb_url)
    assert refused.returncode != 0
    assert "set FL_ADMIN_KEY" in refused.stderr


@pytest.fixture(scope="module")
def aws():
    """moto's server: Secrets Manager and SSM over HTTP."""
    port = free_port()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "moto_server"), "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_port(port, 60)
    yield {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    process.kill()
    process.wait()


@pytest.mark.parametrize("kind", ["secretsmanager", "ssm"])
def test_secrets_come_from_aws_and_bad_ones_are_not_shown(aws, mongodb_url, kind):
    put = """
import boto3, sys
kind, name, value = sys.argv[1:]
if kind == "ssm":
    boto3.client("ssm").put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
else:
    boto3.client("secretsmanager").create_secret(Name=name, SecretString=value)
"""
    good = json.dumps({"MONGODB_URL": mongodb_url, "FL_ADMIN_KEY": "k" * 32})
    for value, fine in ((good, True), ("hunter2-no-json", False), ('["hunter2"]', False)):
        name = ("/" if kind == "ssm" else "") + f"fl-{secrets.token_hex(4)}"
        environment = aws | {"AWS_DEFAULT_REGION": "eu-west-1"}
        subprocess.run(
            [sys.executable, "-c", put, kind, name, value],
            env=os.environ | environment,
            check=True,
        )
        started = start(FL_SECRET_ID=name, **aws)
        assert (started.returncode == 0) is fine, started.stderr
        assert "hunter2" not in started.stderr
        if not fine:
            assert name in started.stderr

"""What only Lambda has: ticks, secrets, refusals, and many containers that close one round."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from examples.lambda_gateway import http_api
from examples.lambda_local import LambdaContainer
from tests.support.federation import ADMIN_KEY
from tests.support.ways import api_at, invoke, lambda_way, through_lambda

TICKS = (
    {"tick": True},
    {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
)


@pytest.fixture(scope="module")
def containers(mongodb_url):
    """Three containers over one database, as Lambda starts them under load."""
    settings = {
        "MONGODB_URL": mongodb_url,
        "FL_MONGODB_DATABASE": f"lambda_{secrets.token_hex(4)}",
        "FL_ADMIN_KEY": ADMIN_KEY,
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    with (
        LambdaContainer(settings) as a,
        LambdaContainer(settings) as b,
        LambdaContainer(settings) as c,
    ):
        yield [a, b, c]


@pytest.fixture
async def api(containers):
    async with api_at(through_lambda(containers), lambda_way(http_api)) as api:
        yield api


@pytest.mark.parametrize("tick", TICKS, ids=["input", "event"])
async def test_a_tick_fires_deadlines_though_nobody_asks(containers, api, tick):
    experiment, members = await api.start(clients=2, rounds=1, deadline_seconds=1, quorum=1)
    await members[0].upload(1, 5.0)
    while experiment in (await asyncio.to_thread(invoke, containers[0], tick))["advanced"]:
        await asyncio.sleep(0.2)
    assert [m.version for m in await api.admin.models(experiment)] == [0, 1]


async def test_containers_that_close_one_round_at_once_close_it_once(containers, api):
    experiment, members = await api.start(
        clients=3, clients_per_round=3, rounds=1, quorum=1, deadline_seconds=1
    )
    for member in members[:2]:
        await member.upload(1, 6.0)
    with ThreadPoolExecutor(3) as pool:
        # All of them before the next ones: an emulator that is called meanwhile ends itself.
        while any(
            experiment in answer["advanced"]
            for answer in list(pool.map(lambda c: invoke(c, {"tick": True}), containers))
        ):
            await asyncio.sleep(0.1)
    round_ = await api.admin.round(experiment, 1)
    assert (round_.state, len(round_.reported), len(round_.missing)) == ("closed", 2, 1)
    assert len(await api.admin.models(experiment)) == 2


async def test_a_body_beyond_what_lambda_takes_is_refused_before_it(api):
    refused = await api.send("PUT", "/v1/nothing", content=b"x" * (5 * 1024**2))
    assert (refused.status_code, refused.json()) == (413, {"message": "Request Entity Too Large"})


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
def aws(aws_endpoint):
    """Where the entry finds Secrets Manager and SSM."""
    return {
        "AWS_ENDPOINT_URL": aws_endpoint,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }


@pytest.mark.parametrize(
    ("kind", "bad"), [("secretsmanager", "hunter2-no-json"), ("ssm", '["hunter2"]')]
)
def test_secrets_come_from_aws_and_bad_ones_are_not_shown(aws, mongodb_url, kind, bad):
    import boto3  # not at the start of each worker: it takes half a second

    good = json.dumps({"MONGODB_URL": mongodb_url, "FL_ADMIN_KEY": "k" * 32})
    for value, fine in ((good, True), (bad, False)):
        name = ("/" if kind == "ssm" else "") + f"fl-{secrets.token_hex(4)}"
        service = boto3.client(
            kind,
            endpoint_url=aws["AWS_ENDPOINT_URL"],
            aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
            region_name="eu-west-1",
        )
        if kind == "ssm":
            service.put_parameter(Name=name, Value=value, Type="SecureString")
        else:
            service.create_secret(Name=name, SecretString=value)
        started = start(FL_SECRET_ID=name, **aws)
        assert (started.returncode == 0) is fine, started.stderr
        assert "hunter2" not in started.stderr
        if not fine:
            assert name in started.stderr

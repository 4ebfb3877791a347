"""A day of bad weather over Lambda: whatever befalls its bucket, its secret, its database and its
containers, every experiment is completed at its end, with the bytes of a calm day.

All parts are real, as far as they run here: Lambda's emulator ends a call at its time limit, moto
is the bucket and the secret, nx-27017 the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import safetensors.numpy

from app.entry import secret
from app.service.coordinator import Limits
from client_sdk.errors import RequestRefused
from examples.lambda_gateway import INVOKE, create_app, http_api
from examples.lambda_local import LambdaContainer
from tests.support.federation import ADMIN_KEY, Federation, Member, config
from tests.support.mongo import MongoServer
from tests.support.processes import descendants
from tests.support.sample import sample, whole
from tests.support.ways import api_at, lambda_way

PART = 65536
PARTS = 6  # of a model
LIMIT = 5  # seconds that a call of one of the containers has
# `make test` has the first and the third weather, which a single container goes through.
ROUNDS = 4 if whole() else 2
EXPERIMENTS = range(3)
NEW_KEY = "the-key-after-the-rotation"
NOTHING = re.compile(rb"(?!)")
ANYTHING = re.compile(rb"(GET|PUT|POST|DELETE) /")
NEW_MODELS = re.compile(rb"PUT /\S+/models/")


class Relay:
    """Between the containers and a service: what the weather does to it, it does here."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url).hostname, urlsplit(url).port
        self._open: set[asyncio.StreamWriter] = set()
        self.away = False
        self.denied = NOTHING  # matches the beginning of requests that are denied
        self.delay = 0.0  # seconds, of each request
        self.hanging = NOTHING  # matches those of which only `answered` more are ever answered
        self.answered = 0

    @asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    def go_away(self) -> None:
        self.away = True
        self.cut()

    async def _serve(self, reader, writer):
        if self.away:
            writer.transport.abort()
            return
        back, forth = await asyncio.open_connection(*self._target)
        self._open |= {writer, forth}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(reader, writer, forth))
                both.create_task(self._answer(back, writer, forth))
        except* OSError:
            pass
        self._open -= {writer, forth}

    async def _ask(self, reader, writer, forth):
        while data := await reader.read(1 << 16):
            if ANYTHING.match(data):
                await asyncio.sleep(self.delay)
                if self.denied.match(data):
                    said = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
                    head = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n"
                    writer.write(head % len(said) + b"\r\n" + said)
                    await writer.drain()
                    break
                if self.hanging.match(data):
                    self.answered -= 1
                    if self.answered < 0:
                        return
            forth.write(data)
            await forth.drain()
        writer.close()
        forth.close()

    async def _answer(self, back, writer, forth):
        while data := await back.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
        forth.close()


class Routes(httpx.AsyncBaseTransport):
    """Clients reach the platform through its gateway, and what it leads them to over TCP."""

    def __init__(self, gateway) -> None:
        self._gateway, self._others = httpx.ASGITransport(gateway), httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request):
        inner = self._gateway if request.url.host == "platform" else self._others
        return await inner.handle_async_request(request)

    async def aclose(self):
        await self._others.aclose()


@asynccontextmanager
async def platform(container):
    gateway = create_app([container.url])
    async with gateway.router.lifespan_context(gateway):
        yield "http://platform", Routes(gateway)


def model(value: float) -> bytes:
    return safetensors.numpy.save({"w": np.full(PARTS * PART // 4 - 100, value, np.float32)})


async def train(member: Member, number: int, adds: int, *, direct: bool = False) -> None:
    base = safetensors.numpy.load(await member.api.download_model(member.experiment_id))
    update = safetensors.numpy.save({"w": base["w"] + np.float32(adds)})
    await member.api.upload_update(
        member.experiment_id, number, update, 10, {}, PART, direct=direct
    )


def adds(experiment: int, client: int, number: int) -> int:
    """What a client adds to the model in a round, so that each counts in the end."""
    return 100 * experiment + 10 * client + number


def plan(experiment: int) -> dict[str, int]:
    return {"clients": 2, "rounds": ROUNDS, "deadline_seconds": 3600, "seed": experiment}


@pytest.fixture
async def calm(store):
    """The digests of the last models after a day on which nothing happened."""
    federation = Federation(store.documents, store.blobs, limits=Limits(part_bytes=PART))
    found = []
    async with federation.serving():
        for e in EXPERIMENTS:
            made, key = await federation.create(model(0), **plan(e))
            members = [await federation.enrol(made, key, n) for n in range(2)]
            for number in range(1, ROUNDS + 1):
                for n, member in enumerate(members):
                    await train(member, number, adds(e, n, number))
            found.append((await federation.admin.models(made))[-1].sha256)
    return found


class Day:
    """The experiments, their clients, and the containers that answer them one call at a time."""

    def __init__(self, api, containers) -> None:
        self.api = api
        self.usual, *others = containers
        self.astray, self.short = others or (None, None)
        self.experiments: list[tuple[str, list[Member]]] = []
        self._http = httpx.AsyncClient(timeout=60, trust_env=False)

    async def invoke(self, container, event) -> str:
        return (await self._http.post(container.url + INVOKE, json=event)).text

    async def tick(self, container=None) -> str:
        return await self.invoke(container or self.usual, {"tick": True})

    async def close(self) -> None:
        await self._http.aclose()

    async def report(self, client: int, number: int) -> None:
        """This client of each experiment brings its update."""
        for e, (_, members) in enumerate(self.experiments):
            await train(members[client], number, adds(e, client, number), direct=e == 2)

    async def closed(self, number: int) -> None:
        """Until this round is, in all experiments; ticks come meanwhile, and clients poll."""
        async with asyncio.timeout(90):
            for experiment, members in self.experiments:
                while (await self.api.admin.experiment(experiment)).model_version < number:
                    await self.tick()
                    await members[0].status()

    async def all_in(self, number: int) -> None:
        """The last updates are accepted, and nobody can aggregate them yet."""
        self.weights.denied = NEW_MODELS
        await self.report(1, number)

    async def move_database(self) -> None:
        """It goes on at another address, as the secret says."""
        self.databases[-1].stop()
        self.documents.go_away()
        moved = MongoServer(self.databases[-1].folder)
        moved.start()
        self.databases.append(moved)
        self.documents = await self.stack.enter_async_context(Relay(moved.url).serving())
        self.put_secret(MONGODB_URL=url_of(self.documents))

    async def states(self) -> set[str]:
        shown = [await self.api.admin.experiment(e) for e, _ in self.experiments]
        return {experiment.state for experiment in shown}


@pytest.fixture
async def day(bucket, aws_endpoint, tmp_path):
    """Three containers: the usual one; one that the settings lead to another bucket; and one that
    has little time for each call and spends all of it on an aggregation.
    """
    import boto3

    s3, vault = boto3.client("s3"), boto3.client("secretsmanager")
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    async with AsyncExitStack() as stack:
        database = MongoServer(tmp_path)
        databases = [database]
        database.start()
        stack.callback(lambda: [each.stop() for each in databases])
        weights = await stack.enter_async_context(Relay(aws_endpoint).serving())
        documents = await stack.enter_async_context(Relay(database.url).serving())
        name = f"fl-{secrets.token_hex(4)}"
        known = {"MONGODB_URL": url_of(documents), "FL_ADMIN_KEY": ADMIN_KEY}
        vault.create_secret(Name=name, SecretString=json.dumps(known))
        usual = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{weights.port}",
            "FL_SECRET_ID": name,
            "FL_MONGODB_DATABASE": "weather",
            "FL_S3_BUCKET": bucket,
            "FL_PART_BYTES": str(PART),
            "FL_STEP_SECONDS": "0.5",
            "FL_LEASE_SECONDS": "1",
        }
        short = {"AWS_LAMBDA_FUNCTION_TIMEOUT": str(LIMIT), "FL_STEP_SECONDS": "60"}
        log = stack.enter_context((tmp_path / "containers.log").open("wb"))
        containers = [
            stack.enter_context(LambdaContainer(usual | changed, log))
            for changed in sample([{}, {"FL_S3_BUCKET": other}, short], [{}])
        ]
        way = lambda_way(http_api)
        api = await stack.enter_async_context(api_at(platform(containers[0]), way))
        day = Day(api, containers)
        stack.push_async_callback(day.close)
        day.databases, day.documents, day.weights, day.stack = databases, documents, weights, stack

        def put_secret(**changed):
            known.update(changed)
            vault.put_secret_value(SecretId=name, SecretString=json.dumps(known))

        day.put_secret = put_secret
        day.stored = lambda prefix: s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"]
        for e in EXPERIMENTS:
            made = await api.create(**plan(e))
            await api.admin.upload_initial_model(made.id, model(0), made.part_bytes)
            day.experiments.append((made.id, [await api.enrol(made, n) for n in range(2)]))
        yield day


def url_of(relay: Relay) -> str:
    return f"mongodb://127.0.0.1:{relay.port}/?directConnection=true"


async def refused(work) -> tuple[int, str]:
    with pytest.raises(RequestRefused) as error:
        await work
    return error.value.status, error.value.code


async def test_a_day_of_bad_weather_ends_with_the_bytes_of_a_calm_one(calm, day):
    weathers = [bucket_away, bucket_denied_or_another, secret_and_database, killed_and_slow]
    for number, weather in enumerate(sample(weathers, weathers[::2]), start=1):
        await day.report(0, number)
        await weather(day, number)
        await day.closed(number)
    assert await day.states() == {"completed"}
    found = [(await day.api.admin.models(e))[-1].sha256 for e, _ in day.experiments]
    assert found == calm


async def bucket_away(day, number):
    """Then the container is frozen, and thaws with connections that are dead."""
    day.weights.go_away()
    assert await refused(day.report(1, number)) == (503, "store-unavailable")
    assert "TickFailed" in await day.tick()
    day.weights.away = False
    frozen = descendants(day.usual._process.pid)
    for process in frozen:
        os.kill(process, signal.SIGSTOP)
    day.weights.cut()
    day.documents.cut()
    for process in frozen:
        os.kill(process, signal.SIGCONT)
    await day.report(1, number)


async def bucket_denied_or_another(day, number):
    """At first nothing may be done there, then no model written; another container comes with
    another bucket meanwhile.
    """
    day.weights.denied = ANYTHING
    assert await refused(day.report(1, number)) == (503, "store-denied")
    await day.all_in(number)
    assert "AccessDenied" in await day.tick()
    for _ in range(2):
        assert "does not belong to the experiments" in await day.tick(day.astray)
    day.weights.denied = NOTHING


async def secret_and_database(day, number):
    day.put_secret(FL_ADMIN_KEY=NEW_KEY)
    old, day.api.admin = day.api.admin, day.api.admin.using(NEW_KEY)
    await asyncio.sleep(secret.LEAST_SECONDS)
    assert (await day.api.admin.create_experiment("x", config(), "new-key-1")).id
    assert await refused(old.create_experiment("x", config(), "old-key-1")) == (
        401,
        "unauthenticated",
    )
    await day.move_database()
    await day.report(1, number)


async def killed_and_slow(day, number):
    """A call is ended at its limit, in the middle of an aggregation; others do some of it each."""
    while "advanced" not in await day.tick(day.short):
        pass  # until it is warm
    await day.all_in(number)
    day.weights.denied = NOTHING
    day.weights.hanging, day.weights.answered = NEW_MODELS, PARTS // 2
    assert "timed out" in await day.tick(day.short)
    day.weights.hanging = NOTHING
    begun = [day.stored(f"models/{e}/{number:07d}/") for e, _ in day.experiments]
    assert 0 < sum(begun) <= PARTS // 2
    day.weights.delay = 0.05

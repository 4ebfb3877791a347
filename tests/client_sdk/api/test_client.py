"""The SDK's client against the real application, over networks of all kinds."""

import asyncio
import random
import socket

import httpx
import pytest

from app.service.coordinator import Limits
from client_sdk import errors
from client_sdk.api import faults as faults_of
from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from tests.support.federation import ADMIN_KEY, config, value_of, weights

QUICK = Retry(give_up_after=20, first_pause=0.001, longest_pause=0.01)


class BadNetwork(httpx.AsyncBaseTransport):
    """Loses requests on the way there, and answers on the way back, as `chance` has it."""

    def __init__(self, app, chance, seed=0):
        self.inner = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.chance, self.dice = chance, random.Random(seed)
        self.lost = self.lost_answers = 0

    async def handle_async_request(self, request):
        if self.dice.random() < self.chance:
            self.lost += 1
            raise httpx.ConnectError("lost on the way there")
        response = await self.inner.handle_async_request(request)
        if self.dice.random() < self.chance:
            self.lost_answers += 1
            raise httpx.ReadError("lost on the way back")
        return response


class Sick(httpx.AsyncBaseTransport):
    """Answers with the given statuses first, then passes requests on."""

    def __init__(self, app, *answers):
        self.inner, self.answers = httpx.ASGITransport(app), list(answers)

    async def handle_async_request(self, request):
        if self.answers:
            status, headers = self.answers.pop(0)
            return httpx.Response(status, headers=headers, text="<html>a proxy's page</html>")
        return await self.inner.handle_async_request(request)


def client(transport, key=ADMIN_KEY, retry=QUICK, **options):
    return CoordinatorClient("http://coordinator", key, retry=retry, transport=transport, **options)


async def test_a_federation_over_a_network_that_loses_every_third_message(federation):
    network = BadNetwork(federation.app, chance=0.3)
    async with client(network) as api:
        federation.admin = api
        experiment, members = await federation.start(rounds=3)
        for number in (1, 2, 3):
            for member in await federation.cohort(experiment):
                await members[member].upload(number, float(number))
        shown = await api.experiment(experiment)
        assert (shown.state, shown.enrolled) == ("completed", 4)
        assert [r.accepted for r in shown.history] == [2, 2, 2]
        assert value_of(await api.download_model(experiment)) == 3.0
        assert len((await api.connection.http.get("/v1/experiments")).json()) == 1
    assert network.lost >= 5
    assert network.lost_answers >= 5


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_answers_that_pass_are_waited_for(federation, status):
    told = []
    sick = Sick(federation.app, (status, {}), (status, {}))
    async with client(sick, on_retry=told.append) as api:
        assert (await api.create_experiment("x", config(), "some-key")).id
        assert api.traffic.retries == len(told) == 2
        assert "trying again" in told[0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
async def test_answers_that_stay_are_not_repeated(federation, status):
    sick = Sick(federation.app, (status, {}), (status, {}))
    async with client(sick) as api:
        with pytest.raises(errors.RequestRefused, match="a proxy's page") as caught:
            await api.experiment("x")
    assert caught.value.status == status
    assert len(sick.answers) == 1


async def test_retry_after_is_honoured(federation, monkeypatch):
    waited = []

    async def sleep(seconds, *_):
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    sick = Sick(
        federation.app,
        (429, {"Retry-After": "7"}),
        (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        (503, {"Retry-After": "soon"}),
    )
    async with client(sick) as api:
        await api.create_experiment("x", config(), "some-key")
    assert waited[0] == 7
    assert all(seconds < 0.02 for seconds in waited[1:])


async def test_it_gives_up_on_a_coordinator_that_is_not_there():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    short = Retry(give_up_after=0.1, first_pause=0.01, longest_pause=0.02)
    async with CoordinatorClient(f"http://127.0.0.1:{port}", retry=short) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match=f"127.0.0.1:{port}"):
            await api.experiment("x")


async def test_refusals_have_their_kind_code_and_sentence(federation):
    experiment, key = await federation.create()
    api = federation.admin
    with pytest.raises(errors.NotThere) as missing:
        await api.experiment("20260101-000000-nobody")
    assert missing.value.code == "not-found"
    with pytest.raises(errors.NotAuthorised, match="admin key"):
        await api.using(key).stop_experiment(experiment)
    await api.stop_experiment(experiment)
    with pytest.raises(errors.StateConflict, match="stopped"):
        await api.using(key).subscribe(experiment, "k" * 40)


async def test_a_download_that_was_altered_is_noticed(federation):
    experiment, _ = await federation.create()

    class Altering(httpx.AsyncBaseTransport):
        inner = httpx.ASGITransport(federation.app)

        async def handle_async_request(self, request):
            response = await self.inner.handle_async_request(request)
            body = bytearray(await response.aread())
            body[-1] ^= 1
            stream = httpx.ByteStream(bytes(body))
            return httpx.Response(response.status_code, headers=response.headers, stream=stream)

    async with client(Altering()) as api:
        with pytest.raises(errors.CorruptDownload):
            await api.download_model(experiment, 0)


async def test_an_upload_stops_at_its_first_fault(federation):
    made = await federation.admin.create_experiment("x", config(), "some-key")
    with pytest.raises(errors.NotAuthorised):
        await federation.admin.using("wrong").upload_initial_model(made.id, weights(0), 10)


async def test_what_is_no_coordinator_is_said_so(federation):
    class Other(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            return httpx.Response(200, json={"hello": "world"})

    async with client(Other()) as api:
        with pytest.raises(errors.ClientError, match="not a coordinator's"):
            await api.experiment("x")
        with pytest.raises(errors.ClientError, match="not a coordinator's"):
            await api.status("x")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "localhost:8000",
            "ftp://x",
            "http://",
            "",
            "http://x:80a",
            "http://x:99999",
            "http://x:0",
        ),
        *(
            "http://[::1",
            "http://user:word@x",
            "http://x/?a=b",
            "http://x/#a",
            "http://a b",
            "http://",
        ),
    ],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(errors.BadSettings, match="address"):
        CoordinatorClient(url)


@pytest.mark.parametrize("key", ["", "  ", "schlüssel", "ключ", "a b", "a\nb", "a\x00b"])
async def test_a_key_that_cannot_be_sent_is_refused(key):
    with pytest.raises(errors.BadSettings, match="key"):
        CoordinatorClient("http://x", key)
    async with CoordinatorClient("http://x") as api:
        with pytest.raises(errors.BadSettings, match="key"):
            api.using(key)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " ", "\t"])
async def test_the_line_end_of_a_secrets_file_is_no_part_of_a_key(federation, end):
    async with client(httpx.ASGITransport(federation.app), ADMIN_KEY + end) as api:
        assert (await api.create_experiment("x", config(), "some-key")).id


async def test_a_model_beyond_what_the_coordinator_takes_is_not_sent(federation):
    api = federation.admin
    federation.app.state.coordinator = federation.coordinator(limits=Limits(max_model_bytes=50))
    made = await api.create_experiment("x", config(), "some-key")
    assert made.max_model_bytes == 50
    sent = api.traffic.sent
    with pytest.raises(errors.RequestRefused, match="no more than 50") as caught:
        await api.upload_initial_model(made.id, weights(0), made.part_bytes)
    assert (caught.value.status, caught.value.code) == (413, "too-large")
    assert api.traffic.sent == sent


async def test_a_model_that_is_succeeded_while_it_comes_still_comes_whole(federation):
    federation.app.state.coordinator = federation.coordinator(limits=Limits(answer_bytes=50))
    experiment, members = await federation.start(clients=1, clients_per_round=1, rounds=1)
    (member,) = members.values()

    class Between(httpx.ASGITransport):
        ranges = 0

        async def handle_async_request(self, request):
            response = await super().handle_async_request(request)
            self.ranges += 1
            if self.ranges == 1:
                await member.upload(1, 7.0)
            return response

    network = Between(federation.app)
    async with client(network) as api:
        assert value_of(await api.download_model(experiment, part_bytes=40)) == 0.0
        assert network.ranges > 2
        assert value_of(await api.download_model(experiment, part_bytes=40)) == 7.0


def test_a_coordinator_that_is_older_is_said_to_be_so():
    """It names each setting that it does not know; the words are pydantic's."""
    faults = [
        {"where": f"body.config.{name}", "what": "Extra inputs are not permitted"}
        for name in ("patience", "rest_rounds")
    ]
    body = {"title": "x", "status": 422, "code": "invalid-request", "detail": "The request ..."}
    for more, says in (
        ([], "does not know patience, rest_rounds, which this version of the package sends"),
        ([{"where": "body.config.rounds", "what": "too small"}], "The request"),
    ):
        response = httpx.Response(422, json=body | {"errors": faults + more})
        assert says in faults_of.refusal(response).detail

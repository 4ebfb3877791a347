"""Rate limits: one caller does not crowd the others out, and a simulation feels nothing."""

from contextlib import asynccontextmanager

import httpx
import pytest

from app.api.edge.rate import ADDRESS_FACTOR, Buckets, RateLimit
from app.config import Settings
from app.main import create_app
from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from tests.support.federation import ADMIN_KEY, Clock
from tests.support.plain_http import bearer
from tests.support.some import some

BURST = 5


@asynccontextmanager
async def caller(federation, address="192.0.2.7", **settings):
    settings = {"rate_per_second": 0.001, "rate_burst": BURST} | settings
    app = create_app(Settings(admin_key=ADMIN_KEY, **settings))
    app.state.coordinator = federation.app.state.coordinator
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as http:
        yield http


def test_a_bucket_lets_a_burst_through_and_then_its_rate():
    clock = Clock()
    buckets = Buckets(2.0, 3, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0
    clock.now += 0.25
    assert buckets.take("a") == 0.25
    clock.now += 0.25
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    clock.now += 3600
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_no_wait_is_never_less_than_none():
    buckets = Buckets(2.0, 1.5, clock=Clock())
    assert [buckets.take("a") for _ in range(2)] == [0, 0.25]


def test_memory_is_bounded_and_forgetting_only_does_good():
    buckets = Buckets(1, 2, clock=Clock(), most=10)
    for n in range(1000):
        buckets.take(n)
        buckets.take("busy")
    assert len(buckets) == 10
    assert buckets.take("busy") > 0
    assert buckets.take(0) == 0


def test_who_comes_to_a_full_table_is_remembered():
    """Else a flood could fill it, and whoever came after that would never be limited."""
    buckets = Buckets(1, 1, clock=Clock(), most=3)
    for n in range(3):
        buckets.take(n)
    assert buckets.take("newest") == 0
    assert buckets.take("newest") > 0
    assert 0 not in buckets  # the one that was used longest ago has gone
    assert 2 in buckets


def test_made_up_tokens_share_their_address_and_ipv6_its_network():
    rate = RateLimit(1, 1, clock=Clock())
    for n in range(ADDRESS_FACTOR):
        assert rate.take(f"{n}.tok_x", f"2001:db8::{n:x}") == 0
    assert rate.take("99.tok_x", "2001:db8::ffff") > 0
    assert rate.take("99.tok_x", "2001:db8:0:1::1") == 0
    assert rate.take(None, "192.0.2.1") == 0
    assert len(rate.clients) == 0
    assert len(rate.addresses) == 3


def test_an_ipv4_address_in_ipv6_form_counts_for_itself():
    """All of them share one /64: limited as that, one caller would shut out all others."""
    rate = RateLimit(1, 1, factor=1, clock=Clock())
    assert rate.take(None, "::ffff:192.0.2.1") == 0
    assert rate.take(None, "::ffff:192.0.2.2") == 0
    assert rate.take(None, "192.0.2.1") > 0  # the same one, in its other form


def test_the_share_of_an_address_can_be_set():
    rate = RateLimit(1, 10, factor=0.5, clock=Clock())
    assert [rate.take(None, "192.0.2.1") > 0 for _ in range(6)] == [False] * 5 + [True]


def test_however_small_its_share_an_address_may_call_once():
    rate = RateLimit(1, 10, factor=0.01, clock=Clock())
    assert rate.take(None, "192.0.2.1") == 0
    assert rate.take(None, "192.0.2.1") == pytest.approx(100)


def test_a_token_that_proves_itself_again_pays_no_more_for_that():
    rate = RateLimit(1, 3, factor=1, clock=Clock())
    for _ in range(5):
        rate.proven("1.tok_x")
    # The request that proved it took one of its three.
    assert [rate.take("1.tok_x", "192.0.2.1") for _ in range(3)] == [0, 0, 1]
    assert len(rate.addresses) == 0


async def test_a_client_that_floods_is_told_to_wait_and_the_others_go_on(federation):
    experiment, members = await federation.start()
    one, other, *_ = members.values()
    path = f"/v1/experiments/{experiment}/status"
    async with caller(federation) as http:
        assert (await http.get(path, headers=bearer(one.token))).status_code == 200  # proves itself
        codes = [
            (await http.get(path, headers=bearer(one.token))).status_code for _ in range(BURST + 3)
        ]
        assert codes == [200] * (BURST - 1) + [429] * 4
        refused = await http.get(path, headers=bearer(one.token))
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["code"] == "too-many-requests"
        assert int(refused.headers["retry-after"]) > 0
        assert f"Wait {refused.headers['retry-after']} s" in refused.json()["detail"]
        assert (await http.get(path, headers=bearer(other.token))).status_code == 200


async def test_an_address_without_a_token_has_a_larger_share(federation):
    async with caller(federation) as http:
        codes = [(await http.get("/v1/experiments")).status_code for _ in range(BURST * 20 + 1)]
        assert codes == [200] * BURST * 20 + [429]
        guess = {"Authorization": "Bearer 0.tok_guess"}
        assert (await http.get("/v1/experiments/x/status", headers=guess)).status_code == 429
        assert (await http.get("/health")).status_code == 200  # or it would be taken for dead


async def test_a_known_client_is_not_shut_out_by_a_flood_from_its_address(federation):
    experiment, members = await federation.start()
    member = next(iter(members.values()))
    path = f"/v1/experiments/{experiment}/status"
    async with caller(federation) as http:
        await http.get(path, headers=bearer(member.token))
        for _ in range(BURST * 20):
            flood = await http.get(path, headers={"Authorization": "Bearer 0.tok_guess"})
        assert flood.status_code == 429
        assert (await http.get(path, headers=bearer(member.token))).status_code == 200


async def test_what_one_request_proved_is_not_anothers_proof(federation):
    """A server may hand the same state to every request, as serverless adapters do."""
    experiment, members = await federation.start()
    app = create_app(Settings(admin_key=ADMIN_KEY, rate_per_second=0.001, rate_burst=BURST))
    app.state.coordinator = federation.app.state.coordinator
    state = {}

    async def with_state(scope, receive, send):
        await app(scope | {"state": state}, receive, send)

    path = f"/v1/experiments/{experiment}/status"
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(with_state), base_url="http://c"
    ) as http:
        assert (await http.get(path, headers=bearer(next(iter(members.values())).token))).is_success
        guess = {"Authorization": "Bearer 0.tok_guess"}
        codes = [(await http.get(path, headers=guess)).status_code for _ in range(BURST * 20)]
    assert codes == [401] * (BURST * 20 - 1) + [429]


async def test_zero_is_no_limit(federation):
    async with caller(federation, rate_per_second=0, rate_burst=1) as http:
        for _ in range(50):
            assert (await http.get("/v1/experiments")).status_code == 200


async def test_the_sdk_waits_as_it_is_told_and_goes_on(federation, monkeypatch):
    from client_sdk.api import connection

    waits = []

    async def no_sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(connection.asyncio, "sleep", no_sleep)
    answers = iter([httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(200)])
    transport = httpx.MockTransport(lambda request: next(answers))
    async with CoordinatorClient("http://c", retry=Retry(), transport=transport) as api:
        assert (await api.connection.request("GET", "/experiments")).status_code == 200
    assert len(waits) == 1
    assert waits[0] >= 7


def test_every_operation_says_that_it_may_answer_429():
    document = create_app(Settings(admin_key=ADMIN_KEY)).openapi()
    for path, operations in some(document["paths"].items()):
        for method, operation in operations.items():
            if path.startswith("/v1"):
                found = operation["responses"]["429"]
                assert "Retry-After" in found["headers"], (method, path)


@pytest.mark.parametrize("wrong", [{"rate_per_second": -1}, {"rate_burst": 0}])
def test_a_rate_that_is_none_is_refused_at_the_start(wrong):
    with pytest.raises(ValueError, match="greater than or equal"):
        Settings(**wrong)

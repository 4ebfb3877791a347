"""What a run would have cost, checked by hand."""

import json
from pathlib import Path

import httpx
import pytest

from client_sdk.api.client import CoordinatorClient
from client_sdk.api.traffic import Traffic
from client_sdk.results import cost
from serverless_fl.domain.prices import TABLE
from tests.support.some import some

PRICES = cost.Prices(
    as_of="2026-01-01",
    note="",
    region="nowhere-1",
    architecture="arm64",
    currency="USD",
    lambda_per_million_requests=0.2,
    lambda_per_gb_second=0.00001,
    http_api_per_million_requests=1.0,
    http_api_metered_bytes=512 * 1024,
    data_out_per_gb=0.09,
    memory_mb=2048,
    request_ms=9,
    ms_per_mb=40,
    sources=[],
)


def an_answer(**headers):
    return httpx.Response(200, headers=headers)


def test_an_estimate_by_hand():
    traffic = Traffic()
    for moved in (100, 512 * 1024, 512 * 1024 + 1):
        traffic.add_api(an_answer(), moved, 0.1)
    traffic.add_api(an_answer(), 10, 0.1004)
    traffic.add(2_000_000, 500_000_000)
    found = cost.estimate(traffic, PRICES)
    assert found["requests"] == 4
    assert found["http_api_calls"] == 5  # one moved more than 512 KB
    assert found["ms_per_request"] == pytest.approx(100.1)
    assert found["gb_seconds"] == pytest.approx(4 * 0.101 * 2)  # 101 ms, a begun one in full
    assert found["items"] == {
        "lambda_requests": pytest.approx(0.0000008),
        "lambda_gb_seconds": pytest.approx(0.00000808),
        "http_api_calls": pytest.approx(0.000005),
        "data_out": pytest.approx(0.045),
    }
    assert found["total"] == pytest.approx(0.04501388)
    assert found["ms_measured_by"] == "the client"
    assert found["kind"] == "estimate"
    assert "an estimate: 4 requests of 100 ms by the client's clock" in cost.sentence(found)


def test_nothing_called_costs_nothing():
    assert cost.estimate(Traffic(), PRICES)["total"] == 0


@pytest.mark.parametrize("header", ["total;dur=12.5", 'db;dur=3, total;desc="all of it";dur=12.5'])
def test_the_coordinators_own_time_counts_where_it_gives_it_always(header):
    traffic = Traffic()
    traffic.add_api(an_answer(**{"Server-Timing": header}), 1, 3.0)
    assert (traffic.api_seconds, traffic.timed_by_server) == (0.0125, True)
    assert cost.estimate(traffic, PRICES)["ms_measured_by"] == "the coordinator"
    traffic.add_api(an_answer(**{"Server-Timing": "db;dur=3"}), 1, 1.0)
    assert (traffic.api_seconds, traffic.timed_by_server) == (4.0, False)


async def test_what_goes_to_a_blob_store_is_no_request_of_lambdas():
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=[]))
    async with CoordinatorClient("http://coordinator", "k", transport=transport) as client:
        await client.models("x")
        await client.connection.direct("PUT", "http://bucket/part", content=b"12345")
        await client.using("other").models("x")
    traffic = client.traffic
    assert (traffic.requests, traffic.api_requests) == (3, 2)
    assert (traffic.sent, traffic.received) == (5, 6)


def test_the_price_table_says_of_when_and_from_where_it_is():
    prices = cost.Prices.load()
    assert prices.sources
    assert "check before relying" in prices.note
    assert prices.as_of >= "2026"
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    assert all(value > 0 for value in some(v for v in table.values() if isinstance(v, float)))
    template = (Path(__file__).parents[3] / "template.yaml").read_text(encoding="utf-8")
    assert f"Default: {prices.architecture}" in template
    assert f"Default: {prices.memory_mb}" in template

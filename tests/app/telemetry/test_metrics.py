"""/metrics as Prometheus reads it, and /ready, over whole rounds on both stores."""

import asyncio

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.config import Settings
from app.main import create_app
from app.service.reading import health
from app.store.observed import observed
from client_sdk.errors import RequestRefused
from serverless_fl.domain.errors import StoreUnavailable
from tests.support.federation import ADMIN_KEY, BOTH_STORES, Federation, weights
from tests.support.some import some

E = "/v1/experiments/{experiment_id}"


@pytest.fixture
async def watched(store):
    """A federation over a store that is observed, as `main` makes it."""
    adapter = "sqlite" if "SQLite" in type(store.documents).__name__ else "mongodb"
    federation = Federation(*observed(store.documents, store.blobs, adapter, adapter))
    async with federation.serving():
        yield federation, adapter


async def scrape(federation):
    """Every sample by name and labels, as Prometheus' own parser reads it."""
    federation.app.state.coordinator.health._counted_at = float("-inf")  # count anew
    answer = await federation.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in some(text_string_to_metric_families(answer.text)):
        assert family.documentation
        assert family.type in ("counter", "histogram", "gauge"), family
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def grown(before, after, name, **labels):
    key = (name, *sorted(labels.items()))
    return after.get(key, 0) - before.get(key, 0)


async def test_a_scrape_counts_what_a_round_did(watched):
    federation, adapter = watched
    before = await scrape(federation)
    experiment, members = await federation.start(rounds=1)
    running = await scrape(federation)
    one, two = await federation.cohort(experiment)
    with pytest.raises(RequestRefused):
        await members[one].api.upload_update(experiment, 1, b"no weights", 10, {}, 1 << 20)
    for name in members.keys() - {one, two}:
        with pytest.raises(RequestRefused):
            await members[name].upload(1, 1.0)
    sent = await members[two].api.upload_update(experiment, 1, weights(2.0), 10, {}, 1 << 20)
    assert sent.client_id == two
    after = await scrape(federation)

    def more(name, **labels):
        return grown(before, after, name, **labels)

    assert more("fl_updates_accepted_total") == 1
    assert more("fl_updates_refused_total", code="malformed-weights") == 1
    assert more("fl_rounds_closed_total") == 1
    assert more("fl_aggregation_step_seconds_count") == 1
    assert more("fl_aggregation_step_seconds_sum") > 0
    assert more("fl_aggregation_bytes_total") == 6 * 4  # a 2x3 tensor of one update
    assert more("fl_aggregation_cells_total") == 1
    assert grown(before, running, "fl_open_rounds") == 1
    assert more("fl_open_rounds") == 0
    assert more("fl_experiments", state="completed") == 1
    commits = {"method": "POST", "route": f"{E}/rounds/{{number}}/update"}
    assert more("fl_requests_total", status="200", **commits) == 1
    assert more("fl_requests_total", status="422", **commits) == 1
    assert more("fl_request_seconds_count", **commits) == 2
    assert more("fl_store_operation_seconds_count", operation="replace", adapter=adapter) >= 4
    assert more("fl_store_operation_seconds_count", operation="blob get", adapter=adapter) >= 2
    buckets = {
        dict(key[1:])["le"]: value
        for key, value in after.items()
        if key[0] == "fl_request_seconds_bucket" and {*commits.items()} <= {*key[1:]}
    }
    assert list(buckets.values()) == sorted(buckets.values())
    assert buckets["+Inf"] == after["fl_request_seconds_count", *sorted(commits.items())]


async def test_what_callers_make_up_becomes_no_label(watched):
    federation, _ = watched
    before = await scrape(federation)
    for n in range(5):
        await federation.http.request(f"METHOD{n}", f"/v1/made-up-{n}")
    after = await scrape(federation)
    labels = {"method": "OTHER", "route": "none"}
    assert grown(before, after, "fl_requests_total", status="404", **labels) == 5
    assert not [key for key in after if "made-up" in str(key) or "METHOD" in str(key)]


async def test_a_refusal_at_the_door_is_counted_too(watched):
    federation, _ = watched
    before = await scrape(federation)
    answer = await federation.http.post("/v1/experiments", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    after = await scrape(federation)
    labels = {"method": "POST", "route": "none", "status": "415"}
    assert grown(before, after, "fl_requests_total", **labels) == 1


async def away(*_, **__):
    raise StoreUnavailable("The database at secret-host did not answer.")


async def test_metrics_are_there_though_the_store_is_not(watched, monkeypatch):
    federation, _ = watched
    before = await scrape(federation)
    assert ("fl_open_rounds",) in before
    inner = federation.documents._inner
    monkeypatch.setattr(inner, "scan", away)
    after = await scrape(federation)
    assert ("fl_open_rounds",) not in after  # not known is not none
    labels = {"operation": "scan", "adapter": "sqlite"}
    again = await scrape(federation)
    assert grown(before, again, "fl_store_failures_total", **labels) >= 1


@pytest.mark.parametrize(("operation", "arguments"), [("get", ("x",)), ("insert", ("x", {}))])
async def test_a_call_of_the_store_that_fails_is_counted_once(
    watched, monkeypatch, operation, arguments
):
    federation, adapter = watched
    before = await scrape(federation)
    monkeypatch.setattr(federation.documents._inner, operation, away)
    with pytest.raises(StoreUnavailable):
        await getattr(federation.documents, operation)("experiments", *arguments)
    after = await scrape(federation)
    labels = {"operation": operation, "adapter": adapter}
    assert grown(before, after, "fl_store_failures_total", **labels) == 1


async def test_scrapes_read_the_store_once_in_a_while(watched, monkeypatch):
    federation, _ = watched
    scan, reads = federation.documents._inner.scan, []

    async def counted(kind, prefix, **options):
        reads.append(kind)
        return await scan(kind, prefix, **options)

    monkeypatch.setattr(health, "CENSUS_STANDS", 3600)
    monkeypatch.setattr(federation.documents._inner, "scan", counted)
    answers = await asyncio.gather(*(federation.http.get("/metrics") for _ in range(20)))
    assert all("fl_open_rounds" in answer.text for answer in answers)
    assert reads == ["experiments"]  # there are none: one page, and it is empty


async def test_the_census_leaves_too_many_experiments_alone(watched, monkeypatch):
    federation, _ = watched
    await federation.create()
    monkeypatch.setattr(health, "MOST_COUNTED", 0)
    found = await scrape(federation)
    assert not [key for key in found if key[0] in ("fl_experiments", "fl_open_rounds")]


async def test_metrics_can_be_off():
    app = create_app(Settings(admin_key=ADMIN_KEY, metrics="off"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://coordinator") as http:
        assert (await http.get("/metrics")).status_code == 404
    assert "/metrics" not in app.openapi()["paths"]


@BOTH_STORES
async def test_ready_says_whether_the_store_keeps_what_is_written(watched, monkeypatch):
    federation, _ = watched
    asked = federation.app.state.coordinator.health

    async def ready():
        asked._asked_at = float("-inf")  # the answer before does not stand any more
        return await federation.http.get("/ready")

    assert (await ready()).json() == {"status": "ready"}
    with monkeypatch.context() as patch:
        patch.setattr(federation.documents._inner, "check", away)
        refused = await ready()
        assert (refused.status_code, refused.json()["code"]) == (503, "store-unavailable")
        assert refused.headers["retry-after"]
        assert "secret-host" not in refused.text
        # Liveness is another question: a restart would not bring the database back.
        assert (await federation.http.get("/health")).status_code == 200
    assert (await ready()).status_code == 200

    async def never(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(health, "READY_SECONDS", 0.05)
    monkeypatch.setattr(federation.documents._inner, "check", never)
    assert (await ready()).status_code == 503


async def test_a_flood_of_ready_is_one_write(watched, monkeypatch):
    federation, _ = watched
    writes = 0

    async def counted(*_):
        nonlocal writes
        writes += 1
        await away()

    monkeypatch.setattr(health, "READY_STANDS", 3600)
    monkeypatch.setattr(federation.documents._inner, "check", counted)
    answers = await asyncio.gather(*(federation.http.get("/ready") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {503}
    assert writes == 1


@BOTH_STORES
async def test_a_store_is_observed_and_still_the_port(store):
    from app.store.port import DirectBlobs

    documents, blobs = observed(store.documents, store.blobs, "a", "b")
    assert not isinstance(blobs, DirectBlobs)
    assert await documents.insert("rounds", "x", {"n": 1})
    assert not await documents.insert("rounds", "x", {"n": 2})
    assert await documents.replace("rounds", "x", 1, {"n": 3})
    assert (await documents.get("rounds", "x")).body == {"n": 3}
    assert await documents.keys("rounds", "x") == ["x"]
    assert await documents.last_key("rounds", "x") == "x"
    assert await documents.count("rounds", "x") == 1
    assert [d.key for d in await documents.scan("rounds", "", after="", limit=1)] == ["x"]
    assert await documents.find("clients", "nobody") is None
    await blobs.put("k/1", b"12")
    assert (await blobs.get("k/1"), await blobs.sizes("k/")) == (b"12", {"k/1": 2})
    await blobs.delete("k/")
    assert await blobs.sizes("k/") == {}


def test_a_bucket_stays_one_that_clients_can_reach(bucket):
    from app.store.port import DirectBlobs
    from app.store.s3 import S3Blobs

    _, blobs = observed(None, S3Blobs(bucket, url_seconds=60), "sqlite", "s3")
    assert isinstance(blobs, DirectBlobs)
    signed = asyncio.run(blobs.sign_get("k"))
    assert bucket in signed.url

"""Spans, as OpenTelemetry's own SDK gathers them. Skipped where the extra `otel` is missing."""

import gzip

import httpx
import pytest

from app.config import Settings
from app.main import create_app
from app.store.observed import observed
from serverless_fl import tracing
from tests.support.federation import ADMIN_KEY, Federation
from tests.support.local_server import QuietHandler, serving

sdk = pytest.importorskip("opentelemetry.sdk.trace.export")
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def spans():
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    tracing.trace_with(sdk.SimpleSpanProcessor(exporter), "1.2.3")
    yield exporter.get_finished_spans
    tracing.stop()


async def test_a_commit_is_one_trace_down_to_the_store(store, spans):
    federation = Federation(*observed(store.documents, store.blobs, "sqlite", "sqlite"))
    async with federation.serving():
        experiment, members = await federation.start(rounds=1)
        cohort = await federation.cohort(experiment)
        for name in cohort:
            await members[name].upload(1, 1.0)
        await federation.http.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    found = spans()
    commit = "POST /v1/experiments/{experiment_id}/rounds/{number}/update"
    last = [span for span in found if span.name == commit][-1]
    assert last.attributes["http.response.status_code"] == 200
    assert last.kind.name == "SERVER"
    assert last.resource.attributes["service.name"] == "serverless-fl"
    within = [s for s in found if s.context.trace_id == last.context.trace_id]
    by_id = {span.context.span_id: span for span in within}

    def path(span):
        above = by_id[span.parent.span_id] if span.parent else None
        return [*(path(above) if above else []), span.name]

    paths = [path(span) for span in within]
    assert ["round", commit, "advance", "aggregate", "store blob get"] in paths
    (aggregation,) = [span for span in within if span.name == "aggregate"]
    assert dict(aggregation.attributes) == {"fl.experiment": experiment, "fl.round": 1}
    (health,) = [span for span in found if span.name == "GET /health"]
    assert f"{health.context.trace_id:032x}" == TRACE
    assert f"{health.parent.span_id:016x}" == PARENT
    told = " ".join(str(dict(span.attributes)) for span in found)
    assert ADMIN_KEY not in told
    assert not [m for m in members.values() if m.api.connection.key in told]


async def test_a_request_that_breaks_is_an_error_and_one_that_is_refused_is_not(
    store, spans, monkeypatch
):
    federation = Federation(store.documents, store.blobs)
    async with federation.serving():

        async def broken(*_):
            raise RuntimeError("not foreseen")

        await federation.http.get("/v1/experiments/x")
        monkeypatch.setattr(federation.app.state.coordinator.views, "experiment", broken)
        await federation.http.get("/v1/experiments/x")
    refused, failed = (span for span in spans() if span.name.startswith("GET "))
    assert (refused.attributes["http.response.status_code"], refused.status.is_ok) == (404, True)
    assert (failed.attributes["http.response.status_code"], failed.status.is_ok) == (500, False)


async def test_without_a_tracer_nothing_is_made():
    with tracing.span("advance", experiment="x") as found:
        assert found is None
    tracing.flush()
    tracing.stop()


async def test_the_name_of_the_service_is_the_operators(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "hospital")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    tracing.trace_with(sdk.SimpleSpanProcessor(exporter))
    try:
        with tracing.span("x"):
            pass
    finally:
        tracing.stop()
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == "hospital"


class Collector(QuietHandler):
    """What takes OTLP over HTTP."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.got.append((self.path, self.headers["content-type"], body))
        self.send_response(200)
        self.end_headers()


async def test_spans_reach_a_collector(tmp_path):
    with serving(Collector, got=[]) as server:
        app = create_app(
            Settings(
                admin_key=ADMIN_KEY,
                data_dir=tmp_path,
                otel_endpoint=f"{server.url}/",
            )
        )
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://c") as client,
        ):
            assert (await client.get("/ready")).status_code == 200
    assert {(path, kind) for path, kind, _ in server.got} == {
        ("/v1/traces", "application/x-protobuf")
    }
    sent = b"".join(body for _, _, body in server.got)
    assert b"GET /ready" in sent
    assert b"store check" in sent


@pytest.mark.parametrize(("variable", "seconds"), [("", tracing.SECONDS), ("TRACES_", None)])
def test_a_collector_that_hangs_is_soon_given_up(monkeypatch, variable, seconds):
    """Each call of a serverless platform waits for it. The operator's own variable holds."""
    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    given = []

    class Exporter(trace_exporter.OTLPSpanExporter):
        def __init__(self, *, timeout, **more):
            given.append(timeout)
            super().__init__(timeout=timeout, **more)

    if variable:
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{variable}TIMEOUT", "7")
    monkeypatch.setattr(trace_exporter, "OTLPSpanExporter", Exporter)
    tracing.start("http://127.0.0.1:9", "1", "serverless-fl", "server,otel")
    tracing.stop()
    assert given == [seconds]


def test_the_standard_variable_is_understood(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert Settings().otel_endpoint == "http://collector:4318"


async def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(RuntimeError, match=r"pip install 'serverless-fl\[server,otel\]'"):
        tracing.start("http://127.0.0.1:9", "1", "serverless-fl", "server,otel")

"""A round's trace: what processes agree on without a word. Skipped without the extra `otel`."""

import pytest

from client_sdk.cli import command_line
from serverless_fl import tracing

sdk = pytest.importorskip("opentelemetry.sdk.trace.export")


@pytest.fixture
def spans():
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    tracing.trace_with(sdk.SimpleSpanProcessor(exporter))
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    tracing.stop()


def test_work_of_a_round_that_another_request_does_is_linked_to_that_request(spans):
    with tracing.span("poll"), tracing.round_span("aggregate", "e", 1), tracing.span("store get"):
        pass
    tracing.record_round("e", 1, 100.0, 102.5, updates=3)
    found = spans()
    first, sums = found["round"], found["aggregate"]
    assert first.parent is None
    assert (first.start_time, first.end_time) == (100_000_000_000, 102_500_000_000)
    assert dict(first.attributes) == {"fl.experiment": "e", "fl.round": 1, "fl.updates": 3}
    assert sums.parent.span_id == first.context.span_id
    assert [link.context.span_id for link in sums.links] == [found["poll"].context.span_id]
    assert found["store get"].parent.span_id == sums.context.span_id
    traces = {found[name].context.trace_id for name in ("round", "aggregate", "store get")}
    assert len(traces) == 1
    assert found["poll"].context.trace_id not in traces


def test_each_round_of_each_experiment_has_a_trace_of_its_own(spans):
    seen = set()
    for experiment, number in (("e", 1), ("e", 2), ("f", 1), ("e", 1)):
        tracing.record_round(experiment, number, 1.0, 2.0)
        seen.add(spans()["round"].context.trace_id)
    assert len(seen) == 3


def test_what_is_sent_names_the_open_span_and_nothing_else(spans):
    assert tracing.headers() == {}
    with tracing.round_span("take part", "e", 1):
        (sent,) = tracing.headers().items()
    context = spans()["take part"].context
    value = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    assert sent == ("traceparent", value)


def test_the_operators_sampler_decides_about_rounds_too(monkeypatch):
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    exporter = InMemorySpanExporter()
    tracing.trace_with(sdk.SimpleSpanProcessor(exporter))
    try:
        for number in range(100):
            with tracing.round_span("take part", "e", number):
                pass
            tracing.record_round("e", number, 1.0, 2.0)
    finally:
        tracing.stop()
    rounds = {s.attributes["fl.round"] for s in exporter.get_finished_spans() if s.name == "round"}
    taken = {s.attributes["fl.round"] for s in exporter.get_finished_spans() if s.name != "round"}
    assert rounds == taken
    assert 20 < len(rounds) < 80


def test_a_command_whose_traces_go_nowhere_says_so_and_goes_on(monkeypatch, capsys):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
    command_line._begin_to_trace()
    assert "No traces: FL_OTEL_ENDPOINT" in capsys.readouterr().err
    assert not tracing.is_on()

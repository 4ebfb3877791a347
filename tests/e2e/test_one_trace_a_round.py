"""One trace a round: clients' and coordinators' spans, as a collector's parser reads them.

`make collector-test` sends them through Rotel, a collector that takes, parses and passes on OTLP.
"""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.store.observed import observed
from serverless_fl import tracing
from tests.support.federation import Federation
from tests.support.local_server import QuietHandler, serving
from tests.support.participants import Adding, take_part

parser = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
ROOT = Path(__file__).parents[2]
UPLOAD = "PUT /v1/experiments/{experiment_id}/rounds/{number}/update"
COMMIT = "POST /v1/experiments/{experiment_id}/rounds/{number}/update"


class Receiver(QuietHandler):
    """Takes OTLP over HTTP."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.got.append(parser.ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()


@dataclass
class Span:
    service: str
    trace: str
    id: str
    parent: str
    name: str
    facts: dict

    @classmethod
    def all_of(cls, requests):
        return [
            cls(
                facts_of(resource.resource)["service.name"],
                *(span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.name),
                facts_of(span),
            )
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def facts_of(thing):
    return {
        fact.key: getattr(fact.value, fact.value.WhichOneof("value")) for fact in thing.attributes
    }


def check_rounds(spans, rounds, a_round):
    """Each round is one trace: the round, its clients below it, and their uploads below these."""
    assert len({span.id for span in spans}) == len(spans)
    by_id = {span.id: span for span in spans}
    firsts = sorted((s for s in spans if s.name == "round"), key=lambda s: s.facts["fl.round"])
    assert [span.facts["fl.round"] for span in firsts] == list(range(1, rounds + 1))
    assert len({span.trace for span in firsts}) == rounds
    for first in firsts:
        within = [span for span in spans if span.trace == first.trace]

        def path(span):
            above = by_id[span.parent] if span.parent else None
            return (*(path(above) if above else ()), (span.service, span.name))

        found = Counter(path(span) for span in within)
        service = {span.name: span.service for span in within}
        coordinator, client = service["round"], service["take part"]
        above = (coordinator, "round"), (client, "take part")
        assert found[above] == a_round
        for step in ("download", "train", "upload"):
            assert found[(*above, (client, step))] == a_round
        uploads = [(*above, (client, "upload"), (coordinator, UPLOAD))]
        uploads.append((*above, (client, "upload"), (coordinator, COMMIT)))
        assert max(found[upload] for upload in uploads) == a_round
        sums = [span for span in within if span.name == "aggregate"]
        assert sums
        assert all((coordinator, "round") in path(span) for span in sums)
        assert first.facts["fl.updates"] == a_round
        ids = {span.facts["fl.client"] for span in within if span.name == "take part"}
        assert len(ids) == a_round


async def test_a_round_is_one_trace_from_its_clients_to_the_store(store):
    with serving(Receiver, got=[]) as server:
        tracing.start(server.url, "1", "both", "otel")
        try:
            federation = Federation(*observed(store.documents, store.blobs, "sqlite", "sqlite"))
            async with federation.serving():
                await take_part(federation, Adding())
        finally:
            tracing.stop()
        check_rounds(Span.all_of(server.got), rounds=2, a_round=2)


@pytest.mark.collector
def test_a_run_is_seen_through_a_collector(tmp_path):
    with serving(Receiver, got=[]) as server, collecting_for(server.url) as endpoint:
        command = "-m client_sdk run --dataset digits --clients 4 --clients-per-round 2 --rounds 2"
        done = subprocess.run(
            [sys.executable, *command.split(), "--local-epochs", "1", "--out", tmp_path / "run"],
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        until(lambda: sum(s.name == "round" for s in Span.all_of(server.got)) == 2)
        spans = Span.all_of(server.got)
    check_rounds(spans, rounds=2, a_round=2)
    assert {span.service for span in spans} == {"serverless-fl", "serverless-fl-client"}


@contextmanager
def collecting_for(receiver):
    """A collector that passes on all that it gets; gives its address for OTLP over HTTP."""
    program = next(ROOT.glob(".venv-rotel/lib/*/site-packages/rotel/rotel-agent"), None)
    program = program or shutil.which("rotel")
    if program is None:
        pytest.skip("there is no collector: make collector-test installs one")
    ports = free_ports(2)
    process = subprocess.Popen(
        [
            *(program, "start", "--exporter", "otlp", "--otlp-exporter-protocol", "http"),
            *("--otlp-exporter-endpoint", receiver, "--batch-timeout", "100ms"),
            *("--otlp-grpc-endpoint", f"127.0.0.1:{ports[0]}"),
            *("--otlp-http-endpoint", f"127.0.0.1:{ports[1]}"),
        ],
    )
    url = f"http://127.0.0.1:{ports[1]}"
    try:
        until(lambda: answers(url))
        yield url
    finally:
        process.terminate()
        process.wait(30)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def answers(url):
    try:
        httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within half a minute")

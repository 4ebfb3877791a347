"""What Lambda writes to CloudWatch: JSON lines once each, and metrics embedded in them."""

from __future__ import annotations

import json
import secrets

import jsonschema
import pytest

from app.telemetry import metrics
from app.telemetry.emf import Embedded
from examples.lambda_gateway import http_api
from examples.lambda_local import LambdaContainer
from tests.support.federation import ADMIN_KEY
from tests.support.some import some
from tests.support.ways import api_at, invoke, lambda_way, through_lambda

_SIZES = [
    (prefix + unit).capitalize()
    for unit in ("bytes", "bits")
    for prefix in ("", "kilo", "mega", "giga", "tera")
]
_COUNTED = [*_SIZES, "Count"]
UNITS = ["Seconds", "Microseconds", "Milliseconds", "Percent", "None", *_COUNTED]
UNITS += [f"{unit}/Second" for unit in _COUNTED]
# The rules of AWS's specification of the format, as a schema.
SCHEMA = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "additionalProperties": False,
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 1},
                "CloudWatchMetrics": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "additionalProperties": False,
                        "properties": {
                            "Namespace": {"type": "string", "minLength": 1, "maxLength": 1024},
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "minItems": 1,
                                    "maxItems": 30,
                                    "items": {"type": "string", "minLength": 1, "maxLength": 250},
                                },
                            },
                            "Metrics": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "Name": {
                                            "type": "string",
                                            "minLength": 1,
                                            "maxLength": 1024,
                                        },
                                        "Unit": {"enum": UNITS},
                                        "StorageResolution": {"enum": [1, 60]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}


def check(line: str) -> dict:
    """What the schema cannot say: names lead to members of the root, of the right types."""
    assert "\n" not in line
    assert len(line.encode()) < 256 * 1024
    document = json.loads(line)
    jsonschema.validate(document, SCHEMA)
    for directive in some(document["_aws"]["CloudWatchMetrics"]):
        for name in (n for dimensions in directive["Dimensions"] for n in dimensions):
            assert isinstance(document[name], str)
            assert 1 <= len(document[name]) <= 1024
        for metric in some(directive["Metrics"]):
            assert isinstance(document[metric["Name"]], int | float)
    return document


def test_a_line_holds_what_grew_since_the_last_one():
    embedded = Embedded(FunctionName="coordinator")
    metrics.UPDATES_REFUSED.add(2, "out-of-turn")
    metrics.UPDATES_REFUSED.add(1, "norm-exceeded")
    metrics.AGGREGATION_SECONDS.observe(0.25)
    metrics.REQUESTS.add(1, "GET", "/x", "503")
    document = check(embedded.line(1_700_000_000.5, invocation="i-1"))
    assert document["_aws"]["Timestamp"] == 1_700_000_000_500
    assert document["invocation"] == "i-1"
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    named = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    assert named == {
        "Requests": "Count",
        "RequestFailures": "Count",
        "UpdatesRefused": "Count",
        "AggregationSeconds": "Seconds",
    }
    assert (document["UpdatesRefused"], document["RequestFailures"]) == (3, 1)
    assert document["AggregationSeconds"] == pytest.approx(0.25)
    assert embedded.line(1_700_000_001, invocation="i-2") is None


async def round_on(settings, log):
    """One round through Lambda's emulator, a tick, and everything that the container printed."""
    with log.open("wb") as stream, LambdaContainer(settings, stream) as container:
        async with api_at(through_lambda([container]), lambda_way(http_api)) as api:
            experiment, members = await api.start(clients=2, clients_per_round=2, rounds=1)
            for member in members:
                await member.upload(1, 5.0)
            assert (await api.send("GET", "/metrics")).status_code == 404
        invoke(container, {"tick": True})
    lines = log.read_text(errors="replace").splitlines()
    return experiment, [json.loads(line) for line in lines if line.startswith("{")], lines


@pytest.fixture
def settings(mongodb_url):
    return {
        "MONGODB_URL": mongodb_url,
        "FL_MONGODB_DATABASE": f"lambda_{secrets.token_hex(4)}",
        "FL_ADMIN_KEY": ADMIN_KEY,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_LAMBDA_FUNCTION_NAME": "fl-coordinator",
    }


async def test_every_call_leaves_json_lines_and_its_metrics(settings, tmp_path):
    experiment, documents, lines = await round_on(settings, tmp_path / "log")
    embedded = [check(line) for line in lines if line.startswith('{"_aws"')]
    told = [document for document in documents if "event" in document]
    requests = [document for document in told if document["event"] == "request"]
    assert sum(document.get("Requests", 0) for document in embedded) == len(requests)
    assert sum(document.get("UpdatesAccepted", 0) for document in embedded) == 2
    assert sum(document.get("RoundsClosed", 0) for document in embedded) == 1
    assert sum(document.get("AggregationBytes", 0) for document in embedded) == 2 * 24
    assert len({document["invocation"] for document in embedded}) == len(embedded)
    assert {document["FunctionName"] for document in embedded} == {"fl-coordinator"}
    # Once each, and nothing besides: the runtime's own handler writes none of them again.
    assert len([line for line in lines if "round closed" in line]) == 1
    assert len({document["request_id"] for document in requests}) == len(requests)
    (closed,) = [document for document in told if document["event"] == "round closed"]
    assert closed.items() >= {"experiment": experiment, "round": 1, "updates": 2}.items()
    assert closed["request_id"] in {document["request_id"] for document in requests}
    assert ADMIN_KEY not in "\n".join(lines)


async def test_metrics_can_be_off_there_too(settings, tmp_path):
    _, documents, _ = await round_on(settings | {"FL_METRICS": "off"}, tmp_path / "log")
    assert [document for document in documents if document.get("event") == "round closed"]
    assert not [document for document in documents if "_aws" in document]

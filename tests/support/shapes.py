"""The other events that Lambda gets for an HTTP request; the HTTP API's is in the gateway."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qsl, unquote

from examples.gateway import Call
from examples.lambda_gateway import http_api


def function_url(call: Call) -> dict[str, Any]:
    event = http_api(call)
    event["requestContext"]["domainName"] = "abc.lambda-url.eu-west-1.on.aws"
    return event


def rest_api(call: Call) -> dict[str, Any]:
    """REST API (1.0): path and query decoded, header names as the caller wrote them."""
    pairs = parse_qsl(call.query, keep_blank_values=True)
    headers = {name.title(): value for name, value in call.headers.items()}
    return {
        "resource": "/{proxy+}",
        "path": unquote(call.path),
        "httpMethod": call.method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": dict(pairs) or None,
        "multiValueQueryStringParameters": {k: [v] for k, v in pairs} or None,
        "pathParameters": {"proxy": unquote(call.path).lstrip("/")},
        "requestContext": {"identity": {"sourceIp": call.caller}, "stage": "prod"},
        **_body(call),
    }


def load_balancer(call: Call) -> dict[str, Any]:
    """An application load balancer: the query as it was sent, no address but in a header."""
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:x"}},
        "httpMethod": call.method,
        "path": call.path,
        "headers": call.headers
        | {"x-forwarded-for": call.caller, "x-forwarded-port": "443", "x-forwarded-proto": "https"},
        "queryStringParameters": dict(pair.split("=", 1) for pair in call.query.split("&") if pair),
        **_body(call),
    }


def _body(call: Call) -> dict[str, Any]:
    return {
        "body": base64.b64encode(call.body).decode() if call.body else None,
        "isBase64Encoded": bool(call.body),
    }

"""AWS Lambda: `app.entry.aws_lambda.handler`, through Mangum.

The application is opened once, when the container starts, on an event loop that lives as long as
the container: Mangum's own lifespan support would open and close the database on every call.
HTTP API, REST API, load balancer and Function URL events go to the application; a scheduled event
(or any with `{"tick": true}`) advances the open experiments, so that deadlines strike though
nobody asks.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from mangum import Mangum

from app.config import Settings, read_settings
from app.entry.container import Container, within
from app.telemetry.emf import Embedded

PART_BYTES = 4 * 1024**2  # a call takes 6 MB after base64
OF_THE_SECRET = ("MONGODB_URL", "FL_ADMIN_KEY", "FL_ADMIN_KEY_PREVIOUS")
_TEXT_TYPES = ["text/", "application/json", "application/problem+json"]


def load_settings() -> Settings:
    """Settings that can work here, secrets fetched. Raises RuntimeError with what to set."""
    settings = read_settings()
    if settings.secret_id:
        secret = fetch_secret(settings.secret_id)
        settings = read_settings({key: secret[key] for key in OF_THE_SECRET if key in secret})
    changes: dict[str, Any] = within(settings, PART_BYTES)
    if settings.metrics == "on":
        changes["metrics"] = "embedded"
    settings = settings.model_copy(update=changes)
    if settings.mongodb_url is None:
        raise RuntimeError(
            "On Lambda the disk is each container's own, so SQLite would lose the experiment: set "
            "MONGODB_URL, or FL_SECRET_ID to a secret whose JSON holds MONGODB_URL."
        )
    if settings.admin_key is None:
        raise RuntimeError(
            "On Lambda every container would make an admin key of its own: set FL_ADMIN_KEY, or "
            "FL_SECRET_ID to a secret whose JSON holds FL_ADMIN_KEY."
        )
    return settings


def fetch_secret(secret_id: str) -> dict[str, str]:
    """A secret's JSON object, of Secrets Manager, or of SSM where the id starts with a slash.

    Raises RuntimeError, without the secret in it, where it is not a JSON object of strings.
    """
    import boto3  # where it is used: it costs a tenth of a second of every cold start

    if secret_id.startswith("/"):
        client = boto3.client("ssm")
        text = client.get_parameter(Name=secret_id, WithDecryption=True)["Parameter"]["Value"]
    else:
        text = boto3.client("secretsmanager").get_secret_value(SecretId=secret_id)["SecretString"]
    try:
        secret = json.loads(text)
    except ValueError:
        secret = None  # the error itself would quote the secret
    if not isinstance(secret, dict) or not all(isinstance(v, str) for v in secret.values()):
        raise RuntimeError(f"The secret {secret_id!r} is not a JSON object of strings.")
    return secret


_settings = load_settings()
_container = Container(_settings)
_embedded = (
    Embedded(FunctionName=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "coordinator"))
    if _settings.metrics == "embedded"
    else None
)
_http = Mangum(_container.http, lifespan="off", text_mime_types=_TEXT_TYPES)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one event."""
    try:
        with _container.call():
            if event.get("tick") or event.get("detail-type") == "Scheduled Event":
                return _container.tick()
            answer: dict[str, Any] = _http(event, context)
            return answer
    finally:
        if _embedded and (line := _embedded.line(time.time(), invocation=context.aws_request_id)):
            print(line, flush=True)

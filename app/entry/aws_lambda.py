"""AWS Lambda: `app.entry.aws_lambda.handler`, through Mangum.

A container opens the application once, at its start, on an event loop that lives as long as the
container. Mangum's own lifespan support would open and close the database for every call. The
container opens the application again when the secret of FL_SECRET_ID changes (`app.entry.secret`).
The application answers events of an HTTP API, a REST API, a load balancer and a Function URL. A
scheduled event, or one with `{"tick": true}`, advances the open experiments, so that deadlines
strike even if no client asks.
"""

from __future__ import annotations

import app.entry.cold_start  # noqa: F401  # isort: skip  (before all that takes long)

import os
import time
from typing import Any

from mangum import Mangum

from app.api.edge.prefix import BasePath
from app.config import Settings, read_settings
from app.entry.container import Container, platform_settings
from app.entry.gateways import AnyRequest, is_request
from app.entry.secret import OF_THE_SECRET, WatchedSettings, secrets_of
from app.telemetry.emf import Embedded
from app.telemetry.logs import ERROR, log_event
from serverless_fl.aws_secret import fetch_secret
from serverless_fl.domain.errors import StoreUnavailable

PART_BYTES = 4 * 1024**2  # Lambda takes 6 MB a call, after base64
_TEXT_TYPES = ["text/", "application/json", "application/problem+json"]
_MAY_BE_STALE = (401, 503)  # the key, or the database, may have changed with the secret
AGAIN_SECONDS = 30.0  # the pause after the database of a new secret could not be opened


def load_settings() -> Settings:
    """Read the settings and the secret. Raises RuntimeError if they cannot work on Lambda."""
    settings = read_settings()
    if settings.secret_id:
        secret = fetch_secret(settings.secret_id)
        settings = read_settings({key: secret[key] for key in OF_THE_SECRET if key in secret})
    changes: dict[str, Any] = platform_settings(settings, PART_BYTES)
    if settings.metrics == "on":
        changes["metrics"] = "embedded"
    settings = settings.model_copy(update=changes)
    if settings.mongodb_url is None:
        raise RuntimeError(
            "On Lambda each container has a disk of its own, so SQLite would lose the experiment: "
            "set MONGODB_URL, or FL_SECRET_ID to a secret whose JSON holds MONGODB_URL."
        )
    if settings.admin_key is None:
        raise RuntimeError(
            "On Lambda every container would make an admin key of its own: set FL_ADMIN_KEY, or "
            "FL_SECRET_ID to a secret whose JSON holds FL_ADMIN_KEY."
        )
    return settings


class Function:
    """The application of one container; it opens the application again if the secret changes."""

    def __init__(self) -> None:
        self.watched = WatchedSettings(load_settings)
        self._not_before = 0.0
        self._open()

    def _open(self) -> None:
        self.container = Container(self.watched.settings)
        self._http = Mangum(
            BasePath(self.container.http),
            lifespan="off",
            custom_handlers=[AnyRequest],
            text_mime_types=_TEXT_TYPES,
        )
        self._opened_with = secrets_of(self.watched.settings)

    def renew(self, *, urgent: bool = False) -> bool:
        """Open the application again if the secret has changed; return whether it did.

        If that fails, the old application stays.
        """
        self.watched.read_again(urgent=urgent)
        as_it_is = secrets_of(self.watched.settings) == self._opened_with
        if as_it_is or time.time() < self._not_before:
            return False
        before = self.container
        try:
            self._open()
        except StoreUnavailable as error:
            log_event("not opened with the changed secret", ERROR, cause=error.message)
            before.enter()
            self._not_before = time.time() + AGAIN_SECONDS
            return False
        before.close()
        self.container.enter()
        log_event("opened with the changed secret")
        return True

    def answer(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer a request. If the answer may come from an old secret, renew and answer again."""
        with self.container.call():
            found: dict[str, Any] = self._http(event, context)
        if found["statusCode"] in _MAY_BE_STALE and self.renew(urgent=True):
            with self.container.call():
                found = self._http(event, context)
        return found

    def tick(self) -> dict[str, list[str]]:
        with self.container.call():
            return self.container.tick()


_function = Function()
_embedded = (
    Embedded(FunctionName=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "coordinator"))
    if _function.watched.settings.metrics == "embedded"
    else None
)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one event. Raises RuntimeError if it is neither a request nor a tick."""
    try:
        if is_request(event):
            _function.renew()
            return _function.answer(event, context)
        if not _is_tick(event):
            raise RuntimeError("This event is neither an HTTP request nor a tick.")
        _function.renew(urgent=True)  # a tick comes once a minute, and nobody waits for it
        return _function.tick()
    finally:
        if _embedded and (line := _embedded.line(time.time(), invocation=context.aws_request_id)):
            print(line, flush=True)


def _is_tick(event: object) -> bool:
    return isinstance(event, dict) and (
        bool(event.get("tick")) or event.get("detail-type") == "Scheduled Event"
    )

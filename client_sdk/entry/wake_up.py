"""Checks what wakes a client's function up, before anything is done for it.

A schedule and a call of the party's own account need no check: their platform knows them. A request
over HTTP and a message of a topic of SNS may come from anybody. They must have the signature that
only the coordinator of this client's experiment can make, and name that experiment.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serverless_fl.domain.signed_messages import NAMES, NotGenuine, require_signed
from serverless_fl.domain.wake_ups import DUE, wake_key

_BODY_BYTES = 4096


@dataclass(frozen=True)
class Message:
    """What a stranger sends: headers, with names in lower case, and the body."""

    headers: Mapping[str, str]
    body: bytes


def is_request(event: Any) -> bool:
    """Whether the event is a request over HTTP, which gets an answer."""
    names = ("__ow_method", "__ow_headers", "requestContext", "httpMethod")
    return isinstance(event, Mapping) and any(name in event for name in names)


def request_of(event: Any) -> Message | None:
    """The request of a Function URL, an API Gateway or a raw web action; None if it is none.

    Raises NotGenuine for a request whose body cannot be read.
    """
    if not is_request(event):
        return None
    if "__ow_method" in event or "__ow_headers" in event:
        if "__ow_body" not in event:  # then a caller could set the action's parameters
            raise NotGenuine("The action must be a raw web action (--web raw).")
        return _message(event.get("__ow_headers"), _decoded(event["__ow_body"]))
    text = event.get("body") or ""
    body = _decoded(text) if event.get("isBase64Encoded") else str(text).encode()
    return _message(event.get("headers"), body)


def topic_messages(event: Any) -> list[Message]:
    """The messages of an event of SNS; an empty list of another event."""
    records = event.get("Records") if isinstance(event, Mapping) else None
    found = []
    for record in records if isinstance(records, list) else ():
        message = record.get("Sns") if isinstance(record, Mapping) else None
        if isinstance(message, Mapping):
            attributes = message.get("MessageAttributes") or {}
            signed = {name: (attributes.get(name) or {}).get("Value", "") for name in NAMES}
            found.append(_message(signed, str(message.get("Message", "")).encode()))
    return found


def require_genuine(message: Message, client_key: str, experiment_id: str) -> None:
    """Raise NotGenuine unless the coordinator wakes this client of this experiment up."""
    require_signed(wake_key(client_key, experiment_id), message.headers, message.body, time.time())
    try:
        content = json.loads(message.body)
        named = content["type"], content["data"]["experiment"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotGenuine("The message is no wake-up.") from error
    if named != (DUE, experiment_id):
        raise NotGenuine("The message names another experiment.")


def _message(headers: Any, body: bytes) -> Message:
    if len(body) > _BODY_BYTES:
        raise NotGenuine("The message is too long.")
    items = headers.items() if isinstance(headers, Mapping) else ()
    return Message({str(name).lower(): str(value) for name, value in items}, body)


def _decoded(text: Any) -> bytes:
    """OpenWhisk sends JSON in base64, and Lambda says so."""
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        return str(text).encode()

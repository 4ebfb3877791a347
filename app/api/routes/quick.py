"""A short way for nearly all requests: polls, and the parts and commits of updates.

FastAPI resolves a tree of dependencies for each request. That takes longer than the answer to a
poll, and half of the time that 2,000 clients wait for their answers (docs/decisions/0033). So four
routes have a second handler, which is tried first. It accepts only requests in the exact form that
the SDK sends, and answers with the JSON of the body. If it returns None, the request goes FastAPI's
way, which accepts other forms or says what is wrong. Both ways use one table of errors.

`app.main` switches the short way on by calling `install`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from app.api.bodies.clients import commit_of, commit_of_facts, receipt_body, turn_body
from app.api.edge.auth import EXPERIMENT, client_of
from app.api.edge.routing import Route, Shortcut
from app.api.routes import participation
from app.api.routes.participation import gone
from app.service.coordinator import Coordinator
from serverless_fl.domain.records import Client
from serverless_fl.wire import schema, turns
from serverless_fl.wire.bounds import MAX_PARTS, MAX_ROUNDS

NUMBER = re.compile(r"[1-9][0-9]{0,5}|0")  # FastAPI accepts other forms of a number too
_TOKEN = re.compile(rb"Bearer ([0-9A-Za-z._~+/=-]+)")  # RFC 6750, section 2.1
_HOLD_QUERY = re.compile(rb"wait=([0-9]{1,2})&round=([0-9]{1,6})")  # as the SDK sends it
_FACTS_QUERY = re.compile(
    rb"sha256=([0-9a-f]{64})&num_examples=([1-9][0-9]{0,9})(?:&metrics=([!-%'-*,-~]{1,8000}))?"
)
_SHA256_QUERY = re.compile(rb"sha256=([0-9a-f]{64})")


class Call:
    """A request, of which a handler reads as much as it needs."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.path: dict[str, str] = scope["path_params"]
        self.query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.service: Coordinator = scope["app"].state.coordinator
        self._receive = receive
        self._read: list[Message] = []

    async def client(self) -> Client | None:
        """The calling client; None if its token or the path has another form.

        Raises Unauthenticated.
        """
        token = _TOKEN.fullmatch(self.headers.get(b"authorization", b""))
        if token is None or not EXPERIMENT.fullmatch(self.path["experiment_id"]):
            return None
        secret = token[1].decode()
        return await client_of(self.scope, self.service, self.path["experiment_id"], secret)

    def number(self, name: str, least: int, most: int) -> int | None:
        """A number of the path within these bounds; None if it has another form."""
        text = self.path[name]
        return number if NUMBER.fullmatch(text) and least <= (number := int(text)) <= most else None

    async def part(self) -> bytes | None:
        """As `body`, for a part. Raises Busy if the caller sends too many parts at once."""
        with self.scope["app"].state.reading.one(self.scope):
            return await self.body()

    async def body(self) -> bytes | None:
        """The whole body; None if the caller is gone."""
        while not self._read or self._read[-1].get("more_body", False):
            self._read.append(await self._receive())
            if self._read[-1]["type"] != "http.request":
                return None
        return b"".join(message.get("body", b"") for message in self._read)

    async def gone(self) -> None:
        """Return when the caller has hung up. The rest of its body is dropped."""
        await gone(self._receive)

    async def again(self) -> Message:
        """`receive` for FastAPI's way: it gets the messages that were read here first."""
        return self._read.pop(0) if self._read else await self._receive()


Handler = Callable[[Call], Awaitable[BaseModel | None]]


async def _status(call: Call) -> turns.Train | turns.Wait | turns.Phase | turns.Done | None:
    wait, known = 0.0, None
    if call.query:
        asked = _HOLD_QUERY.fullmatch(call.query)
        if asked is None or (wait := float(asked[1])) > turns.MAX_HOLD:
            return None
        known = int(asked[2])
    client = await call.client()
    if client is None:
        return None
    return turn_body(await call.service.turns.status(client, wait, known, call.gone))


async def _put_part(call: Call) -> schema.PartReceipt | None:
    number = call.number("number", 1, MAX_ROUNDS)
    part = call.number("part", 0, MAX_PARTS - 1)
    digest = _SHA256_QUERY.fullmatch(call.query)
    if number is None or part is None or digest is None or b"content-encoding" in call.headers:
        return None
    client = await call.client()
    data = None if client is None else await call.part()
    if client is None or data is None:
        return None
    sha256 = digest[1].decode()
    await call.service.updates.store_part(client, number, part, sha256, data)
    return schema.PartReceipt(number=part, sha256=sha256, size=len(data))


async def _put_update(call: Call) -> schema.UpdateReceipt | None:
    number = call.number("number", 1, MAX_ROUNDS)
    if number is None or b"content-encoding" in call.headers:
        return None
    facts = _FACTS_QUERY.fullmatch(call.query)
    client = None if facts is None else await call.client()
    data = None if client is None else await call.part()
    if facts is None or client is None or data is None:
        return None
    said = dict(zip(("sha256", "num_examples", "metrics"), facts.groups(b"{}"), strict=True))
    said["metrics"] = unquote_to_bytes(said["metrics"])
    try:
        known = schema.UpdateFacts.model_validate_strings(
            {name: value.decode() for name, value in said.items()}
        )
    except ValueError:
        return None
    update = await call.service.updates.commit(client, number, commit_of_facts(known), data)
    return receipt_body(update)


async def _commit(call: Call) -> schema.UpdateReceipt | None:
    number = call.number("number", 1, MAX_ROUNDS)
    if number is None or call.query or call.headers.get(b"content-type") != b"application/json":
        return None
    client = await call.client()
    data = None if client is None else await call.body()
    if client is None or data is None:
        return None
    try:
        commit = schema.UpdateCommit.model_validate_json(data)
    except ValueError:
        return None
    return receipt_body(await call.service.updates.commit(client, number, commit_of(commit)))


HANDLERS: dict[Callable[..., object], Handler] = {  # by the routes' functions
    participation.get_status: _status,
    participation.put_update_part: _put_part,
    participation.put_update: _put_update,
    participation.commit_update: _commit,
}


def install(app: FastAPI) -> None:
    """Make the four routes try their short handlers first."""
    for route in app.router.routes:
        if isinstance(route, Route) and (handler := HANDLERS.get(route.endpoint)):
            route.shortcut = _shortcut(handler)


def _shortcut(handler: Handler) -> Shortcut:
    async def shortcut(scope: Scope, receive: Receive, send: Send) -> Receive | None:
        call = Call(scope, receive)
        answer = await handler(call)
        if answer is None:
            return call.again
        await _send_json(answer, send)
        return None

    return shortcut


async def _send_json(answer: BaseModel, send: Send) -> None:
    """Answer 200 with this body."""
    body = answer.__pydantic_serializer__.to_json(answer)
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

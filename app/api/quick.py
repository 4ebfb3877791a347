"""The way of what nearly all requests are: polls, and the parts and commits of updates.

Each of their routes has a second handler, which is tried first. It takes only what is well-formed
to the letter and answers with the bytes of the model. Whatever it does not take (None) goes
FastAPI's own way, through the declaration that the OpenAPI document shows: there it is understood,
or told what is wrong with it. What the service raises is answered by the one table of errors,
either way.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from app.api.auth import EXPERIMENT, client_of
from app.domain.records import Client
from app.service import Coordinator

NUMBER = re.compile(r"[1-9][0-9]{0,5}|0")  # without what else FastAPI takes for a number
_TOKEN = re.compile(rb"Bearer ([0-9A-Za-z._~+/=-]+)")  # RFC 6750, section 2.1


class Call:
    """A request, read as far as a handler asks for it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.path: dict[str, str] = scope["path_params"]
        self.query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.service: Coordinator = scope["app"].state.coordinator
        self._receive = receive
        self._read: list[Message] = []

    async def client(self) -> Client | None:
        """Who calls, None where that is not well-formed. Raises as `app.api.auth.client`."""
        token = _TOKEN.fullmatch(self.headers.get(b"authorization", b""))
        if token is None or not EXPERIMENT.fullmatch(self.path["experiment_id"]):
            return None
        secret = token[1].decode()
        return await client_of(self.scope, self.service, self.path["experiment_id"], secret)

    def number(self, name: str, least: int, most: int) -> int | None:
        """A number of the path, within these bounds."""
        text = self.path[name]
        return number if NUMBER.fullmatch(text) and least <= (number := int(text)) <= most else None

    async def part(self) -> bytes | None:
        """As `body`, of a part. Raises Busy where the caller sends too many of them at once."""
        with self.scope["app"].state.reading.one(self.scope):
            return await self.body()

    async def body(self) -> bytes | None:
        """All of it; None where the caller is gone."""
        while not self._read or self._read[-1].get("more_body", False):
            self._read.append(await self._receive())
            if self._read[-1]["type"] != "http.request":
                return None
        return b"".join(message.get("body", b"") for message in self._read)

    async def gone(self) -> None:
        """Until the caller has hung up. What it still sends of a body is dropped."""
        await gone(self._receive)

    async def again(self) -> Message:
        """`receive`, for who starts anew: first what was read here."""
        return self._read.pop(0) if self._read else await self._receive()


async def gone(receive: Receive) -> None:
    """Until the caller has hung up, or has its answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


Handler = Callable[[Call], Awaitable[BaseModel | None]]


async def send_json(answer: BaseModel, send: Send) -> None:
    """A 200 with this body."""
    body = answer.__pydantic_serializer__.to_json(answer)
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

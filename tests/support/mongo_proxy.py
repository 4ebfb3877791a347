"""A proxy before a MongoDB that hears its commands, changes its answers, and can fall silent."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import bson

OP_MSG = 2013  # https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
_HEADER = struct.Struct("<iiii")  # length, request id, the request that this answers, opcode
Answer = dict[str, Any]


class MongoProxy:
    """Between a client and a server. `url` leads to it."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self.commands: list[dict[str, Any]] = []  # as they were sent, without their documents
        self.url = ""
        self.quiet()

    def quiet(self) -> None:
        """Let everything through again."""
        self.hear: Callable[[dict[str, Any]], None] = lambda command: None  # before it is sent on
        self.change: Callable[[str, Answer], Answer] = lambda name, answer: answer
        self.silent = False  # takes connections and requests, and answers nothing
        self.away = False  # refuses connections, as near as an open port can

    def cut(self) -> None:
        """End every connection."""
        for writer in self._open:
            writer.transport.abort()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[MongoProxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
        try:
            yield self
        finally:
            server.close()
            self.cut()
            if self._serving:
                await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        there, back = await asyncio.open_connection(*self._target)
        self._open.add(writer)
        names: dict[int, str] = {}  # of commands, by their request

        async def forward() -> None:
            while True:
                header, body = await _message(reader)
                if header[3] == OP_MSG:
                    command = _body_of(body)
                    names[header[1]] = next(iter(command))
                    self.commands.append(command)
                    self.hear(command)
                    if self.away:
                        return
                back.write(_HEADER.pack(*header) + body)

        async def answer() -> None:
            while True:
                header, body = await _message(there)
                if self.silent:
                    continue
                name = names.pop(header[2], "")
                if header[3] == OP_MSG and name:
                    changed = bson.encode(self.change(name, _body_of(body)))
                    body = body[:5] + changed
                    header = (_HEADER.size + len(body), *header[1:])
                writer.write(_HEADER.pack(*header) + body)

        tasks = [asyncio.ensure_future(forward()), asyncio.ensure_future(answer())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._open.discard(writer)
            writer.close()
            back.close()


async def _message(reader: asyncio.StreamReader) -> tuple[tuple[int, int, int, int], bytes]:
    header = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    return header, await reader.readexactly(header[0] - _HEADER.size)


def _body_of(message: bytes) -> dict[str, Any]:
    """The section that holds the command or the answer: it comes first, after the flags."""
    assert message[4] == 0
    (size,) = struct.unpack_from("<i", message, 5)
    return dict(bson.decode(message[5 : 5 + size]))

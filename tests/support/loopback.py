"""A server of bytes on the loopback, for what a real one seldom does."""

import asyncio
import contextlib
import re

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers on the loopback as `answer(server, reader, writer, head)` does; None hangs up."""

    def __init__(self, answer, tls=None):
        self.answer, self.tls = answer, tls
        self.heads, self.bodies, self.tasks = [], [], set()
        self.opened, self.gone = 0, asyncio.Event()

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        port = self.listener.sockets[0].getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        self.opened += 1
        number = self.opened
        # A caller that goes away, or the test's end, is no fault of the server.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self.answer(self, number, reader, writer)
                await writer.drain()
        self.gone.set()
        writer.close()
        self.tasks.discard(task)


async def take(server, reader):
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", server.heads[-1])
    server.bodies.append(await reader.readexactly(int(length[1])) if length else b"")


async def well(server, number, reader, writer):
    await take(server, reader)
    writer.write(OK)


def saying(answer):
    async def say(server, number, reader, writer):
        writer.write(answer)
        await writer.drain()
        raise ConnectionResetError  # hang up

    return say


async def silent(server, number, reader, writer):
    if await reader.read(1) == b"":
        raise ConnectionResetError
    await asyncio.sleep(60)

"""A helper over TCP, in a thread of this process: its real application over a store of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.responses import PlainTextResponse

from app.config import Settings
from app.main import create_app
from tests.support.helped import KEY


class HelperServer:
    """The application; while it is `away`, it answers as a gateway does that finds nobody."""

    def __init__(self, folder: Path) -> None:
        self.app = create_app(Settings(role="helper", admin_key=KEY, data_dir=folder))
        self.away, self.url = False, ""

    async def __call__(self, scope, receive, send):
        if self.away and scope["type"] == "http":
            await PlainTextResponse("nobody is there", 502)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    @property
    def settings(self) -> dict[str, str]:
        """What its coordinator has in its environment."""
        return {"FL_HELPER_URL": self.url, "FL_HELPER_KEY": KEY}

    def fingerprint(self) -> str:
        return httpx.get(f"{self.url}/v1/helper", trust_env=False).json()["key"]


@contextmanager
def serving_helper(folder: Path) -> Iterator[HelperServer]:
    helper = HelperServer(folder)
    server = uvicorn.Server(uvicorn.Config(helper, log_config=None, ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:  # callers wait until it serves
        helper.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield helper
        server.should_exit = True
        thread.join()

"""Webhooks over HTTP, signed as https://www.standardwebhooks.com says.

The addresses come from the operator alone: no caller of the API can name one. A redirect is not
followed, and nobody but the log is told what an address answers, so a webhook is no way into the
operator's network.
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from serverless_fl.domain.signed_messages import sign

SECONDS = 5.0  # for an answer; a receiver that has more to do first answers, and then does it
_ANSWER_BYTES = 4096  # that are read, so that the receiver can finish


class HttpWebhooks:
    """`app.store.port.Webhooks` over HTTP or HTTPS. `secret` signs every message."""

    def __init__(
        self, urls: Sequence[str], secret: bytes, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.urls = tuple(urls)
        self._secret = secret
        self._clock = clock
        self._threads = ThreadPoolExecutor(max(1, len(self.urls)), thread_name_prefix="webhooks")

    async def post(self, url: str, notice: str, body: bytes) -> str:
        """Send a message; give the reason if it was not taken, else an empty text."""
        sending = asyncio.get_running_loop().run_in_executor(
            self._threads, self._post, url, notice, body
        )
        try:
            status = await asyncio.wait_for(sending, SECONDS)
        except TimeoutError:
            return f"no answer within {SECONDS:g} seconds"
        except (OSError, http.client.HTTPException, ValueError) as error:
            return type(error).__name__  # its text may hold what the address answered
        return "" if 200 <= status < 300 else f"status {status}"

    def _post(self, url: str, notice: str, body: bytes) -> int:
        parts = urlsplit(url)
        assert parts.hostname is not None  # noqa: S101  (app.config has checked it)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=SECONDS, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("POST", path, body, self._headers(notice, body))
            answer = connection.getresponse()
            answer.read(_ANSWER_BYTES)
            return answer.status
        finally:
            connection.close()

    def _headers(self, notice: str, body: bytes) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "User-Agent": "serverless-fl",
            **sign(self._secret, notice, body, self._clock()),
        }

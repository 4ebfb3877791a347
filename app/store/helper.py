"""The helper over HTTP: another operator's coordinator in the role `helper`.

The address and the key come from the operator alone. A redirect is not followed, and what is read
of an answer is bounded.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from app.store.port import Body
from serverless_fl.domain.errors import HelperRefused, HelperUnavailable

# For an answer. A helper on a serverless platform may have to start first. Together with the time
# for aggregation in a call (FL_STEP_SECONDS) it must fit into a call of Lambda.
SECONDS = 10.0
_ANSWER_BYTES = 16 * 1024**2
_REASON_CHARACTERS = 600
_CALLS = 4  # at once
_REFUSALS = (409, 422)


class HttpHelper:
    """`app.store.port.Helper` over HTTP or HTTPS. `key` is the key that the helper asks for."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = urlsplit(url), key
        self._threads = ThreadPoolExecutor(_CALLS, thread_name_prefix="helper")

    async def about(self) -> Body:
        """Raises HelperUnavailable."""
        return _json(await self._call("GET", "/v1/helper"))

    async def words(self, asked: Body) -> bytes:
        """Raises HelperUnavailable, HelperRefused."""
        return await self._call("POST", "/v1/helper/words", json.dumps(asked).encode())

    async def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            status, data = await self._exchange(method, path, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            what = str(error) or type(error).__name__
            raise HelperUnavailable(f"The helper did not answer: {what}.") from error
        if status in _REFUSALS:
            raise HelperRefused(_reason(data))
        if status != http.client.OK:
            raise HelperUnavailable(f"The helper answered with status {status}: {_reason(data)}")
        return data

    async def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Send a request; give the status and the body of the answer."""
        calling = asyncio.get_running_loop().run_in_executor(
            self._threads, self._answer, method, path, body
        )
        return await asyncio.wait_for(calling, SECONDS)

    def _answer(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        host, port = self._url.hostname, self._url.port
        assert host is not None  # noqa: S101  (app.config has checked it)
        connection: http.client.HTTPConnection
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        headers = {"Authorization": f"Bearer {self._key}", "User-Agent": "serverless-fl"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self._url.path.rstrip("/") + path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_ANSWER_BYTES)
        finally:
            connection.close()


def _json(data: bytes) -> Body:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise HelperUnavailable("The helper's answer is no JSON.") from error
    if not isinstance(found, dict):
        raise HelperUnavailable("The helper's answer is no object.")
    return found


def _reason(data: bytes) -> str:
    """The sentence of a problem, shortened, in printable characters."""
    try:
        found = json.loads(data)
        text = str(found["detail"])
    except (ValueError, KeyError, TypeError):
        text = "it gave no reason."
    return "".join(c for c in text[:_REASON_CHARACTERS] if c.isprintable())

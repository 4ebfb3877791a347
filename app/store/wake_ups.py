"""Wakes clients up over HTTP, or by a topic of SNS, where the operator's rules allow it.

Clients name the addresses, so this must be no way into the operator's network. A name is resolved
once, and the call goes to the very IP address that was checked. A redirect is not followed. Nobody
is told what an address answers.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from serverless_fl.domain.signed_messages import sign
from serverless_fl.domain.wake_ups import WakeRules, is_topic

CONNECT_SECONDS = 3.0  # to connect, and again to encrypt
ANSWER_SECONDS = 2.0  # for an answer
SECONDS = 8.0  # for all, with the resolving of the name
_ANSWER_BYTES = 4096  # that are read
_CALLS = 16  # at once
_TAKEN = range(200, 300)


class _NotAllowed(Exception):
    """The name leads to addresses that the rules do not allow."""


class CheckedWakeUps:
    """`app.store.port.WakeUps` over HTTP, HTTPS and SNS."""

    def __init__(self, rules: WakeRules, *, clock: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._clock = clock
        self._threads = ThreadPoolExecutor(_CALLS, thread_name_prefix="wake-ups")

    def rule_for(self, address: str) -> str | None:
        """Give the operator's rule that allows an address; None if none does."""
        return self._rules.rule_for(address)

    async def call(self, address: str, key: bytes, message: str, body: bytes) -> str:
        """Send a message; give the reason if it did not arrive, else an empty text."""
        if self.rule_for(address) is None:  # the operator's rules have changed
            return "not allowed"
        way = self._publish if is_topic(address) else self._post
        headers = sign(key, message, body, self._clock())
        calling = asyncio.get_running_loop().run_in_executor(
            self._threads, way, address, headers, body
        )
        try:
            return await asyncio.wait_for(calling, SECONDS)
        except TimeoutError:
            return f"no connection within {SECONDS:g} seconds"
        except _NotAllowed:
            return "its name leads to an address that is not allowed"
        except (OSError, http.client.HTTPException, ValueError) as error:
            return type(error).__name__  # its text may hold what the address answered

    def _post(self, address: str, signed: dict[str, str], body: bytes) -> str:
        """Send a request. No answer in time is none of the reasons: a function works first."""
        parts = urlsplit(address)
        host, is_encrypted = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if is_encrypted else 80)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = self._connected(host, port, is_encrypted)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Content-Type": "application/json", "User-Agent": "serverless-fl", **signed}
        headers["Host"] = parts.netloc
        try:
            connection.request("POST", path, body, headers)
            connection.sock.settimeout(ANSWER_SECONDS)
            try:
                answer = connection.getresponse()
                answer.read(_ANSWER_BYTES)
            except TimeoutError:
                return ""
            return "" if answer.status in _TAKEN else f"status {answer.status}"
        finally:
            connection.close()

    def _connected(self, host: str, port: int, is_encrypted: bool) -> socket.socket:
        """A connection to an address that the rules allow, of those that the name leads to.

        Raises OSError, _NotAllowed.
        """
        found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        allowed = [
            number for number in found if self._rules.may_connect(number, encrypted=is_encrypted)
        ]
        if not allowed:
            raise _NotAllowed
        plain = socket.create_connection((allowed[0], port), CONNECT_SECONDS)
        if not is_encrypted:
            return plain
        try:
            return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _publish(self, topic: str, signed: dict[str, str], body: bytes) -> str:
        # Imported here: it takes a quarter of a second, and few coordinators need it.
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            return "boto3 is missing"
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"total_max_attempts": 1},
        )
        attributes = {
            name: {"DataType": "String", "StringValue": value} for name, value in signed.items()
        }
        try:
            client = boto3.client("sns", region_name=topic.split(":")[3], config=config)
            client.publish(TopicArn=topic, Message=body.decode(), MessageAttributes=attributes)
        except ClientError as error:
            return f"SNS answers {error.response.get('Error', {}).get('Code', 'no code')}"
        except BotoCoreError as error:
            return type(error).__name__
        return ""

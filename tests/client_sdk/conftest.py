"""Connections over either transport: ours, and httpx's own, whose promises ours has to keep."""

import httpx
import pytest

from client_sdk import transport
from client_sdk.connection import Connection, Retry


@pytest.fixture(params=["ours", "httpx"])
def way(request):
    """Makes a transport; that of httpx has to pass the same tests."""
    if request.param == "ours":
        return lambda tls: transport.Transport(64, tls)
    return lambda tls: httpx.AsyncHTTPTransport(verify=tls)


@pytest.fixture
def caller(way):
    """Makes connections to a server of these tests."""

    def make(server, tls=None, **options):
        tls = tls or httpx.create_ssl_context(trust_env=False)
        options = {"retry": Retry(give_up_after=0), "timeout": 5.0, **options}
        return Connection(server.url, "key", transport=way(tls), **options)

    return make

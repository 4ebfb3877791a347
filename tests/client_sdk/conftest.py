"""Connections to servers of the tests' own."""

import httpx
import pytest

from client_sdk.api import connection, transport
from client_sdk.api.connection import Connection, Retry


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch):
    """A connection that is tried once gets its time on a busy machine, too."""
    monkeypatch.setattr(connection, "LEAST_CONNECT_SECONDS", 30.0)


@pytest.fixture
def caller():
    """Makes connections to a server of these tests."""

    def make(server, tls=None, **options):
        tls = tls or httpx.create_ssl_context(trust_env=False)
        options = {"retry": Retry(give_up_after=0), "timeout": 5.0, **options}
        return Connection(server.url, "key", transport=transport.Transport(64, tls), **options)

    return make


@pytest.fixture(scope="module")
def one_thread():
    """Small networks gain nothing from a second thread, and wait for it on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

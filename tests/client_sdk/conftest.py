"""Connections to servers of the tests' own."""

import httpx
import pytest

from client_sdk.api import transport
from client_sdk.api.connection import Connection, Retry


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

"""A coordinator and a browser that the tests of a file share."""

from __future__ import annotations

import pytest

from tests.support.browser import CHROMIUM, Watched, chromium
from tests.support.digits import untrained
from tests.support.processes import Server


@pytest.fixture
def new_server(tmp_path):
    """A coordinator that has no experiment yet, whatever tests came before."""
    with Server(FL_DATA_DIR=str(tmp_path / "coordinator")) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """Opens pages by their context's options; at the end none of them may have had a fault."""
    contexts, opened = [], []

    def open_(**options) -> Watched:
        contexts.append(browser.new_context(**options))
        opened.append(Watched(contexts[-1]))
        return opened[-1]

    yield open_
    for context in contexts:
        context.close()
    assert [w.faults for w in opened if w.faults] == []


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory):
    """Untrained weights for the digits, as a file that one would upload."""
    data, examples = untrained()
    path = tmp_path_factory.mktemp("model") / "initial.safetensors"
    path.write_bytes(data)
    return path, examples

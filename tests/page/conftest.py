"""A coordinator and a browser that the tests of a file share."""

from __future__ import annotations

import pytest

from tests.support.browser import CHROMIUM, Watched, chromium
from tests.support.digits import untrained
from tests.support.processes import Server

BRISK = """
from app.api.routes import events
events.CHECK_SECONDS = 0.1
from app.__main__ import main
main()
"""


class Brisk(Server):
    """It tells a page of what is new ten times a second, and not once."""

    program = ("-c", BRISK)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A coordinator that the tests of a file share."""
    with Brisk(FL_DATA_DIR=str(tmp_path_factory.mktemp("coordinator"))) as server:
        yield server


@pytest.fixture
def new_server(tmp_path):
    """A coordinator that has no experiment yet, whatever tests came before."""
    with Brisk(FL_DATA_DIR=str(tmp_path / "coordinator")) as server:
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


@pytest.fixture(scope="module")
def modules(browser, server):
    """Calls a function of JavaScript with `load(file)`, which gives a module of the page.

    The page stays for the tests of a file that look at what its modules compute, and not at it.
    """
    context = browser.new_context()
    watched = Watched(context)
    watched.page.goto(server.url)

    def call(function: str, *arguments):
        return watched.page.evaluate(
            f"""async (given) => {{
                const main = document.querySelector("script[type=module]").src;
                const load = (file) => import(new URL(file, main));
                return await ({function})(load, ...given);
            }}""",
            list(arguments),
        )

    yield call
    context.close()
    assert watched.faults == []


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory):
    """Untrained weights for the digits, as a file that one would upload."""
    data, examples = untrained()
    path = tmp_path_factory.mktemp("model") / "initial.safetensors"
    path.write_bytes(data)
    return path, examples

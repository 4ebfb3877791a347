"""A task that a user wrote, from the form of the page to its last round."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from client_sdk.simulation.simulate import initial_model
from client_sdk.task.task import fingerprint
from tests.support import toy
from tests.support.browser import give_key, recipe
from tests.support.processes import run


@pytest.mark.timeout(400)
def test_a_users_task_is_created_in_the_page_and_joined(new_server, open_page, tmp_path):
    path = tmp_path / "initial.safetensors"
    path.write_bytes(initial_model(toy.Line(), 0))
    page = open_page().page
    page.goto(new_server.url)
    give_key(page)
    page.get_by_role("link", name="New experiment").click()
    page.get_by_label("initial weights").set_input_files(path)
    expect(page.get_by_label("model", exact=True)).to_have_value("line")  # the file says so
    settings = {"name": "a line", "dataset": "points", "dataset size": 40, "clients": 1}
    for label, value in (settings | {"clients per round": 1, "rounds": 2}).items():
        page.get_by_label(label, exact=True).fill(str(value))
    page.get_by_role("button", name="Create experiment").click()
    expect(page.get_by_role("heading", name="a line")).to_be_visible()
    settings = page.get_by_role("region", name="Strategy and settings")
    expect(settings.locator("dd").first).to_have_text("line")
    expect(settings.locator("code")).to_have_attribute("title", fingerprint(toy.Line()))
    key, words = recipe(page)
    done = run(
        *words,
        *("--task", "tests.support.toy:Line", "--dataset", "tests.support.toy:POINTS"),
        *("--key-file", str(tmp_path / "key")),
        FL_ENROL_KEY=key,
    )
    assert done.returncode == 0, done.stderr
    expect(page.locator(".sentence", has_text="Completed: All 2 rounds are closed.")).to_be_visible(
        timeout=60_000
    )
    # A line takes no drawing: the page names the command instead of a canvas.
    tried = page.get_by_role("region", name="Try the model")
    expect(tried).to_contain_text("For line, download a model below")
    expect(tried.get_by_role("button")).to_have_count(0)

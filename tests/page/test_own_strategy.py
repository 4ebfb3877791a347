"""A strategy that somebody added to the packages, from the page's form to the last round."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.test_add_a_strategy import add_halfway
from tests.e2e.test_extending import copy  # noqa: F401  (a fixture)
from tests.support.browser import give_key, recipe
from tests.support.processes import Server, run


@pytest.mark.timeout(400)
def test_it_is_chosen_with_its_setting_in_the_page(copy, open_page, monkeypatch):  # noqa: F811
    folder, _ = copy
    add_halfway(folder)
    monkeypatch.chdir(folder)  # the coordinator and the client are those of the copy
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with Server(FL_DATA_DIR=str(folder / "coordinator")) as server:
        page = open_page().page
        page.goto(f"{server.url}/#/new")
        give_key(page)
        page.get_by_label("what is learnt").select_option("digits")
        page.get_by_label("clients", exact=True).fill("1")
        page.get_by_label("local epochs").fill("1")
        page.get_by_label("rounds", exact=True).fill("2")
        page.get_by_text("More settings").click()
        page.get_by_label("strategy", exact=True).select_option("halfway")
        page.get_by_label("share", exact=True).fill("0.25")
        page.get_by_role("button", name="Create experiment").click()
        key, words = recipe(page)
        done = run(*words, "--key-file", str(folder / "key"), FL_ENROL_KEY=key)
        assert done.returncode == 0, done.stderr
        expect(page.locator(".sentence", has_text="Completed")).to_be_visible(timeout=60_000)
        experiment = page.evaluate("location.hash.split('/').at(-1)")
        with server.as_admin() as http:
            made = http.get(f"/experiments/{experiment}").raise_for_status().json()
            models = http.get(f"/experiments/{experiment}/models").raise_for_status().json()
        assert made["config"]["strategy"] == {"name": "halfway", "share": 0.25}
        assert "moved" in str(models)  # the state of its own, beside each model

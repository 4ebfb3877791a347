"""The form of a new experiment has what the API's schema describes, and nothing else."""

from __future__ import annotations

import httpx
from playwright.sync_api import expect

from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUP_KEY, settings_of
from tests.support.browser import axe, give_key

TOY = {
    "type": "integer",
    "minimum": 1,
    "default": 3,
    "description": "A toy of this test",
    GROUP_KEY: "encoding",
}


def test_each_setting_is_a_field_with_its_words(server, open_page):
    described = httpx.get(f"{server.url}/openapi.json", timeout=60, trust_env=False).json()
    described["components"]["schemas"]["ExperimentConfig"]["properties"]["toy"] = TOY
    page = open_page().page
    page.route("**/openapi.json", lambda route: route.fulfill(json=described))
    page.goto(f"{server.url}/#/new")
    give_key(page)
    page.get_by_text("More settings").click()
    known = settings_of(ExperimentConfig)
    for name, setting in known.items():
        help_text = page.locator(f"#f-{name}-help")
        if setting.choice and known[setting.choice].default not in setting.taken_by:
            expect(help_text).to_have_count(0)  # it belongs to an alternative that is not chosen
        else:
            expect(help_text).to_have_text(setting.description)
    encoding = page.get_by_role("group", name="encoding")
    expect(encoding.get_by_label("toy", exact=True)).to_have_value("3")
    expect(encoding).to_contain_text("A toy of this test")
    expect(encoding.get_by_label("update encoding")).to_have_value("weights")
    assert axe(page) == []

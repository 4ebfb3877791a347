"""The form of a new experiment asks for the settings of the chosen alternative, and of no other."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect
from pydantic.json_schema import models_json_schema

from tests.support.browser import axe, give_key
from tests.support.choices import WithToys


@pytest.fixture
def form(server, open_page, digits_model):
    """The form, as a coordinator that knows the toys describes it, and what it has sent."""
    described = httpx.get(f"{server.url}/openapi.json", timeout=60, trust_env=False).json()
    schemas = described["components"]["schemas"]
    template = "#/components/schemas/{model}"
    _, toys = models_json_schema([(WithToys, "validation")], ref_template=template)
    schemas |= toys["$defs"]
    schemas["ExperimentConfig"] = schemas["WithToys"]
    page, sent = open_page().page, []
    page.route("**/openapi.json", lambda route: route.fulfill(json=described))

    def refuse(route):
        sent.append(route.request.post_data_json["config"])
        where = "body.config.strategy.toy_rate"
        problem = {"detail": "no", "errors": [{"where": where, "what": "too much"}]}
        route.fulfill(status=422, json=problem, content_type="application/problem+json")

    page.route("**/v1/experiments", refuse)
    page.goto(f"{server.url}/#/new")
    give_key(page)
    page.locator("#f-file").set_input_files(digits_model[0])
    page.get_by_text("More settings").click()
    return page, sent


def test_the_fields_of_the_chosen_strategy(form):
    page, sent = form
    strategy = page.get_by_label("strategy", exact=True)
    expect(strategy).to_have_value("fedavg")
    expect(page.get_by_role("group", name="fedavg")).to_contain_text("The mean of the clients'")
    expect(page.get_by_label("toy rate")).to_have_count(0)

    strategy.select_option("toy")
    expect(page.get_by_label("toy rate")).to_have_value("0.5")
    expect(page.get_by_role("group", name="toy")).to_contain_text("A toy that takes two settings.")
    strategy.select_option("other")
    expect(page.get_by_label("toy steps")).to_have_count(0)
    expect(page.get_by_label("toy word")).to_have_value("")
    expect(page.get_by_label("toy rate")).to_have_value("0.25")
    assert axe(page) == []

    page.get_by_label("toy rate").fill("4")
    page.get_by_label("dataset size").fill("100")
    page.get_by_role("button", name="Create experiment").click()
    expect(page.locator("#f-toy_rate-fault")).to_have_text("too much")
    expect(page.get_by_label("toy rate")).to_be_focused()
    assert sent[0]["strategy"] == {"name": "other", "toy_rate": 4}


def test_a_chosen_strategy_is_shown_with_its_settings(server, open_page):
    page = open_page().page
    page.goto(server.url)
    shown = page.evaluate("""async () => {
        const script = document.querySelector("script[type=module]").src;
        const { configSection } = await import(new URL("config.js", script));
        const section = configSection();
        section.update({ config: { strategy: { name: "toy", toy_rate: 0.5, toy_steps: 2000 } } });
        return section.node.querySelector("dd").textContent;
    }""")
    assert shown == "toy, toy rate 0.5, toy steps 2,000"

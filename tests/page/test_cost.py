"""The estimated cost and the budget in the page, in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.support.browser import PHONE, axe, give_key, no_sideways_scroll
from tests.support.played import begin, finish_round
from tests.support.processes import wait_for

SPENT = 1e-9  # US dollars


def test_it_pauses_at_its_budget_and_goes_on_with_a_higher_one(server, http, open_page):
    experiment, members = begin(http, "thrifty", budget_usd=SPENT)
    page = open_page(**PHONE).page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    cost = page.locator("section:has(h2:text-is('Estimated cost on Lambda'))")
    expect(cost).to_contain_text("of a budget of $1e-9, at which it pauses.")
    expect(page.get_by_role("button", name="Resume …")).to_have_count(0)
    give_key(page)
    finish_round(http, experiment, members, 1)
    # Without a reload: the page follows.
    expect(page.locator(".badge.paused")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text(
        re.compile(r"Paused after round 1 of 3: The estimated cost on Lambda, .* has reached")
    )
    expect(cost.get_by_role("progressbar", name="Budget spent")).to_have_js_property("value", 1)
    expect(cost.locator(".chart")).to_contain_text("Round 1 (newest)")
    expect(cost.locator(".legend b")).to_have_text(re.compile(r"^\$0\.0000\d+$"))
    expect(page.locator(".tiles")).to_contain_text("of $1e-9; an estimate")
    expect(page.get_by_role("group", name="Audit log")).to_contain_text("experiment paused")
    assert (axe(page), no_sideways_scroll(page)) == ([], True)

    page.get_by_role("button", name="Resume …").click()
    assert axe(page) == []
    page.get_by_role("button", name="Resume it").click()
    expect(page.get_by_role("alert").last).to_contain_text("Resume it with a higher budget_usd")
    page.get_by_label("budget in US dollars").fill("2.5")
    page.get_by_role("button", name="Resume it").click()
    expect(page.get_by_role("status").first).to_contain_text("Round 2 of 3")
    expect(cost).to_contain_text("of a budget of $2.50")
    assert http.get(f"/experiments/{experiment}").json()["config"]["budget_usd"] == 2.5
    expect(page.get_by_role("group", name="Audit log")).to_contain_text("To 2.50 USD")


def test_the_admin_pauses_and_resumes_by_hand(server, http, open_page):
    experiment, members = begin(http, "by hand")
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    cost = page.locator("section:has(h2:text-is('Estimated cost on Lambda'))")
    expect(cost).to_contain_text("so far. There is no budget.")
    expect(cost.get_by_role("progressbar")).to_have_count(0)
    expect(page.get_by_role("button", name="Pause …")).to_have_count(0)  # without the key
    give_key(page)
    page.get_by_role("button", name="Pause …").click()
    page.get_by_role("button", name="Let it run").click()
    assert http.get(f"/experiments/{experiment}").json()["pausing"] is False
    page.get_by_role("button", name="Pause …").click()
    page.get_by_role("button", name="Pause it").click()
    expect(page.get_by_role("status").first).to_contain_text("It pauses after this round.")
    finish_round(http, experiment, members, 1)
    expect(page.get_by_role("status").first).to_contain_text("Paused by the admin.")
    expect(page.get_by_role("heading", name="Last round")).to_be_visible()
    page.goto(server.url)
    expect(page.locator("tr", has_text="by hand").locator(".badge.paused")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Resume …").click()
    page.get_by_role("button", name="Resume it").click()
    expect(page.get_by_role("status").first).to_contain_text("Round 2 of 3")
    finish_round(http, experiment, members, 2)
    finish_round(http, experiment, members, 3)
    expect(page.get_by_role("status").first).to_contain_text("Completed")
    shown = http.get(f"/experiments/{experiment}").json()["cost"]["usd"]
    # What the page shows is what the coordinator says, in two digits.
    figure = cost.locator("strong")
    wait_for(lambda: abs(float(figure.inner_text().removeprefix("$")) - shown) <= 0.06 * shown)


def test_the_budget_is_a_field_of_the_form(server, open_page):
    page = open_page().page
    page.goto(f"{server.url}/#/new")
    give_key(page)
    page.get_by_text("More settings").click()
    field = page.get_by_label("budget usd")
    expect(field).to_have_attribute("type", "number")
    expect(field).to_have_attribute("step", "any")


def test_long_figures_at_the_y_axis_are_not_clipped(server, open_page):
    page = open_page().page
    page.goto(server.url)
    expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
    page.evaluate(
        """async () => {
            const main = document.querySelector("script[type=module]").src;
            const { lineChart } = await import(new URL("chart.js", main));
            const format = (y) => y.toExponential();
            const chart = lineChart("Small costs", { format, bounds: [0, null] });
            document.querySelector("main").append(chart.node);
            chart.update([{ name: "cost", points: [[1, 3.056e-5], [2, 3.015e-5]] }], { last: 3 });
        }"""
    )
    figures = page.get_by_role("group", name="Small costs. Left").locator("svg text")
    expect(figures.filter(has_text="3.05e-5")).to_be_visible()
    begin = [text.evaluate("text => text.getBBox().x") for text in figures.all()]
    assert min(begin) >= 0

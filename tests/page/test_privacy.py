"""The page of an experiment with privacy: what is spent, the phases, what the coordinator sees."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from serverless_fl.privacy.secure import agreement
from tests.support.browser import PHONE, axe, give_key, no_sideways_scroll
from tests.support.plain_http import bearer
from tests.support.played import begin, finish_round

PRIVATE = {"name": "dp-fedavg", "noise_multiplier": 4.0, "clip_norm": 0.5}
MASKED = {"secure_aggregation": "pairs", "phase_seconds": 3600}


def section(page, heading):
    return page.locator(f"section:has(h2:text-is('{heading}'))")


def send_keys(http, experiment, token, attempt=1):
    keys = {
        name: agreement.public_key(agreement.new_secret()).hex() for name in ("box_key", "mask_key")
    }
    path = f"/experiments/{experiment}/rounds/1/masking/keys"
    body = {"attempt": attempt, **keys}
    http.post(path, json=body, headers=bearer(token)).raise_for_status()


def test_the_ledger_its_budget_and_its_meaning(server, http, open_page):
    """The second round would go beyond the budget, so the experiment pauses after the first."""
    experiment, members = begin(http, "private", privacy=PRIVATE, budget_epsilon=1.2)
    page = open_page(**PHONE).page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    privacy = section(page, "Privacy")
    expect(privacy).to_contain_text("nothing spent of a budget of ε 1.2, at which it pauses.")
    expect(privacy.get_by_text("Secure aggregation")).to_be_hidden()
    finish_round(http, experiment, members, 1)
    # Without a reload: the page follows.
    shown = http.get(f"/experiments/{experiment}").json()["privacy"]
    expect(privacy.locator("strong")).to_have_text(re.compile(r"^ε [01]\.\d+ at δ 0\.00001$"))
    expect(privacy).to_contain_text(shown["meaning"])
    bar = privacy.get_by_role("progressbar", name="Budget of privacy spent")
    expect(bar).to_have_js_property("value", shown["epsilon"] / 1.2)
    expect(page.locator(".tiles")).to_contain_text("Privacy")
    expect(page.locator(".badge.paused")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("above the budget of 1.2")
    give_key(page)
    page.get_by_role("button", name="Resume …").click()
    page.get_by_label("budget of privacy, as epsilon").fill("9")
    page.get_by_role("button", name="Resume it").click()
    expect(privacy).to_contain_text("of a budget of ε 9, at which it pauses.")
    assert (axe(page), no_sideways_scroll(page)) == ([], True)
    page.goto(server.url)
    expect(page.locator("tr", has_text="private")).to_contain_text("privacy: ε")


def test_the_phases_of_secure_aggregation_and_what_is_seen(server, http, open_page):
    experiment, members = begin(http, "masked", clients=3, **MASKED)
    page = open_page(**PHONE).page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    round_, settings = section(page, "Current round"), section(page, "Strategy and settings")
    expect(round_).to_contain_text("Round 1 of 3: advertising.")
    expect(round_.locator("li", has_text="awaited")).to_have_count(3)
    send_keys(http, experiment, members["client-01"])
    done = round_.locator("li", has_text="has done its part")
    expect(done).to_have_text(re.compile("client-01"))
    expect(page.get_by_role("status").first).to_contain_text("waiting for client-00, client-02")
    expect(section(page, "Privacy")).to_contain_text("the coordinator sees the sum of a round’s")
    expect(section(page, "Privacy").get_by_role("progressbar")).to_be_hidden()
    for name in ("secure aggregation", "mask words", "max weight change", "masked metrics"):
        expect(settings).to_contain_text(name)
    for client in ("client-00", "client-02"):
        send_keys(http, experiment, members[client])
    expect(round_).to_contain_text("Round 1 of 3: sharing.")
    expect(round_.locator("li", has_text="awaited")).to_have_count(3)
    assert (axe(page), no_sideways_scroll(page)) == ([], True)


def test_settings_of_secure_aggregation_are_listed_where_it_is_on(server, http, open_page):
    experiment, _ = begin(http, "plain")
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    settings = section(page, "Strategy and settings")
    expect(settings).to_contain_text("clients per round")
    for name in (
        "secure aggregation",
        "mask words",
        "max weight change",
        "masked metrics",
        "phase",
    ):
        expect(settings).not_to_contain_text(name)
    expect(section(page, "Privacy")).to_be_hidden()

"""The page of an experiment with privacy: what is spent, the phases, what the coordinator sees."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from client_sdk.api.client import CoordinatorClient
from serverless_fl.privacy.secure import agreement
from tests.page.conftest import Brisk
from tests.support.browser import PHONE, axe, give_key, no_sideways_scroll
from tests.support.helped import HELPED
from tests.support.helper_server import serving_helper
from tests.support.masked import Drifting, enrolled
from tests.support.plain_http import bearer, create
from tests.support.played import begin, finish_round
from tests.support.processes import KEY

PRIVATE = {"name": "dp-fedavg", "noise_multiplier": 4.0, "clip_norm": 0.5}
MASKED = {"secure_aggregation": "pairs", "phase_seconds": 3600}


@pytest.fixture(scope="module")
def helper(tmp_path_factory):
    with serving_helper(tmp_path_factory.mktemp("helper")) as helper:
        yield helper


@pytest.fixture(scope="module")
def server(tmp_path_factory, helper):
    """A coordinator that has a helper."""
    folder = tmp_path_factory.mktemp("coordinator")
    with Brisk(FL_DATA_DIR=str(folder), **helper.settings) as server:
        yield server


def section(page, heading):
    return page.locator(f"section:has(h2:text-is('{heading}'))")


def test_secret_cohorts_show_no_zeros_for_what_is_not_shown(server, http, open_page):
    secret = {"privacy": PRIVATE, "selection": "secret", "max_attempts": 1, "quorum": 1}
    experiment, members = begin(http, "secret", clients=3, **secret)
    finish_round(http, experiment, members, 1)
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(section(page, "Current round")).to_contain_text("Who takes part is secret")
    expect(section(page, "Estimated cost on Lambda")).to_be_hidden()
    tiles = page.locator("dl.tiles dt")
    expect(tiles.filter(has_text="Privacy")).to_be_visible()
    assert tiles.filter(has_text=re.compile("Cost|Updates received")).count() == 0
    first = section(page, "Clients").locator("tbody tr").first
    assert first.locator("td").nth(3).text_content() == "–"
    give_key(page, KEY)
    expect(section(page, "Estimated cost on Lambda")).to_be_visible()
    expect(first.locator("td").nth(3)).to_have_text("1")


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


def take_turns(url, experiment, key, slots):
    """Three participants enrol, or come back; those of these slots take a turn."""

    async def turns():
        async with CoordinatorClient(url, KEY) as admin:
            of = SimpleNamespace(admin=admin)
            clients = await enrolled(of, experiment, key, Drifting(), 3)
            for slot in slots:
                await clients[slot].turn()

    with ThreadPoolExecutor(1) as thread:  # Playwright has an event loop in this one
        thread.submit(asyncio.run, turns()).result()


def test_a_helper_that_is_awaited_and_what_is_seen(server, http, helper, open_page):
    """All updates are in, and no client is awaited: the round waits for the helper."""
    fingerprint = helper.fingerprint()
    settings = {"clients": 3, "clients_per_round": 3, "helper_key": fingerprint}
    experiment, key = create(http, "helped", **HELPED, **settings)
    take_turns(server.url, experiment, key, [1])
    page = open_page(**PHONE).page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    round_, privacy = section(page, "Current round"), section(page, "Privacy")
    expect(round_).to_contain_text("Round 1 of 2: collecting.")
    expect(round_.locator("li", has_text="in training")).to_have_count(2)
    sent = round_.locator("li", has_text="sent a masked update")
    expect(sent).to_have_text(re.compile("client-01"))
    expect(privacy).to_contain_text("the coordinator sees the sum of a round’s updates, and none")
    expect(privacy).to_contain_text("together the two could see each update")
    expect(privacy).to_contain_text(fingerprint)
    helper.away = True
    take_turns(server.url, experiment, key, [0, 2])
    expect(round_).to_contain_text("Round 1 of 2: unmasking. 3 of 3 updates")
    expect(sent).to_have_count(3)
    told = page.get_by_role("status").first
    expect(told).to_contain_text("the helper is asked for the sum of their masks")
    assert (axe(page), no_sideways_scroll(page)) == ([], True)
    helper.away = False


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

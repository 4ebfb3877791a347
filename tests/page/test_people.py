"""Who is logged in: the page says it, and shows each person what that person may use."""

from __future__ import annotations

import hashlib

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Brisk
from tests.support.browser import PHONE, axe, give_key, log_out, no_sideways_scroll
from tests.support.plain_http import bearer, create
from tests.support.processes import KEY

KEYS = {"alice": "alices-key-for-tests", "olga": "olgas-key-for-tests", "bob": "bobs-key-for-tests"}
ROLES = {"alice": "owner", "olga": "owner", "bob": "reader"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A coordinator whose operator has given three people keys."""
    entries = (
        f"{name}:{ROLES[name]}:{hashlib.sha256(key.encode()).hexdigest()}"
        for name, key in KEYS.items()
    )
    folder = tmp_path_factory.mktemp("coordinator")
    with Brisk(FL_DATA_DIR=str(folder), FL_KEYS=",".join(entries)) as server:
        yield server


@pytest.fixture(scope="module")
def experiment(server):
    """One that Alice has created."""
    with server.as_admin() as http:
        http.headers.update(bearer(KEYS["alice"]))
        return create(http, "hers")[0]


MAY = {  # actions, downloads, the enrolment key
    "nobody": (False, False),
    "olga": (False, False),
    "bob": (False, True),
    "alice": (True, True),
    "admin": (True, True),
}


@pytest.mark.parametrize("who", MAY)
def test_the_page_of_an_experiment_shows_what_one_may_do(server, experiment, open_page, who):
    page = open_page(**PHONE).page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.get_by_role("heading", name="hers")).to_be_visible()
    if who != "nobody":
        give_key(page, KEYS.get(who, KEY))
        expect(page.get_by_role("button", name=f"Logged in as {who}")).to_be_visible()
    owns, reads = MAY[who]
    command = page.locator(".command code")
    expect(command).to_contain_text("FL_ENROL_KEY=enrol" if owns else "FL_ENROL_KEY=... ")
    expect(page.get_by_role("button", name="Stop …")).to_have_count(int(owns))
    expect(page.get_by_role("button", name="Download model 0")).to_have_count(int(reads))
    expect(page.get_by_role("group", name="Audit log")).to_be_visible(visible=reads)
    assert (axe(page), no_sideways_scroll(page)) == ([], True)


def test_readers_create_nothing_and_owners_do(server, open_page):
    page = open_page().page
    page.goto(server.url)
    create_link = page.get_by_role("link", name="New experiment")
    expect(create_link).to_be_hidden()
    give_key(page, KEYS["bob"])
    expect(page.get_by_role("button", name="Logged in as bob")).to_be_visible()
    expect(create_link).to_be_hidden()
    page.goto(f"{server.url}/#/new")
    expect(page.get_by_text("An admin or an owner can create one.")).to_be_visible()
    expect(page.get_by_role("main").get_by_role("button", name="Log in")).to_have_count(0)
    log_out(page, "bob")
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    page.get_by_label("Key or token").fill(KEYS["alice"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Create experiment")).to_be_visible()


def test_a_dialog_says_who_one_is_and_may_what(server, open_page):
    page = open_page().page
    page.goto(server.url)
    give_key(page, KEYS["bob"])
    page.get_by_role("button", name="Logged in as bob").click()
    dialog = page.get_by_role("dialog", name="Logged in as bob")
    expect(dialog).to_contain_text("reader: looks at every experiment and its models")
    expect(dialog).not_to_contain_text("owner")
    assert axe(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    log_out(page, "bob")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0


def test_whose_token_has_ended_is_logged_out(server, experiment, open_page):
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    refusal = {"code": "unauthenticated", "detail": "The token has expired."}
    page.route("**/enrolment-key", lambda route: route.fulfill(status=401, json=refusal))
    give_key(page, KEYS["alice"])
    expect(page.get_by_text("Your key or token is no longer valid")).to_be_visible()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    expect(page.get_by_role("button", name="Stop …")).to_have_count(0)

"""The dashboard in a real browser, cut off from the network."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect

from tests.support.browser import PHONE, Watched, axe, give_key, log_out, no_sideways_scroll, recipe
from tests.support.here import run_here
from tests.support.plain_http import create, enrol
from tests.support.processes import KEY, Server, join, wait_for

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.mark.timeout(400)
def test_an_experiment_is_created_joined_and_watched_to_its_end(
    new_server, open_page, digits_model, tmp_path
):
    path, examples = digits_model
    page = open_page().page
    page.goto(new_server.url)
    expect(page.get_by_text("There is none yet.")).to_be_visible()
    give_key(page)
    page.get_by_role("link", name="New experiment").click()
    page.get_by_label("initial weights").set_input_files(path)
    expect(page.get_by_label("model", exact=True)).to_have_value("digits-cnn")  # the file says so
    settings = {"name": "made in the page", "dataset size": examples, "clients": 2}
    settings |= {"clients per round": 3, "rounds": 0, "local epochs": 1}
    for label, value in settings.items():
        page.get_by_label(label, exact=True).fill(str(value))
    page.get_by_role("button", name="Create experiment").click()
    expect(page.locator("#f-rounds-fault")).to_have_text(re.compile("greater than or equal to 1"))
    page.get_by_label("rounds", exact=True).fill("2")
    page.get_by_role("button", name="Create experiment").click()
    expect(page.get_by_role("alert").last).to_contain_text("clients_per_round (3) is more than")
    page.get_by_label("clients per round", exact=True).fill("2")
    page.get_by_role("button", name="Create experiment").click()

    expect(page.get_by_role("heading", name="made in the page")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("0 of 2 clients enrolled")
    key, words = recipe(page)
    assert words[:4] == ["join", "--server", new_server.url, "--experiment"]
    experiment = words[4]
    first = join(new_server.url, experiment, key, "site 0", tmp_path / "0.key")
    to = (
        "--server",
        new_server.url,
        "--experiment",
        experiment,
        "--key-file",
        str(tmp_path / "1.key"),
    )
    # In a thread: Playwright has the event loop of this one.
    beside = ThreadPoolExecutor(1)
    second = beside.submit(run_here, "join", *to, "--name", "site 1", FL_ENROL_KEY=key)
    beside.shutdown(wait=False)
    expect(page.locator(".sentence", has_text="Completed: All 2 rounds are closed.")).to_be_visible(
        timeout=200_000
    )
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 0, output
    assert second.result(60).returncode == 0, second.result().stderr
    for n in range(2):
        expect(page.get_by_role("cell", name=f"site {n}", exact=True)).to_be_visible()
    rounds = page.locator("section:has(h2:text-is('Clients')) tbody td:nth-child(4)")
    # Two clients in two rounds. The table comes after the sentence.
    wait_for(lambda: sum(map(int, rounds.all_inner_texts())) == 4)
    expect(page.locator(".tiles")).to_contain_text("clients’ held-out data")
    wait_for(lambda: page.locator(".chart path").count() >= 2)
    # By its role: the note that the experiment is created names this heading too, for some seconds.
    expect(page.get_by_role("heading", name="Take part")).to_be_hidden()

    with page.expect_download() as download:
        page.get_by_role("button", name="Download model 2").click()
    data = download.value.path().read_bytes()
    title = page.locator("tbody code").first.get_attribute("title")
    assert hashlib.sha256(data).hexdigest() == title
    audit = page.get_by_role("group", name="Audit log")
    expect(audit).to_contain_text("client enrolled")
    expect(audit).to_contain_text("experiment ended")
    # The tab alone holds the key: another one of the same browser is read-only.
    assert KEY not in page.url
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("heading", name="made in the page")).to_be_visible()
    expect(other.get_by_role("button", name="Download model 2")).to_have_count(0)


def test_without_a_key_it_reads_only_and_a_wrong_key_is_named(server, http, open_page):
    experiment, _ = create(http, "read only")
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.get_by_role("heading", name="read only")).to_be_visible()
    expect(page.get_by_role("button", name="Stop …")).to_have_count(0)
    give_key(page, "not the admin key")
    expect(page.get_by_text("The coordinator does not know this key or token.")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    page.get_by_label("Key or token").fill(KEY)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop …").click()
    page.get_by_role("button", name="Keep it running").click()
    assert http.get(f"/experiments/{experiment}").json()["state"] == "enrolling"
    page.get_by_role("button", name="Stop …").click()
    page.get_by_role("button", name="Stop it").click()
    expect(page.locator(".sentence", has_text="Stopped: Stopped by the admin.")).to_be_visible()
    log_out(page)
    wait_for(lambda: page.evaluate("sessionStorage.length + localStorage.length") == 0)
    page.goto(f"{server.url}/#/new")
    expect(page.get_by_text("An admin or an owner can create one.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_needs_no_sideways_scroll(server, http, open_page, scheme):
    experiment, key = create(http, f"a running one, {scheme}", clients=2)
    for n in range(2):
        enrol(http, experiment, key, f"a client with a rather long name, number {n}")
    report = {"num_examples": 10, "metrics": {"accuracy": 0.25, "loss": 2.0}}
    path = f"/experiments/{experiment}/models/0/evaluations"
    http.post(path, json=report).raise_for_status()
    page = open_page(color_scheme=scheme, **PHONE).page
    page.goto(server.url)
    give_key(page)
    expect(page.get_by_role("link", name=experiment)).to_be_visible()
    assert (axe(page), no_sideways_scroll(page)) == ([], True)
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.locator(".chart path").first).to_be_attached()
    expect(page.get_by_text(re.compile(r"\d+ min \d\d s left|1 h 0 min left"))).to_be_visible()
    assert (axe(page), no_sideways_scroll(page)) == ([], True)
    page.goto(f"{server.url}/#/new")
    page.get_by_text("More settings").click()
    assert (axe(page), no_sideways_scroll(page)) == ([], True)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(16, 19, 24)") == (scheme == "dark")


def test_the_theme_is_chosen_and_kept(server, open_page):
    page = open_page(color_scheme="light").page
    page.goto(server.url)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(246, 247, 249)"
    for _ in range(2):
        page.get_by_role("button", name=re.compile("^Theme")).click()
    assert page.evaluate(background) == "rgb(16, 19, 24)"
    page.reload()
    assert page.evaluate(background) == "rgb(16, 19, 24)"


def test_the_keyboard_is_enough(server, http, open_page):
    experiment, _ = create(http, "by keyboard")
    report = {"num_examples": 8, "metrics": {"accuracy": 0.125}}
    http.post(f"/experiments/{experiment}/models/0/evaluations", json=report).raise_for_status()
    page = open_page().page
    page.goto(server.url)

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            focus = page.evaluate(
                "(({ activeElement: e, body }) => e === body ? '' : e.ariaLabel ?? e.textContent)"
                "(document)"
            )
            if focus.startswith(name):
                return
        raise AssertionError(f"Tab does not lead to {name}")

    tab_to("Log in")
    page.keyboard.press("Enter")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Logged in as admin")).to_be_visible()
    expect(page.get_by_role("link", name="by keyboard")).to_be_visible()
    tab_to("by keyboard")
    page.keyboard.press("Enter")
    expect(page.locator(".chart path").first).to_be_attached()
    tab_to("Accuracy by round.")
    page.keyboard.press("End")
    expect(page.locator(".chart").first).to_contain_text("12.5%")
    expect(page.locator(".chart").first).to_contain_text("Model 0")
    tab_to("Stop …")  # round the page
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_admin_revokes_a_client_and_sees_the_enrolment_key(server, http, open_page):
    experiment, key = create(http, "one too many", clients=3, min_clients=2)
    for name in ("welcome", "unwelcome"):
        client = enrol(http, experiment, key, name)["client_id"]
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.get_by_role("cell", name="unwelcome", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name=f"Revoke {client}")).to_have_count(0)
    expect(page.locator(".command code")).to_contain_text("FL_ENROL_KEY=... ")
    give_key(page)
    expect(page.locator(".command code")).to_contain_text(f"FL_ENROL_KEY={key} ")
    page.get_by_role("button", name=f"Revoke {client}").click()
    page.get_by_role("button", name="Revoke it").click()
    expect(
        page.get_by_role("group", name="Clients").locator("tr", has_text="unwelcome")
    ).to_contain_text("revoked")
    expect(page.locator(".members li", has_text=client)).to_contain_text("revoked by the admin")
    log_out(page)
    expect(page.locator(".command code")).to_contain_text("FL_ENROL_KEY=... ")


def test_what_clients_call_themselves_is_text(server, http, open_page):
    experiment, key = create(http, HOSTILE)
    enrol(http, experiment, key, HOSTILE)
    page = open_page().page
    page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    page.goto(server.url)
    expect(page.get_by_text(HOSTILE)).to_be_visible()
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(page.get_by_role("cell", name=HOSTILE, exact=True)).to_be_visible()
    assert page.locator("main img").count() == 0


def test_an_unknown_experiment_is_named(server, open_page):
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/nowhere")
    expect(page.get_by_role("alert")).to_have_text("There is no experiment 'nowhere'.")


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000])
def test_our_sha256_is_sha256(modules, size):
    data = bytes(i * 7 % 256 for i in range(size))
    found = modules(
        "async (load, data) => [...(await load('sha256.js')).sha256(Uint8Array.from(data))]",
        list(data),
    )
    assert bytes(found) == hashlib.sha256(data).digest()


def test_it_polls_where_the_coordinator_does_not_stream(tmp_path, open_page):
    with (
        Server(FL_DATA_DIR=str(tmp_path), FL_LIVE="false") as server,
        server.as_admin() as http,
    ):
        experiment, key = create(http, "polled")
        page = open_page().page
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{server.url}/#/experiments/{experiment}")
        expect(page.get_by_role("status").first).to_contain_text("0 of 4 clients")
        enrol(http, experiment, key, "one")
        expect(page.get_by_role("status").first).to_contain_text("1 of 4 clients")
        assert not any(url.endswith("/events") for url in asked)
        page.goto("about:blank")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one address of loopback")
def test_what_these_tests_ask_for_elsewhere_is_a_fault_and_does_not_arrive(browser):
    context = browser.new_context()
    watched = Watched(context)
    with socket.create_server(("127.0.0.2", 0)) as elsewhere:
        url = f"http://127.0.0.2:{elsewhere.getsockname()[1]}/"
        found = watched.page.evaluate("url => fetch(url).then(() => 'answered', () => 'no')", url)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    context.close()
    assert (found, watched.faults) == ("no", [f"asked elsewhere: {url}"])

"""The list of experiments: columns, filter, sorting; and several experiments in one chart."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.browser import PHONE, axe, give_key, no_sideways_scroll
from tests.support.plain_http import create
from tests.support.played import played


def rate(number, client):
    return {"accuracy_before": 0.2 * number, "loss_before": 1 / number, "auc_before": 0.5}


def error(number, client):
    return {"mae_before": 4000.0 / number, "loss_before": 2 / number}


@pytest.fixture(scope="module")
def listed(http):
    """Three experiments that have measured, and one that has not: their ids by their names."""
    return {
        "digits": played(http, "digits", rate, model="digits-cnn", dataset="digits"),
        "houses": played(
            http,
            *("houses", error),
            **{"model": "mlp", "dataset": "prices", "strategy": {"name": "median"}},
            **{"target_metric": "mae", "target_better": "lower"},
        ),
        "wells": played(http, "wells", lambda n, client: {"loss_before": 3 / n}, model="linear"),
        "fresh": create(http, "fresh")[0],
    }


@pytest.fixture
def page(server, listed, open_page):
    page = open_page().page
    page.goto(server.url)
    expect(page.get_by_role("row", name="digits")).to_be_visible()
    return page


def names(page):
    return page.locator(".experiments tbody strong").all_inner_texts()


def test_each_line_says_what_is_trained_on_what_and_how_well(page):
    cells = page.get_by_role("row", name="houses").get_by_role("cell")
    for text in ("mlp", "prices", "median"):
        expect(cells.filter(has_text=text).last).to_be_visible()
    # The cohort of round 3 measured model 2: 4000 / 3.
    expect(cells.filter(has_text="1333")).to_contain_text("MAE, best, model 2")
    expect(cells.filter(has_text="$0.0")).to_be_visible()
    expect(page.get_by_role("row", name="digits")).to_contain_text("60.0%")
    # It reports no accuracy and names no metric, so the newest loss is shown.
    expect(page.get_by_role("row", name="wells")).to_contain_text("Loss, newest, model 2")
    expect(page.get_by_role("row", name="fresh")).to_contain_text("none begun")


def test_it_is_filtered_by_text_and_sorted_by_a_column(page):
    page.get_by_label("Filter").fill("MEDIAN prices")
    expect(page.locator(".experiments tbody tr")).to_have_count(1)
    assert names(page) == ["houses"]
    page.get_by_label("Filter").fill("nothing of this kind")
    expect(page.get_by_text("No experiment has this text.")).to_be_visible()
    page.get_by_label("Filter").fill("")
    head = page.get_by_role("columnheader", name="Experiment")
    assert head.get_attribute("aria-sort") == "none"
    page.get_by_role("button", name="Experiment").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert (found := names(page)) == sorted(found, key=str.lower)
    page.get_by_role("button", name="Experiment").press("Enter")  # by keyboard, the other way
    expect(head).to_have_attribute("aria-sort", "descending")
    assert names(page) == found[::-1]


def test_chosen_experiments_are_seen_in_one_chart_by_a_metric_that_they_share(page):
    compare = page.get_by_role("link", name="Compare")
    expect(page.locator("a", has_text="Compare")).to_have_attribute("aria-disabled", "true")
    page.get_by_label("Compare digits").check()
    expect(compare).to_have_count(0)  # one alone is not compared
    page.get_by_label("Compare houses").press("Space")
    compare.click()
    expect(page.get_by_role("heading", name="Compare experiments")).to_be_visible()
    # Neither the accuracy nor the error is of both.
    expect(page.get_by_label("Metric").locator("option")).to_have_text(["Loss"])
    legend = page.locator(".legend li")
    expect(legend).to_have_count(2)
    expect(legend.first).to_contain_text("digits: digits-cnn, digits, fedavg")
    expect(legend.last).to_contain_text("houses: mlp, prices, median")
    assert legend.locator("b").all_inner_texts() == ["0.3333", "0.6667"]
    expect(page.get_by_text("Measured on: clients’ held-out data.")).to_be_visible()
    expect(page.locator(".chart path")).to_have_count(2)
    table = page.get_by_role("group", name="The compared experiments")
    expect(table.get_by_role("row", name="houses")).to_contain_text("median")
    assert axe(page) == []
    page.reload()  # the address names the experiments
    expect(legend).to_have_count(2)


def test_any_metric_is_shown_and_an_experiment_without_it_is_named(page, server, listed):
    page.goto(f"{server.url}/#/compare/{listed['digits']},{listed['fresh']},nowhere")
    expect(page.get_by_text("There is no experiment 'nowhere'.")).to_be_visible()
    page.get_by_label("Metric").select_option("auc")
    expect(page.locator(".legend b")).to_have_text("50.0%")
    expect(page.get_by_text("Not measured: fresh.")).to_be_visible()


def test_chosen_experiments_that_are_over_are_deleted(page, http):
    over, running = create(http, "over and done")[0], create(http, "under way")[0]
    http.patch(f"/experiments/{over}", json={"keep_days": 9}).raise_for_status()
    http.post(f"/experiments/{over}/stop").raise_for_status()
    remove = page.get_by_role("button", name="Delete …")
    expect(remove).to_be_hidden()
    give_key(page)
    expect(
        page.get_by_role("button", name="Logged in as admin")
    ).to_be_visible()  # the key has been checked
    page.reload()
    expect(page.get_by_role("row", name="over and done")).to_contain_text("deleted on")
    page.get_by_label("Compare under way").check()
    expect(remove).to_be_disabled()
    page.get_by_label("Compare over and done").check()
    remove.click()
    expect(page.get_by_role("dialog")).to_contain_text("1 chosen experiment has not ended")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("row", name="over and done")).to_have_count(0)
    assert http.get(f"/experiments/{over}").json()["code"] == "deleted"
    assert http.get(f"/experiments/{running}").status_code == 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_both_without_sideways_scroll(server, listed, open_page, scheme):
    page = open_page(color_scheme=scheme, **PHONE).page
    page.goto(server.url)
    expect(page.get_by_role("row", name="digits")).to_be_visible()
    assert (axe(page), no_sideways_scroll(page)) == ([], True)
    page.goto(f"{server.url}/#/compare/{listed['digits']},{listed['wells']}")
    expect(page.locator(".chart path").first).to_be_attached()
    assert (axe(page), no_sideways_scroll(page)) == ([], True)

"""The labels of the examples, of clients that share their counts."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.support.browser import PHONE, axe, no_sideways_scroll
from tests.support.plain_http import bearer, create
from tests.support.played import begin, finish_round


def share(http, experiment, token, **counts):
    path = f"/experiments/{experiment}/label-counts"
    http.put(path, json={"counts": counts}, headers=bearer(token)).raise_for_status()


def labels_of(page):
    return page.get_by_role("region", name="Labels of the examples")


def test_each_client_that_shares_has_a_bar_and_a_line(server, http, open_page):
    experiment, members = begin(http, "labels", clients=3, label_counts="asked")
    page = open_page(**PHONE).page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    labels = labels_of(page)
    expect(labels).to_contain_text("No client has shared the labels of its examples")
    expect(labels.locator(".bar")).to_have_count(0)
    share(http, experiment, members["client-00"], benign=9, malignant=3)
    share(http, experiment, members["client-02"], malignant=8)
    finish_round(http, experiment, members, 1)  # without a reload: the page follows
    expect(labels).to_contain_text("2 clients of 3 share the labels of their examples.")
    lines = labels.locator(".labels li")
    expect(lines.locator("b")).to_have_text(["All of them", "site 0", "site 2"])
    expect(lines.locator("span")).to_have_text(
        [
            "20 examples: malignant (55.0%), benign (45.0%).",
            "12 examples: benign (75.0%), malignant (25.0%).",
            "8 examples: malignant (100.0%).",
        ]
    )
    expect(labels.locator(".legend li")).to_have_text(["benign", "malignant"])
    first = lines.nth(1).locator("rect")
    widths = [float(one.get_attribute("width")) for one in first.all()]
    assert widths[0] / widths[1] > 2.9  # three quarters, and one
    assert first.first.locator("title").text_content() == "benign: 9 (75.0%)"
    labels.get_by_text("As a table").focus()
    page.keyboard.press("Enter")
    table = labels.get_by_role("group", name="Labels as a table")
    expect(table.get_by_role("row", name="site 2")).to_have_text("site 2–8")
    assert (axe(page), no_sideways_scroll(page)) == ([], True)


def test_of_many_labels_the_rarest_stand_together(server, http, open_page):
    experiment, members = begin(
        http, "many", clients=2, label_counts="asked", dataset_size=400, dataset="hundred"
    )
    share(http, experiment, members["client-00"], **{f"c{n:02}": 1 + n % 3 for n in range(100)})
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    labels = labels_of(page)
    expect(labels).to_contain_text("1 client of 2 shares the labels of its examples.")
    legend = labels.locator(".legend li")
    expect(legend).to_have_count(16)
    expect(legend.last).to_have_text("others")
    expect(labels.locator(".labels li")).to_have_count(1)
    expect(labels.locator("rect")).to_have_count(16)
    assert axe(page) == []


def test_nothing_of_it_is_shown_where_nobody_asks(server, http, open_page):
    experiment, _ = begin(http, "silent")
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.get_by_text("of 2 clients")).to_be_visible()
    expect(labels_of(page)).to_be_hidden()
    expect(page.get_by_role("region", name="Take part")).not_to_contain_text("--share-labels")
    asked, _ = create(http, "asked", label_counts="asked")
    page.goto(f"{server.url}/#/experiments/{asked}")
    expect(page.get_by_role("region", name="Take part")).to_contain_text("With --share-labels it")

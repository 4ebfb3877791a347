"""On the page: an experiment is deleted, a model that is not kept has no download, and whoever is
refused in every round stands in the headline.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.support.browser import PHONE, axe, give_key, no_sideways_scroll
from tests.support.federation import weights
from tests.support.plain_http import bearer, create, enrol


def upload(http, experiment, token, number, data):
    return http.put(
        f"/experiments/{experiment}/rounds/{number}/update",
        params={"sha256": hashlib.sha256(data).hexdigest(), "num_examples": 5},
        content=data,
        headers=bearer(token),
    )


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_the_admin_deletes_an_experiment_that_is_over(server, http, open_page, options):
    settings = {"clients": 2, "clients_per_round": 2, "quorum": 1, "rounds": 3, "keep_models": 1}
    experiment, key = create(http, f"once upon a time, {len(options)}", **settings)
    tokens = [enrol(http, experiment, key, name)["token"] for name in ("good", "bad")]
    for number in (1, 2, 3):
        assert upload(http, experiment, tokens[1], number, weights(np.nan)).status_code == 422
        assert upload(http, experiment, tokens[0], number, weights(1.0)).status_code == 200
    page = open_page(**options).page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    sentence = page.get_by_role("status").first
    expect(sentence).to_contain_text("Completed: All 3 rounds are closed.")
    expect(sentence).to_contain_text("client-01 was refused in every round: Tensor 'w' holds NaN")
    expect(page.get_by_role("button", name="Delete …")).to_have_count(0)
    give_key(page)
    table = page.get_by_role("group", name="Model versions")
    expect(table.locator("tr", has_text="not kept")).to_have_count(2)
    expect(page.get_by_role("button", name="Download model 3")).to_be_visible()
    expect(page.get_by_role("button", name="Download model 0")).to_be_visible()
    expect(page.get_by_role("button", name="Download model 2")).to_have_count(0)
    page.get_by_role("button", name="Edit …").click()
    page.get_by_label("keep days").fill("0")
    page.get_by_role("textbox", name="name").fill("known by another name")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("keep days")).to_be_visible()  # 0 is none: the browser says so
    page.get_by_label("keep days").fill("30")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="known by another name")).to_be_visible()
    expect(page.locator(".head")).to_contain_text("is deleted on")
    page.get_by_role("button", name="Delete …").click()
    expect(page.get_by_role("dialog")).to_contain_text("cannot be brought back")
    assert (axe(page), no_sideways_scroll(page)) == ([], True)
    page.get_by_role("button", name="Keep it").click()
    assert http.get(f"/experiments/{experiment}").status_code == 200
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("The experiment is deleted.")).to_be_visible()
    expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
    expect(page.get_by_role("link", name=experiment)).to_have_count(0)
    assert http.get(f"/experiments/{experiment}").json()["code"] == "deleted"
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.get_by_role("alert")).to_have_text("The experiment was deleted.")

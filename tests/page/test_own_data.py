"""The page of an experiment whose parties bring data of their own: terms, scales, origin."""

from __future__ import annotations

import hashlib
import secrets

from playwright.sync_api import expect

from tests.support.browser import axe, give_key, no_sideways_scroll
from tests.support.own_data import FACTS, model
from tests.support.plain_http import bearer, send

ORIGIN = {"experiment": "20261128-070000-a1b2c3", "version": 7}
SETTINGS = {
    **{"dataset": "tables", "model": "toy", "data": "own", "normalisation": "federated"},
    **{"clients": 2, "clients_per_round": 2, "rounds": 1},
}


def create(http):
    """A fork with two columns to scale: its id and its enrolment key."""
    initial = model("age", "height (cm)", facts=FACTS | {"column sex": "category: f, m"})
    sha = hashlib.sha256(initial).hexdigest()
    body = {"name": "hospitals", "config": SETTINGS, "origin": ORIGIN | {"sha256": sha}}
    made = http.post("/experiments", json=body).raise_for_status().json()
    path = f"/experiments/{made['id']}/initial-model"
    send(http, path, initial, {}).raise_for_status()
    return made["id"], made["enrolment_key"]


def enrol(http, experiment, key, *ages):
    sums = [
        {
            "column": column,
            "count": len(ages),
            "sum": sum(ages),
            "squares": sum(a * a for a in ages),
        }
        for column in ("age", "height (cm)")
    ]
    facts = FACTS | {"column sex": "category: f, m"}
    body = {"client_key": secrets.token_hex(16), "examples": 10, "facts": facts, "sums": sums}
    answer = http.post(f"/experiments/{experiment}/clients", json=body, headers=bearer(key))
    return answer.raise_for_status().json()["token"]


def test_the_terms_the_scales_and_the_origin_are_shown(server, http, open_page):
    experiment, key = create(http)
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(
        page.get_by_text("Whoever may read the experiment sees the terms: log in.")
    ).to_be_visible()
    expect(page.get_by_text(f"begins from model 7 of {ORIGIN['experiment']}")).to_be_visible()
    give_key(page)
    expect(page.get_by_text("will be fixed from the parties’ sums")).to_be_visible()
    first = enrol(http, experiment, key, 1.0, 3.0)
    second = enrol(http, experiment, key, 5.0, 7.0)
    table = page.get_by_role("group", name="Agreed columns")
    expect(table.get_by_role("row", name="age number 4 2.236 4")).to_be_visible()
    expect(table.get_by_role("row", name="sex category: f, m – – –")).to_be_visible()
    expect(page.get_by_text("benign, malignant")).to_be_visible()
    http.post(
        f"/experiments/{experiment}/models/0/evaluations",
        json={"num_examples": 4, "metrics": {"accuracy": 0.5}},
        headers=bearer(first),
    ).raise_for_status()
    http.post(
        f"/experiments/{experiment}/models/0/evaluations",
        json={"num_examples": 1, "metrics": {"accuracy": 1.0}},
        headers=bearer(second),
    ).raise_for_status()
    said = "Accuracy of model 0 on each client’s own held-out data: mean 75.0%, worst 50.0% "
    expect(page.get_by_text(f"{said}(client-00), spread 25.0% (2 clients).")).to_be_visible()
    assert axe(page) == []
    assert no_sideways_scroll(page)

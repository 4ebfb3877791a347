"""Metrics of any name in the tiles, the charts and the table of models; the best model."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.support.browser import axe
from tests.support.played import played


def error(number, client):
    return {
        "mae_before": [3000.0, 1000.0, 2000.0][number - 1],
        "loss_before": 9.0 / number,
        "train_loss": 8.0 / number,
        "mae_after": 1.0,
        "r2_before": -0.5,
    }


def test_a_regression_shows_its_error_and_no_accuracy(server, http, open_page):
    experiment = played(http, "houses", error, target_metric="mae", target_better="lower")
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    tiles = page.locator(".tiles")
    expect(tiles).to_contain_text("model 2, clients’ held-out data")
    expect(tiles.locator("dt")).to_contain_text(["MAE", "Loss", "Best model"])
    expect(tiles.locator("div", has_text="Best model")).to_contain_text("1 ★MAE 1000")
    expect(page.get_by_text("Accuracy", exact=True)).to_have_count(0)
    expect(page.get_by_text("Accuracy by round")).to_have_count(0)
    charts = page.locator(".charts section")
    expect(charts.locator("h2")).to_have_text(
        ["MAE by round", "Loss by round", "R2 by round", "Train loss by round"]
    )
    page.get_by_text("More metrics: R2, Train loss").click()
    chart = charts.first
    # Model 3 is the newest; nobody has measured it yet.
    expect(chart).to_contain_text("Model 2 (the newest measured; model 3 is newer)")
    expect(chart).to_contain_text("best: 1000 of model 1 ★")
    expect(chart.locator("text.best")).to_have_count(1)
    # What clients train to is of the model that the round made.
    expect(charts.last).to_contain_text("Model 3 (newest)")
    models = page.get_by_role("group", name="Model versions")
    expect(models.get_by_role("columnheader", name="MAE")).to_be_visible()
    expect(models.locator("tbody tr").first).to_contain_text("3 newest")
    expect(models.locator("tr", has_text="best")).to_contain_text("1 ★ best")
    assert axe(page) == []


def test_the_admins_evaluations_tell_the_best_model_and_higher_is_better(server, http, open_page):
    experiment = played(http, "ranks", lambda n, c: {"auc_before": 0.5}, target_metric="auc")
    for version, auc in enumerate((0.2, 0.875, 0.875, 0.6)):
        path = f"/experiments/{experiment}/models/{version}/evaluations"
        report = {"num_examples": 8, "metrics": {"auc": auc}}
        http.post(path, json=report).raise_for_status()
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(page.locator(".tiles")).to_contain_text("60.0%model 3, central test set")
    expect(page.locator(".tiles")).to_contain_text("1 ★AUC 87.5%")  # the first of equal ones
    expect(page.locator(".charts section").first).to_contain_text("best: 87.5% of model 1 ★")


def test_the_cost_begins_at_zero_dollars(server, http, open_page):
    experiment = played(http, "costly", lambda number, client: {})
    page = open_page().page
    page.goto(f"{server.url}/#/experiments/{experiment}")
    chart = page.get_by_role("group", name="Cost by round. Left")
    expect(chart).to_contain_text("US dollars a round")
    figures = chart.locator("svg text[text-anchor=end]")
    expect(figures.first).to_have_text("$0")
    assert all(text.startswith("$") for text in figures.all_text_contents())


def test_figures_at_both_axes_are_not_clipped(server, open_page):
    page = open_page(viewport={"width": 390, "height": 844}).page
    page.goto(server.url)
    expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
    page.evaluate(
        """async () => {
            const main = document.querySelector("script[type=module]").src;
            const { lineChart } = await import(new URL("chart.js", main));
            const chart = lineChart("Long", { format: (y) => `${y} millimetres` });
            document.querySelector("main").append(chart.node);
            chart.update([{ name: "a", points: [[0, -1234567], [100000, 1234567]] }], {});
        }"""
    )
    chart = page.get_by_role("group", name="Long. Left").locator("svg")
    expect(chart.get_by_text("100000", exact=True)).to_be_visible()
    width = chart.evaluate("svg => svg.clientWidth")
    box = "text => { const { x, width } = text.getBBox(); return { x, width }; }"
    boxes = [text.evaluate(box) for text in chart.locator("text").all()]
    assert min(box["x"] for box in boxes) >= 0
    assert max(box["x"] + box["width"] for box in boxes) <= width

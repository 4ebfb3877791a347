"""The table of clients, and the headline that says what is wrong."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.browser import axe
from tests.support.played import played

BAD = "client-02"


def cells(page, name):
    """What the table says of a client, by its heads."""
    table = page.get_by_role("group", name="Clients")
    row = table.locator("tbody tr", has_text=name)
    heads = table.locator("th").all_inner_texts()
    return dict(zip(heads, row.locator("td").all_inner_texts(), strict=True))


def test_each_client_has_its_weight_its_metric_and_its_refusals(server, http, open_page):
    experiment = played(
        http,
        *("a bad one", lambda number, client: {"accuracy_before": 0.4 * number}),
        **{"rounds": 2, "clients": 3},
    )
    page = open_page().page

    def with_refusal(route):
        """The round's own record, but the update of one client was refused."""
        found = route.fetch().json()
        found["updates"] = [u for u in found["updates"] if u["client"] != BAD]
        found["refused"] = [{"client": BAD, "code": "non-finite", "reason": "It holds NaN."}]
        route.fulfill(json=found)

    page.route("**/rounds/*", with_refusal)
    page.goto(f"{server.url}/#/experiments/{experiment}")
    expect(
        page.get_by_text("Refused, weight and response are of the last 2 rounds.")
    ).to_be_visible()
    spread = "40 examples of 3 clients: 13 to 14 each, the largest 35.0% of all."
    expect(page.get_by_text(spread)).to_be_visible()
    one = cells(page, "site 0")
    assert (one["Rounds"], one["Refused"], one["Weight"]) == ("2", "0", "50.0%")
    assert one["Accuracy on its data"] == "80.0%"
    assert one["Examples"] in ("13", "14")  # of 40, for three
    assert one["Last update"] != "–"
    assert one["Response"].endswith(" s")
    assert page.evaluate(AGES) == [9, 0.5]  # one update was trained from the model before
    other = cells(page, BAD)
    assert (other["Refused"], other["Weight"], other["Last update"]) == ("2", "–", "–")
    refused = page.get_by_role("cell", name="2", exact=True).and_(page.locator(".bad"))
    assert refused.get_attribute("title") == "It holds NaN."
    assert axe(page) == []


AGES = """async () => {
  const main = document.querySelector("script[type=module]").src;
  const { figuresOf } = await import(new URL("rounds.js", main));
  const update = { client: "client-00", num_examples: 1, received_at: "2026-11-28T00:00:09Z" };
  const round = { refused: [], opened_at: "2026-11-28T00:00:00Z", base_version: 5 };
  const of = (base_version) => ({ ...round, updates: [{ ...update, base_version }] });
  const { seconds, behind } = figuresOf([of(4), of(null)], null).get("client-00");
  return [seconds, behind];
}"""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"progress": f"Fine. {BAD} was refused in every round: NaN."}, "refused in every round"),
        ({"attempt": 2}, "attempt 2 of 3: before, 1 of 2 updates came in time. Missing: client-01"),
    ],
)
def test_the_headline_says_what_is_wrong(server, http, open_page, changes, words):
    experiment = played(http, "in trouble", lambda n, client: {}, rounds=1, clients=2)
    page = open_page().page
    page.goto(server.url)
    expect(page.get_by_role("row", name="in trouble").first).to_be_visible()
    page.evaluate(
        """async ([id, { attempt, progress }]) => {
            const main = document.querySelector("script[type=module]").src;
            const { headSection } = await import(new URL("head.js", main));
            const found = await (await fetch(`v1/experiments/${id}`)).json();
            const view = { ...found, rights: { owns: false } };
            const [one, two] = ["client-00", "client-01"];
            const earlier = { reported: [one], cohort: [one, two], missing: [two] };
            if (progress) Object.assign(view, { progress, always_refused: [{ client: one }] });
            const again = { attempt, earlier_attempts: [earlier] };
            if (attempt) Object.assign(view.current_round, again);
            const head = headSection();
            head.update(view);
            document.querySelector("main").prepend(head.node);
        }""",
        [experiment, changes],
    )
    expect(page.locator(".sentence.wrong")).to_contain_text(words)

// The estimated cost of the run on Lambda, in all and by round, and the budget.
import { lineChart } from "./chart.js";
import { card, h, once } from "./dom.js";
import { bytes, count, dollars, usd } from "./format.js";
import { areHidden } from "./rounds.js";
import { t } from "./words.js";

const KINDS = {
  lambda_requests: t("Lambda, calls"),
  lambda_gb_seconds: t("Lambda, time"),
  http_api_calls: t("HTTP API, calls"),
  data_out: t("Data out"),
};

/** A figure at the y axis: `$0.002`, but `$3.05e-5`. */
const axis = (value) => dollars(String(value).length > 6 ? value.toExponential() : String(value));

export function costSection() {
  const sentence = h("p");
  const bar = h("progress.hidden", { max: 1, "aria-label": t("Budget spent") });
  const facts = h("dl.facts");
  const chart = lineChart(t("Cost by round"), {
    format: usd, tick: axis, bounds: [0, null], zero: true, what: t("Round"), unit: t("US dollars a round"),
  });
  const note = h("p.muted.small");
  const node = card(t("Estimated cost on Lambda"), h("div.budget", {}, sentence, bar), facts, chart.node, note);

  const show = once(({ cost, state }) => {
    const budget = cost.budget_usd;
    sentence.replaceChildren(h("strong", {}, usd(cost.usd)), " ",
      budget === null ? t("so far. There is no budget.") : t("of a budget of {budget}, at which it pauses.", { budget: usd(budget) }));
    bar.classList.toggle("hidden", budget === null);
    bar.classList.toggle("over", budget !== null && cost.usd >= budget && state === "paused");
    if (budget !== null) bar.value = Math.min(1, cost.usd / budget);
    const parts = Object.entries(cost.items).map(([name, amount]) => [KINDS[name] ?? name, usd(amount)]);
    facts.replaceChildren(...[
      [t("Calls"), count(cost.requests)], [t("GB-seconds"), count(cost.gb_seconds)],
      [t("Received"), bytes(cost.bytes_up)], [t("Sent"), bytes(cost.bytes_down)], ...parts,
    ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd.num", {}, value))));
    note.textContent = t("What this experiment would have cost on AWS Lambda behind its HTTP API, wherever it runs. "
      + "It is derived from the rounds’ records, not from a bill: every client is taken to ask as it is advised, "
      + "and a call to take {ms} ms at {mb} MB. List prices of {date}, {region}; without the database, the blob store and the free tier.",
    { ms: count(cost.request_ms), mb: count(cost.memory_mb), date: cost.prices_as_of, region: cost.region });
  });
  const draw = once(({ points, last }) => chart.update([{ name: t("estimated cost"), points }], { last }));
  const update = (view) => {
    node.classList.toggle("hidden", areHidden(view));
    if (areHidden(view)) return;
    show({ cost: view.cost, state: view.state });
    const points = view.history.filter((r) => r.cost_usd !== null).map((r) => [r.number, r.cost_usd]);
    draw({ points, last: Math.max(view.round, 1) });
  };
  return { node, update };
}

// The estimated cost of the run on Lambda, in all and by round, and the budget.
import { lineChart } from "./chart.js";
import { card, h, once } from "./dom.js";
import { bytes, count, usd } from "./format.js";

const KINDS = {
  lambda_requests: "Lambda, calls",
  lambda_gb_seconds: "Lambda, time",
  http_api_calls: "HTTP API, calls",
  data_out: "Data out",
};

/** A figure at the y axis: `$0.002`, but `$3.05e-5`. */
const axis = (value) => `$${String(value).length > 6 ? value.toExponential() : value}`;

export function costSection() {
  const sentence = h("p");
  const bar = h("progress.hidden", { max: 1, "aria-label": "Budget spent" });
  const facts = h("dl.facts");
  const chart = lineChart("Cost by round", {
    format: usd, tick: axis, bounds: [0, null], zero: true, what: "Round", unit: "US dollars a round",
  });
  const note = h("p.muted.small");
  const node = card("Estimated cost on Lambda", h("div.budget", {}, sentence, bar), facts, chart.node, note);

  const show = once(({ cost, state }) => {
    const budget = cost.budget_usd;
    sentence.replaceChildren(h("strong", {}, usd(cost.usd)),
      budget === null ? " so far. There is no budget." : ` of a budget of ${usd(budget)}, at which it pauses.`);
    bar.classList.toggle("hidden", budget === null);
    bar.classList.toggle("over", budget !== null && cost.usd >= budget && state === "paused");
    if (budget !== null) bar.value = Math.min(1, cost.usd / budget);
    const parts = Object.entries(cost.items).map(([name, amount]) => [KINDS[name] ?? name, usd(amount)]);
    facts.replaceChildren(...[
      ["Calls", count(cost.requests)], ["GB-seconds", count(cost.gb_seconds)],
      ["Received", bytes(cost.bytes_up)], ["Sent", bytes(cost.bytes_down)], ...parts,
    ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd.num", {}, value))));
    note.textContent = "What this experiment would have cost on AWS Lambda behind its HTTP API, wherever it runs. "
      + "It is derived from the rounds’ records, not from a bill: every client is taken to ask as it is advised, "
      + `and a call to take ${cost.request_ms} ms at ${cost.memory_mb} MB. List prices of ${cost.prices_as_of}, ${cost.region}; `
      + "without the database, the blob store and the free tier.";
  });
  const draw = once(({ points, last }) => chart.update([{ name: "estimated cost", points }], { last }));
  const update = (view) => {
    show({ cost: view.cost, state: view.state });
    const points = view.history.filter((r) => r.cost_usd !== null).map((r) => [r.number, r.cost_usd]);
    draw({ points, last: Math.max(view.round, 1) });
  };
  return { node, update };
}

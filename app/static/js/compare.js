// Several experiments in one chart, by any metric that they share, with what tells them apart.
import { experimentPath, get } from "./api.js";
import { chosenIn, MOST } from "./chosen.js";
import { lineChart } from "./chart.js";
import { card, h, keyed } from "./dom.js";
import { choice, choiceName } from "./config.js";
import { count, stateName, usd } from "./format.js";
import { repeat } from "./live.js";
import { bestOf, betterOf, chartOf, measuredNames, metricNames, seriesOf, titleOf, valueText } from "./metrics.js";
import { areHidden } from "./rounds.js";
import { t } from "./words.js";

const COLUMNS = [t("Experiment"), t("Model"), t("Data"), t("Strategy"), t("State"), t("Newest"), t("Best"), t("Cost")];

export function compareView(main, text) {
  const ids = chosenIn(text).slice(0, MOST);
  const note = h("p.muted", { role: "status" }, t("Loading …"));
  const select = h("select", { id: "metric" });
  const place = h("div");
  const source = h("p.small.muted");
  const body = h("tbody");
  const table = h("div.scroll", { tabindex: "0", role: "group", "aria-label": t("The compared experiments") },
    h("table.lined", {}, h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))), body));
  const chartCard = card(t("Curves"), h("div.field.narrow", {}, h("label", { for: "metric" }, t("Metric")), select), place, source);
  const content = h("div.cards.hidden", {}, chartCard, card(t("Side by side"), table));
  main.append(h("a", { href: "#/" }, t("← All experiments")), h("h1", {}, t("Compare experiments")), note, content);
  document.title = `${t("Compare")} · ${t("Federated learning")}`;

  const found = new Map();
  let drawn = null; // { metric, chart }
  const show = () => {
    const all = ids.filter((id) => found.has(id)).map((id) => found.get(id));
    content.classList.toggle("hidden", !all.length);
    if (!all.length) return;
    const metrics = sharedMetrics(all);
    const metric = metrics.includes(select.value) ? select.value : metrics[0];
    keyed(select, metrics, (name) => name, (name) => h("option", { value: name }, titleOf(name)));
    select.value = metric;
    if (drawn?.metric !== metric) {
      drawn = { metric, chart: lineChart(titleOf(metric), chartOf(metric)) };
      place.replaceChildren(drawn.chart.node);
    }
    const curves = curvesOf(all, metric);
    const lacking = all.filter((_, at) => !curves.series[at].points.length).map(({ view }) => view.name || view.id);
    const measured = curves.shared ? t("Measured on: {source}.", { source: curves.shared })
      : t("This was not measured on the same kind of data everywhere: the names say on which.");
    source.textContent = measured + (lacking.length ? ` ${t("Not measured: {names}.", { names: lacking.join(", ") })}` : "");
    drawn.chart.update(curves.series, { last: Math.max(...all.map(({ view }) => view.model_version ?? 1)) });
    keyed(body, all.map((one, at) => rowOf(one, metric, curves.series[at], at)), (r) => r.id, row);
  };
  select.addEventListener("change", show);

  const refresh = async () => {
    const faults = [];
    for (const id of ids) {
      if (found.get(id)?.view.ended_at) continue;
      try {
        const view = await get(experimentPath(id));
        found.set(id, { view, models: await get(`${experimentPath(id)}/models`) });
      } catch (error) {
        faults.push(error.message);
      }
    }
    note.textContent = faults.join(" ") || (ids.length < 2 ? t("Choose two experiments or more in the list.") : "");
    show();
  };
  const stop = repeat(refresh, () => ([...found.values()].some(({ view }) => !view.ended_at) ? 5 : 60));
  return stop;
}

/** The metrics of all that have measured anything; if there are none, those of any. */
function sharedMetrics(all) {
  const names = all.map(({ view, models }) => measuredNames(view, models)).filter((found) => found.length);
  if (!names.length) return metricNames(all[0].view, all[0].models);
  const shared = names[0].filter((name) => names.every((others) => others.includes(name)));
  return shared.length ? shared : [...new Set(names.flat())];
}

/** A curve for each experiment: of the first source that all share, else of the first that it has. */
function curvesOf(all, metric) {
  const sources = all.map(({ view, models }) => seriesOf(view, models, metric));
  const measured = sources.filter((series) => series.some((s) => s.points.length));
  const at = sources[0].findIndex((_, n) => measured.length && measured.every((series) => series[n].points.length));
  const names = labels(all.map(({ view }) => view));
  const series = sources.map((own, n) => {
    const { name, points } = at >= 0 ? own[at] : own.find((s) => s.points.length) ?? own[0];
    return { name: at >= 0 ? names[n] : `${names[n]} (${name})`, points };
  });
  return { series, shared: at >= 0 ? sources[0][at].name : null };
}

/** Each name with model, data and strategy; with the id where two experiments have the same. */
function labels(views) {
  const plain = views.map(({ id, name, config }) =>
    `${name || id}: ${config.model}, ${config.dataset}, ${choiceName(config.strategy)}`);
  return plain.map((label, at) => (plain.indexOf(label) === plain.lastIndexOf(label) ? label : `${label}, ${views[at].id}`));
}

function rowOf({ view }, metric, { points }, at) {
  const { id, name, state, config, cost } = view;
  const best = bestOf({ points }, betterOf(metric, view.goal));
  const figure = (point) => (point ? { value: valueText(metric, point[1]), note: t("model {version}", { version: point[0] }) } : null);
  return {
    id, at, name: name || id, state, model: config.model, data: config.dataset + (config.data === "own" ? `, ${t("parties’ own")}` : ""),
    strategy: choice(config.strategy), newest: figure(points.at(-1)), best: figure(best), cost: areHidden(view) ? "–" : usd(cost.usd),
    rounds: t("{round} of {rounds} rounds", { round: count(view.round), rounds: count(config.rounds) }),
  };
}

const figureCell = (figure) => h("td", {}, figure ? [h("b", {}, figure.value), h("span.small.muted", {}, figure.note)] : "–");

function row({ id, at, name, state, model, data, strategy, newest, best, cost, rounds }) {
  return h("tr", {}, h("td.wrap", {}, h(`i.swatch.s${at}`, { "aria-hidden": "true" }),
    h("a", { href: `#/experiments/${encodeURIComponent(id)}` }, name)),
  h("td", {}, model), h("td", {}, data), h("td.wrap", {}, strategy),
  h("td", {}, stateName(state), h("span.small.muted", {}, rounds)), figureCell(newest), figureCell(best), h("td", {}, cost));
}

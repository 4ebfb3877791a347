// The charts of an experiment's metrics: the two most important ones, and the others below.
import { card, h, once } from "./dom.js";
import { lineChart } from "./chart.js";
import { betterOf, chartOf, mainSeries, metricNames, bestOf, seriesOf, titleOf } from "./metrics.js";
import { t } from "./words.js";

const SHOWN = 2;

export function chartsSection() {
  const node = h("div.charts");
  const charts = new Map();
  const chartFor = (metric) => {
    if (!charts.has(metric)) {
      const title = t("{metric} by round", { metric: titleOf(metric) });
      const chart = lineChart(title, chartOf(metric));
      charts.set(metric, { chart, node: card(title, chart.node) });
    }
    return charts.get(metric);
  };
  const arrange = once((names) => {
    const nodes = names.map((metric) => chartFor(metric).node);
    const others = nodes.slice(SHOWN);
    node.replaceChildren(h("div.pair", {}, nodes.slice(0, SHOWN)), others.length ? h("details.others", {},
      h("summary", {}, t("More metrics: {names}", { names: names.slice(SHOWN).map(titleOf).join(", ") })), h("div.pair", {}, others)) : "");
  });
  const show = once(({ all, last, newest }) => {
    for (const { metric, series, best } of all) chartFor(metric).chart.update(series, { last, newest, best });
  });
  const update = (view, models) => {
    const names = metricNames(view, models);
    arrange(names);
    const all = names.map((metric) => {
      const series = seriesOf(view, models, metric);
      return { metric, series, best: bestOf(mainSeries(series), betterOf(metric, view.goal)) };
    });
    show({ all, last: Math.max(view.round, 1), newest: view.model_version });
  };
  return { node, update };
}

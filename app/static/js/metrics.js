// Accuracy and loss of each model version, from evaluations and from the rounds' means.
import { card, h, once } from "./dom.js";
import { lineChart } from "./chart.js";
import { number, percent } from "./format.js";

/** `[{name, points: [[version, value], ...]}]` of a metric, "accuracy" or "loss". */
export function seriesOf(view, models, metric) {
  const central = [];
  const own = [];
  for (const { version, evaluations } of models) {
    const mean = [0, 0];
    for (const { source, num_examples, metrics } of evaluations) {
      if (!(metric in metrics)) continue;
      if (source === "central") central.push([version, metrics[metric]]);
      else {
        mean[0] += metrics[metric] * num_examples;
        mean[1] += num_examples;
      }
    }
    if (mean[1]) own.push([version, mean[0] / mean[1]]);
  }
  // A round's clients measure the model that they train from: the version before the round's own.
  const federated = view.history
    .filter((round) => `${metric}_before` in round.metrics)
    .map((round) => [round.number - 1, round.metrics[`${metric}_before`]]);
  return [
    { name: "central test set", points: central },
    { name: "clients’ held-out data", points: federated },
    { name: "clients’ evaluations", points: own },
  ];
}

const whole = (share) => `${Number((share * 100).toFixed(2))}%`;

export function chartsSection() {
  const node = h("div.pair");
  const charts = [
    { metric: "accuracy", title: "Accuracy by round", chart: lineChart("Accuracy by round", percent, [0, 1], whole) },
    { metric: "loss", title: "Loss by round", chart: lineChart("Loss by round", number, [0, null]) },
  ];
  for (const { title, chart } of charts) node.append(card(title, chart.node));
  const show = once(({ all, rounds }) => all.forEach((series, at) => charts[at].chart.update(series, rounds)));
  const update = (view, models) => show({
    all: charts.map(({ metric }) => seriesOf(view, models, metric)),
    rounds: Math.max(view.round, 1),
  });
  return { node, update };
}
